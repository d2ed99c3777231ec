"""Reads a partition from a known offset: without a group, committed records only; an offset out of range raises an error.

`PartitionReader` reads indefinitely (the engine's intake, a worker's inbox); `read_all` stops at the current end (a restore).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import aiokafka
from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
)

from ..logs import Logger
from .clients import make_consumer
from .cluster import Cluster
from .errors import BrokerUnreachable, ConnectionLost, CorruptBatch, OffsetOutOfRange, TopicMissing
from .records import StoredRecord

log = Logger(__name__)

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 5.0
STALL_SECONDS = 30.0
"""`read_all` fails if it receives nothing for this time before the end."""
READ_RECORDS = 2_000
READ_ALL_WAIT_MS = 20
"""Short, because the last offset is usually a commit marker, which yields no record."""


class PartitionReader:
    """Reads one partition in order. `async with PartitionReader(cluster) as reader: await reader.open(topic,
    partition, offset)`."""

    def __init__(self, cluster: Cluster, **settings: Any) -> None:
        """`settings` override `clients.CONSUMER`."""
        self._cluster = cluster
        self._settings = settings
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._partition = aiokafka.TopicPartition("", 0)

    async def open(self, topic: str, partition: int, offset: int) -> None:
        """Start reading at `offset`. Raises `BrokerUnreachable`, `TopicMissing`."""
        assert self._consumer is None, "the reader is already open"
        self._consumer = consumer = make_consumer(self._cluster, **self._settings)
        self._partition = aiokafka.TopicPartition(topic, partition)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await consumer.start()
        except (KafkaConnectionError, OSError) as failure:
            raise BrokerUnreachable(str(self._cluster), str(failure) or f"waited {OPEN_SECONDS:g} s") from None
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._find(consumer)
        except TimeoutError as late:
            raise TopicMissing(f"{topic} (partition {partition})", str(self._cluster)) from late
        consumer.assign([self._partition])
        consumer.seek(self._partition, offset)

    async def _find(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Wait for the metadata of the topic, which takes a moment if it is new."""
        topic, partition = self._partition
        consumer._client.add_topic(topic)
        while partition not in (consumer.partitions_for_topic(topic) or ()):
            await consumer._client.force_metadata_update()
            await asyncio.sleep(0.02)

    @property
    def _open(self) -> aiokafka.AIOKafkaConsumer:
        assert self._consumer is not None, "the reader is not open"
        return self._consumer

    async def read(self, max_records: int = 500, timeout_ms: int = 1_000) -> list[StoredRecord]:
        """The next records; waits up to `timeout_ms` for the first. May be empty even if the position moved, because control
        records and aborted transactions are skipped. Raises `OffsetOutOfRange`, `CorruptBatch`, `ConnectionLost`."""
        try:
            found = await self._open.getmany(self._partition, timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as gone:
            (offset,) = gone.args[0].values()
            raise OffsetOutOfRange(self._partition.topic, self._partition.partition, offset) from gone
        except CorruptRecordException as broken:
            raise CorruptBatch(f"{self._name()}: {broken}") from broken
        except KafkaError as failure:
            raise ConnectionLost(f"Reading {self._name()} at {self._cluster} failed: {failure!r}.") from failure
        return [StoredRecord(r.offset, r.timestamp, r.key, r.value, r.headers) for r in found.get(self._partition, ())]

    async def ensure_moving(self) -> None:
        """Check a reader that has received nothing for a while: after a restart of the broker aiokafka may hang.

        Raises `OffsetOutOfRange`, `ConnectionLost` (then create a new reader)."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                end, start, position = await self.end_offset(), await self.start_offset(), await self.position()
        except TimeoutError as late:
            raise ConnectionLost(f"{self._cluster} did not return the end offset of {self._name()}.") from late
        if position < start or position > end:
            raise OffsetOutOfRange(self._partition.topic, self._partition.partition, position)
        seen = self.seen_end
        if position < end and (seen is None or seen < end):
            raise ConnectionLost(f"{self._name()} has records up to offset {end}, but none was received after {position}.")

    @property
    def seen_end(self) -> int | None:
        """The last stable offset in the latest response of the broker; None before the first."""
        end: int | None = self._open.last_stable_offset(self._partition)
        return end

    @property
    def seen_log_end(self) -> int | None:
        """The high watermark in the latest response of the broker; open transactions are before it. None before the first."""
        end: int | None = self._open.highwater(self._partition)
        return end

    @property
    def seen_ms(self) -> int | None:
        """Local time in ms at which `seen_end` and `seen_log_end` were received; it changes with every response."""
        told_ms: int | None = self._open.last_poll_timestamp(self._partition)
        return told_ms

    def seek(self, offset: int) -> None:
        """Continue reading at `offset`."""
        self._open.seek(self._partition, offset)

    async def position(self) -> int:
        """The next offset to read."""
        position: int = await self._open.position(self._partition)
        return position

    async def end_offset(self) -> int:
        """The last stable offset: the first offset not yet visible to readers of committed records. Raises
        `ConnectionLost`."""
        return await self._limit(self._open.end_offsets)

    async def start_offset(self) -> int:
        """The log start offset. Raises `ConnectionLost`."""
        return await self._limit(self._open.beginning_offsets)

    async def _limit(self, ask: Any) -> int:
        try:
            offset: int = (await ask([self._partition]))[self._partition]
        except KafkaError as failure:
            raise ConnectionLost(f"{self._cluster} did not return the offsets of {self._name()}: {failure!r}.") from failure
        return offset

    def _name(self) -> str:
        return f"{self._partition.topic}-{self._partition.partition}"

    async def close(self) -> None:
        """Close the connections; an unreachable broker delays this only briefly."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await consumer.stop()
            except (KafkaError, TimeoutError, OSError, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise  # this task was cancelled, not one of the client's tasks
                log.debug("error while closing a reader", action="reader_close", reason=repr(error))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def read_all(
    cluster: Cluster, topic: str, partition: int, from_offset: int | None = None, **settings: Any
) -> AsyncIterator[StoredRecord]:
    """All committed records, in order, from `from_offset` (default: the log start) up to the current last stable offset.

    Raises `OffsetOutOfRange`, `CorruptBatch`, `ConnectionLost`, `BrokerUnreachable`, `TopicMissing`."""
    loop = asyncio.get_running_loop()
    async with PartitionReader(cluster, **settings) as reader:
        await reader.open(topic, partition, from_offset or 0)
        if from_offset is None:
            reader.seek(await reader.start_offset())
        end = await reader.end_offset()
        if from_offset is not None and from_offset > end:
            raise OffsetOutOfRange(topic, partition, from_offset)
        progress_at, position = loop.time(), await reader.position()
        while position < end:
            for record in await reader.read(READ_RECORDS, READ_ALL_WAIT_MS):
                if record.offset < end:
                    yield record
            before, position = position, await reader.position()
            if position > before:
                progress_at = loop.time()
            elif loop.time() - progress_at > STALL_SECONDS:
                raise ConnectionLost(
                    f"{topic}-{partition}: nothing received for {STALL_SECONDS:g} s at offset {position} of {end}."
                )
