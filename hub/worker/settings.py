"""How a worker is set up, how its slots are shared out over the engine's partitions, and how it fails."""

from msgspec import Struct

from ..errors import HubError


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """`slots`: bodies that run at once. `lease_seconds`: how long silence is not yet death. `grace_seconds`: for a drain."""

    pool: str = "default"
    queues: tuple[str, ...] = ("default",)
    slots: int = 64
    lease_seconds: float = 10.0
    grace_seconds: float = 30.0


class WorkerFailed(HubError):
    """A worker that cannot continue; its process is to be replaced."""


def shares(slots: int, partitions: int) -> list[int]:
    """Credit per partition: the slots shared out, at least one each."""
    return [max(1, slots // partitions + (1 if index < slots % partitions else 0)) for index in range(partitions)]
