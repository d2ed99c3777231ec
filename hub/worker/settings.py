"""How a worker is set up, and how it fails."""

from msgspec import Struct

from ..errors import HubError


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """`slots`: bodies that run at once. `lease_seconds`: how long silence is not yet death. `grace_seconds`: for a drain."""

    pool: str = "default"
    queues: tuple[str, ...] = ("default",)
    slots: int = 64
    lease_seconds: float = 10.0
    grace_seconds: float = 30.0


class WorkerFailedError(HubError):
    """A worker that cannot continue; its process is to be replaced."""
