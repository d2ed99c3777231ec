"""Pushes metrics to an OTLP receiver over HTTP, at an interval.

The values are cumulative: if a push fails, the next one delivers the newest values, and nothing has to be kept. An outage is
logged once. Source: OTLP 1.x specification, "OTLP/HTTP" (binary protobuf, gzip, partial success, Retry-After).
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import httpx2

from ..logs import Logger, OutageLog
from ..service import ServiceTasks
from ..telemetry import masked
from .snapshot import MetricsSnapshot

if TYPE_CHECKING:
    from pydantic import SecretStr

log = Logger(__name__)

#: The longest delay that a receiver can request with Retry-After (seconds).
RETRY_AFTER_SECONDS_MAX = 600.0
#: The longest time for the push at the end of a process, which should not delay its end (seconds).
LAST_PUSH_SECONDS = 3.0
RESPONSE_BYTES_MAX = 65_536
MESSAGE_CHARACTERS_MAX = 500

Source = Callable[[], Awaitable[Iterable[MetricsSnapshot]]]


@dataclass(frozen=True, slots=True)
class PushSettings:
    """Where metrics are pushed. `url`: of the metrics service, for example http://localhost:4318/v1/metrics. `headers`: for
    example `authorization`. `interval_seconds`: between two pushes. `timeout_seconds`: of one push. `gzip`: whether requests are
    compressed. `resource`: attributes of the OpenTelemetry resource. Raises ValueError with the name of a field that is
    invalid."""

    url: str
    headers: "Mapping[str, SecretStr]" = field(default_factory=dict, repr=False)
    interval_seconds: float = 15.0
    timeout_seconds: float = 10.0
    gzip: bool = True
    resource: Mapping[str, str] = field(default_factory=lambda: {"service.name": "hub"})

    def __post_init__(self) -> None:
        try:
            parsed = httpx2.URL(self.url)
        except httpx2.InvalidURL:
            parsed = httpx2.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"url: {masked(self.url)!r} is not the address of an OTLP receiver: http(s)://host:port/v1/metrics")
        for name in ("interval_seconds", "timeout_seconds"):
            if not 0.01 <= getattr(self, name) <= 86_400:
                raise ValueError(f"{name}: must be between 0.01 and 86,400, got {getattr(self, name)}")


class MetricsPush:
    """A service that pushes the snapshots of `source` at an interval, and once more when it stops.

    `transport` replaces the network in tests."""

    def __init__(self, source: Source, settings: PushSettings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._source = source
        self._settings = settings
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None
        self._otlp: Any = None
        self._tasks = ServiceTasks("metrics push")
        self._outages = OutageLog(log, action="metrics_push_failed", over="metrics_push_works")
        self.pushed = 0
        """Number of pushes that the receiver has accepted."""

    async def start(self) -> None:
        """Begin to push; the first push is after one interval."""
        self._otlp = import_module(".otlp", __package__)
        headers = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        self._client = httpx2.AsyncClient(headers=headers, timeout=self._settings.timeout_seconds, transport=self._transport)
        self._tasks.keep(self._keep_pushing(), "push")

    async def watch(self) -> None:
        """Wait; an unreachable receiver is not a failure of the service."""
        await self._tasks.watch()

    async def stop(self) -> None:
        """Push the newest values once more, within LAST_PUSH_SECONDS, and close the connection."""
        await self._tasks.cancel()
        if self._client is not None:
            try:
                await self._push(min(self._settings.timeout_seconds, LAST_PUSH_SECONDS))
            finally:
                await self._client.aclose()
                self._client = None

    async def _keep_pushing(self) -> None:
        while True:
            delay = self._settings.interval_seconds
            await asyncio.sleep(delay)
            retry_after = await self.push()
            if retry_after > delay:
                await asyncio.sleep(retry_after - delay)

    async def push(self) -> float:
        """Push once. Returns the delay in seconds that the receiver requests before the next one, else 0."""
        return await self._push(self._settings.timeout_seconds)

    async def _push(self, timeout_seconds: float) -> float:
        try:
            async with asyncio.timeout(timeout_seconds):
                body = self._otlp.encode_request(await self._source(), self._settings.resource)
                return await self._send(gzip.compress(body, 1) if self._settings.gzip else body)
        except (httpx2.HTTPError, TimeoutError) as error:
            self._failed(type(error).__name__, str(error))
            return 0.0

    async def _send(self, body: bytes) -> float:
        assert self._client is not None, "the service has not been started"
        headers = {"content-type": "application/x-protobuf"}
        if self._settings.gzip:
            headers["content-encoding"] = "gzip"
        async with self._client.stream("POST", self._settings.url, content=body, headers=headers) as response:
            if response.is_success:
                self._accepted(await _beginning(response))
                return 0.0
            text = (await _beginning(response)).decode(errors="replace")
            self._failed(f"status {response.status_code}", text)
            return retry_after_seconds(response.headers.get("retry-after", ""), datetime.now(UTC))

    def _accepted(self, body: bytes) -> None:
        self.pushed += 1
        self._outages.works("push")
        rejected, message = self._otlp.rejected_points(body)
        if rejected or message:
            event = "the receiver of metrics rejected some of them, or warns"
            self._outages.failed("points", str(rejected > 0), event, rejected=rejected, reason=_printable(message))
        else:
            self._outages.works("points")

    def _failed(self, cause: str, message: str) -> None:
        event = "metrics are not pushed: the receiver is unreachable or rejects them"
        about = {"url": masked(self._settings.url), "error": cause, "reason": _printable(message)}
        self._outages.failed("push", cause, event, **about)


def retry_after_seconds(value: str, now: datetime) -> float:
    """The delay in a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date), from 0 to RETRY_AFTER_SECONDS_MAX; 0 if it
    has neither."""
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), RETRY_AFTER_SECONDS_MAX)
    try:
        delay = (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return 0.0
    return min(max(0.0, delay), RETRY_AFTER_SECONDS_MAX)


async def _beginning(response: httpx2.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= RESPONSE_BYTES_MAX:
            break
    return body[:RESPONSE_BYTES_MAX]


def _printable(text: str) -> str:
    return ascii(masked(text[:MESSAGE_CHARACTERS_MAX]))[1:-1]
