"""Dead letters: events that could not be delivered, written to `hub.dlq.<id>` with their original bytes and headers.

Added headers (UTF-8 text): dlq_subscriber, dlq_topic, dlq_partition, dlq_offset, dlq_timestamp (of the event, milliseconds),
dlq_attempts, dlq_first_failure (RFC 3339), dlq_failed_at, dlq_error ("Type: message"), dlq_traceback; dlq_value_was_null if key
and value were null. The key is the original one. The record's timestamp is the time of writing: the topic's retention deletes by
timestamp, and would delete the dead letter of an old event immediately. If the record is too large for the topic, key, value and
headers are truncated, and dlq_cut_from has the original size in bytes. An event is acknowledged only after its dead letter: a
crash in between may write it twice, but does not lose it.
"""

import asyncio
import logging
import traceback
from typing import Any, NamedTuple

from ..errors import HubError
from ..telemetry import masked
from ..throttle import LogThrottle
from .clients import Clients, TooLarge
from .config import SubscriberPlan
from .lazy_producer import LazyProducer
from .times import utc_now
from .window import Item

TRACEBACK_BYTES_MAX = 16 * 1024
ERROR_BYTES_MAX = 4 * 1024
PUT_TIMEOUT_SECONDS = 15.0
RETRY_SECONDS = 0.5
CUT_BYTES = (64 * 1024, 1024)
"""Sizes to which the value of an event that is too large for the topic is truncated, tried in this order."""
HEADERS_MAX = 64
"""Maximum number of headers that are kept of such an event."""

_log = logging.getLogger(__name__)


class DeadLetterTooLarge(HubError):
    """Even the truncated dead letter is too large for its topic."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"{topic} does not accept a record of {CUT_BYTES[0]:,} bytes: increase its max.message.bytes.")


class DeadLetter(NamedTuple):
    """The record of an event that could not be delivered: its original parts, and the headers with the reasons."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    reasons: list[tuple[str, bytes]]

    def cut(self, kept_bytes: int) -> "DeadLetter":
        """A copy with the value truncated to `kept_bytes`, and key and at most HEADERS_MAX headers to `kept_bytes` / HEADERS_MAX
        each."""
        part = kept_bytes // HEADERS_MAX
        headers = sum(len(name.encode()) + len(text or b"") for name, text in self.headers)
        size = len(self.key or b"") + len(self.value or b"") + headers
        return DeadLetter(
            _beginning(self.key, part),
            _beginning(self.value, kept_bytes),
            [(name[:part], _beginning(text, part)) for name, text in self.headers[:HEADERS_MAX]],
            [*self.reasons, ("dlq_cut_from", b"%d" % size)],
        )


def _beginning(data: bytes | None, bytes_max: int) -> bytes | None:
    return None if data is None else data[:bytes_max]


class DeadLetters:
    """Writes all dead letters of a delivery service with one producer, in the service's loop; `put` may be called from any
    loop."""

    def __init__(self, clients: Clients, topic: str) -> None:
        self._clients = clients
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._producer = LazyProducer(self._make)
        self._throttle = LogThrottle()

    async def put(self, plan: SubscriberPlan, item: Item) -> None:
        """Write a dead letter; returns when it is acknowledged. Retries until cancelled. Raises DeadLetterTooLarge."""
        letter = DeadLetter(item.key, item.value, list(item.headers), self._headers(plan, item))
        if item.key is None and item.value is None:  # the client rejects a record without key and value
            letter = letter._replace(value=b"", reasons=[*letter.reasons, ("dlq_value_was_null", b"1")])
        sending = asyncio.run_coroutine_threadsafe(self._send(plan.config.dead_letter_topic, letter), self._loop)
        try:
            await asyncio.wrap_future(sending)
        finally:
            sending.cancel()

    def _headers(self, plan: SubscriberPlan, item: Item) -> list[tuple[str, bytes]]:
        error = item.error
        text = masked(f"{type(error).__name__}: {error}") if error is not None else ""
        trace = masked("".join(traceback.format_exception(error))) if error is not None else ""
        now = utc_now()
        return [
            ("dlq_subscriber", plan.config.id.encode()),
            ("dlq_topic", self._topic.encode()),
            ("dlq_partition", b"%d" % item.partition),
            ("dlq_offset", b"%d" % item.offset),
            ("dlq_timestamp", b"%d" % item.timestamp_ms),
            ("dlq_attempts", b"%d" % item.failures),
            ("dlq_first_failure", (item.wall_first_failure or now).encode()),
            ("dlq_failed_at", now.encode()),
            ("dlq_error", text.encode(errors="replace")[:ERROR_BYTES_MAX]),
            ("dlq_traceback", trace.encode(errors="replace")[-TRACEBACK_BYTES_MAX:]),
        ]

    async def _send(self, topic: str, letter: "DeadLetter") -> None:
        for kept_bytes in (None, *CUT_BYTES):
            try:
                return await self._send_patiently(topic, letter if kept_bytes is None else letter.cut(kept_bytes))
            except TooLarge:
                continue
        raise DeadLetterTooLarge(topic)

    async def _send_patiently(self, topic: str, letter: "DeadLetter") -> None:
        """Send, and retry after all errors except TooLarge, which is raised."""
        headers = [*letter.headers, *letter.reasons]
        while True:
            try:
                async with asyncio.timeout(PUT_TIMEOUT_SECONDS):
                    producer = await self._producer.started()
                    await producer.send_and_wait(topic, value=letter.value, key=letter.key, headers=headers)
                return
            except TooLarge:
                raise
            except Exception as error:
                if self._throttle.admit(topic) is not None:
                    _log.warning(
                        "could not write a dead letter to %s, retrying: %s: %s",
                        topic,
                        type(error).__name__,
                        error,
                        extra={"action": "dead_letter_delayed"},
                    )
                await self._producer.discard()
                await asyncio.sleep(RETRY_SECONDS)

    async def _make(self) -> Any:
        return self._clients.producer()

    async def close(self) -> None:
        """Stop the producer."""
        await self._producer.discard()
