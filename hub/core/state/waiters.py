"""The clients that wait for the outcome of tasks."""

#: Most clients that wait for one task; beyond it the oldest are dropped, and repeat their request if they still wait.
WAITERS_MAX = 1_000


class WaitingClients:
    """Reply addresses (partition of `hub.replies`, token) by task id, in the order of the requests. Most waiting tasks have one:
    then it is a single object, `<partition>:<token>`."""

    __slots__ = ("_addresses",)

    def __init__(self) -> None:
        self._addresses: dict[str, bytes | list[bytes]] = {}

    def add(self, task_id: str, reply: tuple[int, bytes]) -> None:
        """Add a client, unless it waits already."""
        address = b"%d:%b" % reply
        known = self._addresses.get(task_id)
        if known is None:
            self._addresses[task_id] = address
        elif isinstance(known, bytes):
            if known != address:
                self._addresses[task_id] = [known, address]
        elif address not in known:
            del known[: -(WAITERS_MAX - 1)]
            known.append(address)

    def take(self, task_id: str) -> list[tuple[int, bytes]]:
        """Remove and return the clients that wait for a task."""
        known = self._addresses.pop(task_id, None)
        if known is None:
            return []
        return [_reply(address) for address in ([known] if isinstance(known, bytes) else known)]


def _reply(address: bytes) -> tuple[int, bytes]:
    partition, _, token = address.partition(b":")
    return int(partition), token
