"""Posts OTLP messages to a collector, and determines what its answers mean.

| answer                                     | meaning                                                                       |
|--------------------------------------------|-------------------------------------------------------------------------------|
| 2xx                                        | accepted, except what `partial_success` rejects: that must not be sent again  |
| 400, 413, 422                              | `Undeliverable`: the batch is halved until the rejected events are isolated   |
| no answer, 408, 425, 429, 5xx              | `Unavailable`: the same bytes are sent again after `Retry-After` or a backoff |
| 401, 403, 404, other 4xx                   | `Unavailable`: a fault of the configuration, which must not cost any event    |

Source: OTLP 1.9, section OTLP/HTTP.
"""

import logging
from collections.abc import Callable
from gzip import compress

from ..api import Unavailable
from ..sinks import HttpSink
from .settings import OtlpSettings, parse_headers

_REJECTS_THE_CONTENT = frozenset({400, 413, 422})
_TEMPORARY = frozenset({408, 425, 429})
_CONFIGURATION = frozenset(range(400, 500)) - _REJECTS_THE_CONTENT - _TEMPORARY
_GZIP_LEVEL = 1
"""Level 1 takes a third of the time of level 6, and the result is a tenth larger."""


class Collector:
    """One signal of a collector. `path`: for example /v1/traces. `rejected`: reads the number of rejected items and a message
    from the body of an answer, or raises ValueError; `rejected_total` counts them."""

    def __init__(
        self, settings: OtlpSettings, path: str, rejected: Callable[[bytes], tuple[int, str]], logger: logging.Logger
    ) -> None:
        self._settings = settings
        self._url = settings.endpoint + path
        self._rejected = rejected
        self._logger = logger
        self._sink = HttpSink(timeout_seconds=settings.timeout_seconds)
        self._headers = {**parse_headers(settings.headers.get_secret_value()), "content-type": "application/x-protobuf"}
        if settings.compression == "gzip":
            self._headers["content-encoding"] = "gzip"
        self.rejected_total = 0

    async def post(self, content: bytes) -> None:
        """Post a message; returns when it is accepted. Raises Unavailable, Undeliverable."""
        if self._settings.compression == "gzip":
            content = compress(content, _GZIP_LEVEL, mtime=0)
        answer = await self._sink.post(self._url, content, self._headers, status_is_answer=_CONFIGURATION)
        if answer.status in _CONFIGURATION:
            raise Unavailable(f"the collector answered {answer.status}: check the endpoint and its headers")
        if answer.body and answer.headers.get("content-type", "").startswith("application/x-protobuf"):
            self._read(answer.body)

    def _read(self, body: bytes) -> None:
        """Log what the collector rejected. It has accepted the rest of the message, so nothing of it may be sent again."""
        try:
            count, message = self._rejected(body)
        except ValueError as error:
            self._logger.warning("the answer is unreadable: %s", error, extra={"action": "otlp_answer_unreadable"})
            return
        if count:
            self.rejected_total += count
            about = {"action": "otlp_items_rejected", "rejected": count, "rejected_total": self.rejected_total}
            self._logger.error("the collector rejected %d item(s) of an accepted message: %s", count, message, extra=about)
        elif message:
            self._logger.warning("the collector warns: %s", message, extra={"action": "otlp_collector_warned"})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sink.aclose()
