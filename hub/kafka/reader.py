"""Reads a partition from a known offset: without a group, committed records only; an offset out of range raises an error.

`PartitionReader` reads indefinitely (the engine's intake, a worker's inbox); `read_all` stops at the current end (a restore).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Self, cast

from ..protocol import TopicPartition
from .cluster import Cluster
from .errors import ConnectionLost, OffsetOutOfRange
from .fetch_buffer import PartitionBuffer, Seen, TakenBatch
from .fetching import Fetcher, FetchSettings
from .leaders import EARLIEST, LATEST
from .records import StoredRecord

OPEN_SECONDS = 10.0
STALL_SECONDS = 30.0
"""`read_all` fails if it receives nothing for this time before the end."""
READ_RECORDS = 2_000
READ_ALL_WAIT_MS = 1_000
MAX_WAIT_MS = 5_000
_stored_record = cast(Callable[[tuple[Any, ...]], StoredRecord], partial(tuple.__new__, StoredRecord))
"""Creates a StoredRecord from a tuple of its fields, faster than its constructor."""


class PartitionReader:
    """Reads one partition in order. `async with PartitionReader(cluster) as reader: await reader.open(topic,
    partition, offset)`.

    Nothing is requested before the first `read`. Reading can be continued after `ConnectionLost`, when the leader is looked up
    again, and after `OffsetOutOfRange` with `seek`. A closed reader cannot be opened again."""

    def __init__(
        self, cluster: Cluster, *, committed: bool = True, max_wait_ms: int = MAX_WAIT_MS, within_read: bool = False
    ) -> None:
        """`committed`: without records of open and aborted transactions. `max_wait_ms`: the age that `seen` may have while a
        `read` waits; records are received without this delay. `within_read`: it is also updated when a `read` without records
        ends (`FetchSettings.within_wait`)."""
        self._fetcher = Fetcher(cluster, FetchSettings(committed=committed, max_wait_ms=max_wait_ms, within_wait=within_read))
        self._buffer: PartitionBuffer | None = None
        self._batch: Sequence[Any] = ()
        self._read = 0
        """How many records of `_batch` were read."""
        self._closed = False

    async def open(self, topic: str, partition: int, offset: int) -> None:
        """Start reading at `offset`. Raises `BrokerUnreachable`, `TopicMissing`, `PartitionUnavailable`, `ConnectionLost`."""
        assert self._buffer is None, "the reader is already open"
        assert not self._closed, "the reader is closed"
        place = TopicPartition(topic, partition)
        await self._fetcher.open({place: offset}, timeout_seconds=OPEN_SECONDS)
        self._buffer = self._fetcher.buffer(place)

    async def read(self, max_records: int = 500, timeout_ms: int = 1_000) -> list[StoredRecord]:
        """The next records; waits up to `timeout_ms` for the first. May be empty even if the position moved, because control
        records and aborted transactions are skipped.

        Raises `OffsetOutOfRange`, `CorruptBatch`, `ConnectionLost`, `PartitionUnavailable`, `TopicMissing`."""
        fetcher, buffer = self._fetcher, self._opened
        if self._read == len(self._batch) and not await fetcher.wait(timeout_ms / 1000):
            return []
        records: list[StoredRecord] = []
        while len(records) < max_records:
            if self._read == len(self._batch):
                if records and not buffer.has_batches:  # `take_from` may raise; what is before that is returned first
                    break
                if (taken := fetcher.take_from(buffer)) is None:
                    break
                self._batch, self._read = _decode(taken), 0
            part = self._batch[self._read : self._read + max_records - len(records)]
            self._read += len(part)
            records += [_stored_record((r.offset, r.timestamp, r.key, r.value, tuple(r.headers))) for r in part]
        return records

    async def ensure_moving(self) -> None:
        """Check a reader that has received nothing for a while: raises `ConnectionLost` if the broker reports records after the
        position but does not return them. A broker that does not respond is detected by `read`."""
        buffer, position = self._opened, self.position
        if buffer.seen is not None and position < buffer.seen.end and not buffer.has_batches:
            (topic, number), end = buffer.partition, buffer.seen.end
            raise ConnectionLost(f"{topic}-{number} has records up to offset {end}, but none was received after {position}.")

    @property
    def _opened(self) -> PartitionBuffer:
        assert self._buffer is not None, "the reader is not open"
        return self._buffer

    @property
    def seen(self) -> Seen | None:
        """What the latest response of the broker said, a new object after each response; None before the first."""
        return self._opened.seen

    @property
    def position(self) -> int:
        """The next offset to read."""
        if self._read < len(self._batch):
            offset: int = self._batch[self._read].offset
            return offset
        return self._opened.position

    def seek(self, offset: int) -> None:
        """Continue reading at `offset`."""
        self._batch, self._read = (), 0
        self._opened.seek(offset)

    async def end_offset(self) -> int:
        """The last stable offset: the first offset not yet visible to readers of committed records; the high watermark if others
        are read, too. Raises `ConnectionLost`, `PartitionUnavailable`."""
        return await self._offset(LATEST)

    async def start_offset(self) -> int:
        """The log start offset. Raises `ConnectionLost`, `PartitionUnavailable`."""
        return await self._offset(EARLIEST)

    async def _offset(self, timestamp: int) -> int:
        partition = self._opened.partition
        return (await self._fetcher.offsets(timestamp, [partition]))[partition]

    async def close(self) -> None:
        """Close the connections at once."""
        self._buffer, self._closed = None, True
        await self._fetcher.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _decode(taken: TakenBatch) -> Sequence[Any]:
    """The records of a batch from `from_offset` on."""
    records = taken.batch.decode()
    if records and records[0].offset < taken.from_offset:
        return [record for record in records if record.offset >= taken.from_offset]
    return records


async def read_all(cluster: Cluster, topic: str, partition: int, from_offset: int | None = None) -> AsyncIterator[StoredRecord]:
    """All committed records, in order, from `from_offset` (default: the log start) up to the current last stable offset.

    Raises `OffsetOutOfRange`, `CorruptBatch`, `ConnectionLost`, `BrokerUnreachable`, `TopicMissing`, `PartitionUnavailable`."""
    loop = asyncio.get_running_loop()
    async with PartitionReader(cluster) as reader:
        await reader.open(topic, partition, from_offset or 0)
        if from_offset is None:
            reader.seek(await reader.start_offset())
        end = await reader.end_offset()
        if from_offset is not None and from_offset > end:
            raise OffsetOutOfRange(topic, partition, from_offset)
        progress_at, position = loop.time(), reader.position
        while position < end:
            for record in await reader.read(READ_RECORDS, READ_ALL_WAIT_MS):
                if record.offset < end:
                    yield record
            before, position = position, reader.position
            if position > before:
                progress_at = loop.time()
            elif loop.time() - progress_at > STALL_SECONDS:
                raise ConnectionLost(
                    f"{topic}-{partition}: nothing received for {STALL_SECONDS:g} s at offset {position} of {end}."
                )
