"""`hub.kafka.Transport` on a broker in this process, used by clients and workers instead of TCP."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

from ..broker import BrokerError, LocalBroker
from ..kafka import (
    BATCH_BYTES_MAX,
    INTAKE,
    BrokerUnreachable,
    OffsetOutOfRange,
    Outgoing,
    Record,
    RecordTooLarge,
    StoredRecord,
    TopicMissing,
    build_batch,
    end_of_batches,
    pool_topic,
    read_batches,
    size_of,
)
from ..service import ServiceTasks, no_log, set_within

ADDRESS = "memory"
FETCH_BYTES = 1024 * 1024

#: A constant of record batches (https://kafka.apache.org/documentation/#recordbatch).
BATCH_HEADER_BYTES = 61
SEND_SECONDS = 60.0

#: Readers in memory do not poll: they wait until there are records (seconds).
FOREVER_SECONDS = 1e9


def _nothing() -> None:
    """The default callback: does nothing."""


def check_size(outgoing: Outgoing) -> None:
    """Raise RecordTooLarge if the record is too large for the topics of a hub."""
    record = Record(outgoing.key, outgoing.value, outgoing.headers, 0)
    if size_of(record) + BATCH_HEADER_BYTES > BATCH_BYTES_MAX:
        raise RecordTooLarge(outgoing.topic, len(outgoing.value), BATCH_BYTES_MAX)


class MemoryTransport:
    """See `hub.kafka.Transport`. `now_ms` returns the timestamps of sent records.

    After `cut` no records pass in either direction until `restore`, as with an interrupted network."""

    local = True
    address = ADDRESS

    def __init__(self, broker: LocalBroker, now_ms: Callable[[], int]) -> None:
        self.broker = broker
        self.connected = asyncio.Event()
        self.connected.set()
        self._now_ms = now_ms

    def cut(self) -> None:
        """Interrupt the transport."""
        self.connected.clear()

    def restore(self) -> None:
        """Restore the transport; records posted meanwhile are sent."""
        self.connected.set()

    def append(self, outgoing: Outgoing) -> None:
        """Append a record. Raises RecordTooLarge."""
        check_size(outgoing)
        topic, partition, key, value, headers = outgoing
        self.broker.append_soon(topic, partition, build_batch([Record(key, value, headers, self._now_ms())]))

    def sender(self, *, client_id: str, linger_ms: int = 0) -> "MemorySender":
        """See Transport."""
        return MemorySender(self)

    def reader(self, *, client_id: str) -> "MemoryReader":
        """See Transport."""
        return MemoryReader(self)

    async def read_all(self, topic: str, partition: int) -> AsyncIterator[StoredRecord]:
        """See Transport."""
        end = self.broker.end(topic, partition)
        position = self.broker.fetch(topic, partition, end, max_bytes=1).log_start
        while position < end:
            fetched = self.broker.fetch(topic, partition, position, max_bytes=FETCH_BYTES)
            for record in read_batches(fetched.data, aborted=fetched.aborted):
                if position <= record.offset < end:
                    yield record
            position = end_of_batches(fetched.data)

    async def describe_partitions(self) -> int:
        """See Transport."""
        return self.broker.topics()[INTAKE]

    async def ensure_pool(self, pool: str) -> None:
        """See Transport."""
        spec = pool_topic(pool)
        await self.broker.create_topic(spec.name, spec.partitions, exist_ok=True)


class MemorySender:
    """See `hub.kafka.RecordSender`. A record is stored or rejected immediately; while the transport is cut it waits."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._posted: deque[tuple[Outgoing, Callable[[], object]]] = deque()
        self._tasks = ServiceTasks("the sender in memory", no_log)
        self._posting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See RecordSender. There is no connection."""

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """See RecordSender. Raises as `send_many` does."""
        await self.send_many([outgoing], timeout_seconds=timeout_seconds)

    async def send_many(self, outgoing: Sequence[Outgoing], *, timeout_seconds: float = SEND_SECONDS) -> None:
        """See RecordSender. Raises RecordTooLarge, and BrokerUnreachable if the transport remains cut until the timeout."""
        if not await set_within(self._transport.connected, timeout_seconds):
            raise BrokerUnreachable(ADDRESS, "the connection is cut")
        for one in outgoing:
            self._transport.append(one)
        await self._transport.broker.stable()

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = _nothing) -> None:
        """See RecordSender. Raises RecordTooLarge, and as `watch` does."""
        check_size(outgoing)
        self._tasks.raise_failure()
        if self._posted or not self._transport.connected.is_set():
            self._posted.append((outgoing, on_settled))
            if self._posting is None or self._posting.done():
                self._posting = self._tasks.start(self._send_posted(), "posted reports")
            return
        self._transport.append(outgoing)
        await self._transport.broker.stable()
        on_settled()

    async def _send_posted(self) -> None:
        await self._transport.connected.wait()
        while self._posted:
            outgoing, on_settled = self._posted.popleft()
            self._transport.append(outgoing)
            on_settled()

    async def flush(self, *, timeout_seconds: float) -> bool:
        """See RecordSender."""
        await self._tasks.wait(timeout_seconds)
        return not self._posted

    async def watch(self) -> None:
        """See RecordSender."""
        await self._tasks.watch()

    async def stop(self) -> None:
        """Stop sending."""
        await self._tasks.cancel()


class MemoryReader:
    """See `hub.kafka.RecordReader`. `read` waits until there are records."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._broker = transport.broker
        self._topic, self._partition, self._position = "", 0, 0
        self._buffer: list[StoredRecord] = []

    async def open(self, topic: str, partition: int, offset: int) -> None:
        """Start at `offset`. Raises TopicMissing."""
        if partition >= self._broker.topics().get(topic, 0):
            raise TopicMissing(f"{topic} (partition {partition})", ADDRESS)
        self._topic, self._partition, self._position = topic, partition, offset

    async def read(self, max_records: int = 500, timeout_ms: int = 0) -> list[StoredRecord]:
        """See RecordReader. Raises OffsetOutOfRange."""
        while not self._buffer:
            self._fetch()
            if not self._buffer:
                place = self._topic, self._partition, self._position
                await self._broker.wait(*place, timeout_seconds=FOREVER_SECONDS)
        await self._transport.connected.wait()
        taken, self._buffer = self._buffer[:max_records], self._buffer[max_records:]
        return taken

    def _fetch(self) -> None:
        try:
            fetched = self._broker.fetch(self._topic, self._partition, self._position, max_bytes=FETCH_BYTES)
        except BrokerError as error:
            raise OffsetOutOfRange(self._topic, self._partition, self._position) from error
        if fetched.data:
            records = read_batches(fetched.data, aborted=fetched.aborted)
            self._buffer = [record for record in records if record.offset >= self._position]
            self._position = end_of_batches(fetched.data)

    def seek(self, offset: int) -> None:
        """See RecordReader."""
        self._buffer, self._position = [], offset

    async def start_offset(self) -> int:
        """See RecordReader."""
        end = await self.end_offset()
        return self._broker.fetch(self._topic, self._partition, end, max_bytes=1).log_start

    async def end_offset(self) -> int:
        """See RecordReader."""
        return self._broker.end(self._topic, self._partition)

    async def ensure_moving(self) -> None:
        """See RecordReader. A reader in memory cannot be stuck."""

    async def close(self) -> None:
        """See RecordReader. There is no connection."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
