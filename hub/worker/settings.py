"""The settings of a worker, and the error that ends it."""

from msgspec import Struct
from pydantic import SecretStr

from ..errors import HubError


class SpanExport(Struct, frozen=True, kw_only=True):
    """The collector for spans that handlers create, over OTLP/HTTP. `endpoint`: its URL without the path of the signal.
    `headers`: "name=value,...", for each request. `timeout_seconds`: of one request."""

    endpoint: str
    headers: SecretStr = SecretStr("")
    timeout_seconds: float = 10.0
    gzip: bool = True


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """`slots`: maximum number of concurrent attempts. `lease_seconds`: time without heartbeats after which the engine considers
    the worker lost. `grace_seconds`: time that running attempts have to end when the worker drains. `span_export`: where spans of
    handlers are exported, unless the program has its own tracer provider; None: they are not."""

    pool: str = "default"
    queues: tuple[str, ...] = ("default",)
    slots: int = 64
    lease_seconds: float = 10.0
    grace_seconds: float = 30.0
    span_export: SpanExport | None = None


class WorkerFailedError(HubError):
    """The worker cannot continue; its process must be replaced."""
