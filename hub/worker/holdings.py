"""Leases and credit of a worker per engine partition: the attempts it holds, and how many it accepts."""


def shares(slots: int, partitions: int) -> list[int]:
    """The initial credit per partition: an equal share of the slots, at least one."""
    return [max(1, slots // partitions + (1 if index < slots % partitions else 0)) for index in range(partitions)]


class Holdings:
    """Leases (tokens, each until the end of its attempt is stored), unfinished attempts and credit per engine partition. Pure."""

    def __init__(self, slots: int, partitions: int) -> None:
        self._slots = slots
        self._credit = shares(slots, partitions) if partitions else []
        self._held: list[set[str]] = [set() for _ in range(partitions)]
        self._in_hand = [0] * partitions

    def accept(self, partition: int, token: str) -> None:
        """Add an accepted attempt and its lease."""
        self._held[partition].add(token)
        self._in_hand[partition] += 1

    def put_down(self, partition: int) -> None:
        """Remove an attempt that has ended; its lease is held until `settle`."""
        self._in_hand[partition] -= 1

    def settle(self, partition: int, token: str) -> None:
        """Drop a lease: the end of its attempt is stored, or the lease is lost."""
        self._held[partition].discard(token)

    def held(self, partition: int) -> list[str]:
        """The tokens of the leases of a partition, sorted."""
        return sorted(self._held[partition])

    def credit(self, partition: int, *, hung: int, refused: bool) -> int:
        """The number of attempts that this partition may have on this worker: its share of the slots that are not held by `hung`
        functions; if it was refused, at most its present number of attempts."""
        share, free = self._credit[partition], self._slots - hung
        if hung:
            share = max(1, share * free // self._slots) if free > 0 else 0
        return min(share, self._in_hand[partition]) if refused else share

    def move_credit(self, partition: int) -> int | None:
        """Move credit to `partition`, which has tasks but no credit: half of the idle credit of the partition that has most.
        Returns that partition; None if no partition has idle credit."""
        idle = [credit - len(held) for credit, held in zip(self._credit, self._held, strict=True)]
        idle[partition] = 0
        giver = max(range(len(idle)), key=lambda other: idle[other])
        amount = min((idle[giver] + 1) // 2, self._credit[giver] - 1)
        if amount <= 0:
            return None
        self._credit[giver] -= amount
        self._credit[partition] += amount
        return giver
