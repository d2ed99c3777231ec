"""The settings of a worker, and the error that ends it."""

from msgspec import Struct

from ..errors import HubError


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """`slots`: maximum number of concurrent attempts. `lease_seconds`: time without heartbeats after which the engine considers
    the worker lost. `grace_seconds`: time that running attempts have to end when the worker drains."""

    pool: str = "default"
    queues: tuple[str, ...] = ("default",)
    slots: int = 64
    lease_seconds: float = 10.0
    grace_seconds: float = 30.0


class WorkerFailedError(HubError):
    """The worker cannot continue; its process must be replaced."""
