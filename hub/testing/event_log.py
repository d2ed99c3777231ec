"""The records of `hub.events` as a list that is always complete."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from schemas import Event, MalformedEvent, decode_event
from subscribers import type_matches

from ..broker import LocalBroker
from ..kafka import EVENTS, StoredRecord, end_of_batches, read_batches

FETCH_BYTES = 1024 * 1024


class EventLog:
    """All events of the log, in the order in which they became visible (ordered per partition)."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._positions: dict[int, int] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def catch_up(self, broker: LocalBroker) -> None:
        """Add the events that became visible since the last call, and wake waiting callers."""
        before = len(self.events)
        for partition in range(broker.topics().get(EVENTS, 0)):
            self._read(broker, partition)
        if len(self.events) > before:
            waiting, self._waiting = self._waiting, set()
            for more in waiting:
                if not more.done():
                    more.set_result(None)

    def _read(self, broker: LocalBroker, partition: int) -> None:
        position, end = self._positions.get(partition, 0), broker.end(EVENTS, partition)
        while position < end:
            fetched = broker.fetch(EVENTS, partition, position, max_bytes=FETCH_BYTES)
            records = read_batches(fetched.data, aborted=fetched.aborted)
            for record in records:
                if record.offset >= position:
                    self._take(record)
            self._positions[partition] = position = end_of_batches(fetched.data)

    def _take(self, record: StoredRecord) -> None:
        with suppress(MalformedEvent):  # the checker reports it
            self.events.append(decode_event(record.value, record.headers))

    def find(self, pattern: str, task: str | None = None) -> Sequence[Event]:
        """The events whose type matches `pattern` (with `*` for any text), of one task or of all."""
        return [event for event in self.events if type_matches(pattern, event.type) and task in (None, event.subject)]

    async def wait(self, pattern: str, task: str | None, count: int) -> Event:
        """Wait for the `count`-th such event of the log, from 1."""
        while len(found := self.find(pattern, task)) < count:
            more: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(more)
            await more
        return found[count - 1]
