"""Dead letters: events that could not be delivered, set aside on `hub.dlq.<id>` with their original bytes and headers.

Added headers (UTF-8 text): dlq_subscriber, dlq_topic, dlq_partition, dlq_offset, dlq_attempts, dlq_first_failure (RFC 3339),
dlq_failed_at, dlq_error ("Type: message"), dlq_traceback; dlq_value_was_null where key and value were null. The key is the
original one. An event is acknowledged only after its dead letter is: a crash in between writes it twice, never not at all.
"""

import asyncio
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from ..telemetry import masked
from .clients import Clients
from .config import Plan
from .window import Item

TRACEBACK_BYTES_MAX = 16 * 1024
ERROR_BYTES_MAX = 4 * 1024
PUT_TIMEOUT_SECONDS = 15.0
RETRY_SECONDS = 0.5
STOP_SECONDS = 3.0

_log = logging.getLogger(__name__)


class DeadLetters:
    """The one producer of a delivery service; it lives in the service's loop, `put` may be called from any."""

    def __init__(self, clients: Clients, topic: str) -> None:
        self._clients = clients
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._producer: Any | None = None
        self._lock = asyncio.Lock()

    async def put(self, plan: Plan, item: Item) -> None:
        """Return when the dead letter is acknowledged; tries until then (or until cancelled)."""
        headers, value = [*item.headers, *self._headers(plan, item)], item.value
        if item.key is None and value is None:  # the client refuses a record that has neither
            headers, value = [*headers, ("dlq_value_was_null", b"1")], b""
        sending = asyncio.run_coroutine_threadsafe(
            self._send(plan.config.dead_letter_topic, item.key, value, headers, item.timestamp_ms), self._loop
        )
        try:
            await asyncio.wrap_future(sending)
        finally:
            sending.cancel()

    def _headers(self, plan: Plan, item: Item) -> list[tuple[str, bytes]]:
        error = item.error
        text = masked(f"{type(error).__name__}: {error}") if error is not None else ""
        trace = masked("".join(traceback.format_exception(error))) if error is not None else ""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [
            ("dlq_subscriber", plan.config.id.encode()),
            ("dlq_topic", self._topic.encode()),
            ("dlq_partition", b"%d" % item.partition),
            ("dlq_offset", b"%d" % item.offset),
            ("dlq_attempts", b"%d" % item.failures),
            ("dlq_first_failure", (item.wall_first_failure or now).encode()),
            ("dlq_failed_at", now.encode()),
            ("dlq_error", text.encode(errors="replace")[:ERROR_BYTES_MAX]),
            ("dlq_traceback", trace.encode(errors="replace")[-TRACEBACK_BYTES_MAX:]),
        ]

    async def _send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], timestamp_ms: int
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(PUT_TIMEOUT_SECONDS):
                    producer = await self._started()
                    await producer.send_and_wait(topic, value=value, key=key, headers=headers, timestamp_ms=timestamp_ms)
                return
            except Exception as error:
                _log.warning(
                    "a dead letter cannot be written to %s yet: %s: %s",
                    topic,
                    type(error).__name__,
                    error,
                    extra={"action": "dead_letter_delayed"},
                )
                await self._discard()
                await asyncio.sleep(RETRY_SECONDS)

    async def _started(self) -> Any:
        async with self._lock:
            if self._producer is None:
                producer = self._clients.producer()
                try:
                    await producer.start()
                except BaseException:
                    await _quietly(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _quietly(producer)

    async def close(self) -> None:
        """End the producer."""
        await self._discard()


async def _quietly(producer: Any) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
    except Exception as error:
        _log.debug(
            "the producer of dead letters did not stop in order: %s",
            error,
            extra={"action": "dead_letter_producer_stopped_badly"},
        )
