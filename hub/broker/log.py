"""The log of one partition: its batches, how far each kind of reader may read, and the state of its producers.

It has three ends. `end` is the offset of the next record. `stable_end` is the end of what the journal has on disk: the high
watermark for clients. The last stable offset is before the first record of every open transaction; for clients also before
every transaction whose marker is not yet on disk.

New batches are held in memory until a checkpoint has written them to segment files; older ones are read from segment files.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

from ..protocol import ErrorCode
from ..protocol.batch_layout import last_offset_delta, whole_batches
from .batches import BatchHeader, marker_commits, read_header
from .topic_settings import TopicSettings

REMEMBERED_BATCHES = 5
"""Batches per producer for which a retry is recognised: as many as a client may have in flight."""


class LogKey(NamedTuple):
    """Identity of a partition log. `topic_number` is never reused, so a recreated topic has other logs."""

    topic_number: int
    partition: int


class SegmentView(NamedTuple):
    """A segment as seen by the plans of retention and compaction."""

    base: int
    end: int
    size: int
    max_timestamp_ms: int
    created_ms: int
    closed: bool
    """Nothing will be appended to it."""


class LogReader(Protocol):
    """Reads the older batches of logs."""

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """Complete batches from the one that contains `offset`: at least one, none at or after `end`."""
        ...

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        """Base offset of a batch at or before the first batch with a timestamp of at least `timestamp_ms`."""
        ...

    def max_timestamp_ms(self, key: LogKey, start: int, end: int) -> int:
        """Largest timestamp, in ms, of the batches from `start` that begin before `end`; -1 if there are none."""
        ...


class SentBatch(NamedTuple):
    """A batch in the state of its producer."""

    first_sequence: int
    last_sequence: int
    base_offset: int


@dataclass(slots=True)
class ProducerState:
    """The state of one producer id in a partition."""

    epoch: int
    seen_ms: int
    batches: deque[SentBatch] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))


class AbortedTransaction(NamedTuple):
    """An offset range in which the records of this producer are aborted."""

    producer_id: int
    first_offset: int
    last_offset: int


class Slice(NamedTuple):
    """Result of a read."""

    data: bytes
    aborted: list[tuple[int, int]]
    """(producer id, first offset) of aborted transactions that overlap the data."""


class PartitionLog:
    """The log of one partition. It does not write to the journal; the caller of `append` journals the same bytes."""

    def __init__(self, key: LogKey, reader: LogReader, settings: TopicSettings) -> None:
        self.key = key
        self.settings = settings
        """The settings of its topic."""
        self.start = 0
        self.end = 0
        self.stable_end = 0
        self.open: dict[int, int] = {}
        """First offset of each producer's open transaction."""
        self.producers: dict[int, ProducerState] = {}
        self.waiters: dict[Callable[[], None], None] = {}
        """Called in order when more records may have become visible to clients."""
        self.append_waiters: dict[Callable[[], None], None] = {}
        """Called in order at every append."""
        self._reader = reader
        self._closing: deque[tuple[int, int]] = deque()
        """(first offset, marker offset) of transactions whose marker is not yet on disk."""
        self._aborted: list[AbortedTransaction] = []
        self._tail_start = 0
        self._bases: list[int] = []
        self._batches: list[bytes] = []
        self._max_timestamps: list[int] = []
        self.memory_since_ms = -1
        """Time in ms of the oldest batch in memory, approximately; -1 without any."""
        self.memory_bytes = 0
        """Bytes of the batches in memory."""
        self.file_bytes = 0
        """Bytes of the batches in segment files."""

    # --- writing

    def check_producer(self, header: BatchHeader) -> tuple[ErrorCode, int | None]:
        """Check that a batch continues the sequence of its producer. Returns (NONE, None), (error, None), or (NONE, base
        offset) for a retry of a batch that was appended there."""
        state = self.producers.get(header.producer_id)
        if state is None:
            return ErrorCode.NONE, None
        if header.producer_epoch < state.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH, None
        if header.producer_epoch > state.epoch:
            return (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER if header.base_sequence else ErrorCode.NONE), None
        if not state.batches:
            return ErrorCode.NONE, None
        last_sequence = header.last_sequence
        for sent in state.batches:
            if sent.first_sequence == header.base_sequence and sent.last_sequence == last_sequence:
                return ErrorCode.NONE, sent.base_offset
        if header.base_sequence != (state.batches[-1].last_sequence + 1) & 0x7FFFFFFF:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, None
        return ErrorCode.NONE, None

    def append(self, batch: bytes, header: BatchHeader, now_ms: int) -> None:
        """Append a batch whose base offset is `end`; also used to replay the journal."""
        base = self.end
        if not self._batches:
            self._tail_start = base
            self.memory_since_ms = now_ms
        self._bases.append(base)
        self._batches.append(batch)
        self.memory_bytes += len(batch)
        self._max_timestamps.append(header.max_timestamp_ms)
        self.end = base + header.last_offset_delta + 1
        if header.producer_id < 0:
            return
        if header.control:
            self._end_transaction(batch, header, base, now_ms)
            return
        state = self.producers.get(header.producer_id)
        if state is None or state.epoch != header.producer_epoch:
            state = self.producers[header.producer_id] = ProducerState(header.producer_epoch, 0)
        state.seen_ms = now_ms
        state.batches.append(SentBatch(header.base_sequence, header.last_sequence, base))
        if header.transactional:
            self.open.setdefault(header.producer_id, base)

    def _end_transaction(self, marker: bytes, header: BatchHeader, offset: int, now_ms: int) -> None:
        state = self.producers.get(header.producer_id)
        if state is None:
            self.producers[header.producer_id] = ProducerState(header.producer_epoch, now_ms)
        elif state.epoch < header.producer_epoch:
            state.epoch, state.seen_ms = header.producer_epoch, now_ms
            state.batches.clear()
        first = self.open.pop(header.producer_id, None)
        if first is not None:
            self._closing.append((first, offset))
            if not marker_commits(marker):
                self._aborted.append(AbortedTransaction(header.producer_id, first, offset))

    def advance(self, stable_end: int) -> None:
        """Call when everything before `stable_end` is on disk."""
        self.stable_end = max(self.stable_end, stable_end)
        while self._closing and self._closing[0][1] < self.stable_end:
            self._closing.popleft()

    def delete_before(self, offset: int) -> None:
        """Move the start of the log to `offset`, and drop the batches before it from memory."""
        self.start = max(self.start, offset)
        if self._batches and self._tail_start < self.start:
            last = bisect_right(self._bases, self.start) - 1
            ends_before = self._base_after(last) <= self.start
            self._drop_from_memory(last + 1 if ends_before else last)
        self._aborted = [entry for entry in self._aborted if entry.last_offset >= self.start]

    @property
    def aborted(self) -> list[AbortedTransaction]:
        """Aborted transactions that may have records in the log, in the order of their markers."""
        return self._aborted[:]

    def forget_aborted(self, before: int) -> None:
        """Remove the transactions aborted before offset `before`: compaction removed their records."""
        if self._aborted and self._aborted[0].last_offset < before:
            self._aborted = [entry for entry in self._aborted if entry.last_offset >= before]

    def in_memory(self, end: int) -> list[bytes]:
        """The batches in memory that begin before `end`."""
        return self._batches[: bisect_left(self._bases, end)]

    def replace_in_memory(self, old: list[bytes], new: list[bytes]) -> bool:
        """Replace the first batches in memory; returns False if they are no longer the first."""
        if not all(one is other for one, other in zip_longest(self._batches[: len(old)], old)):
            return False
        headers = [read_header(batch) for batch in new]
        self._batches[: len(old)] = new
        self._bases[: len(old)] = [header.base_offset for header in headers]
        self._max_timestamps[: len(old)] = [header.max_timestamp_ms for header in headers]
        self.memory_bytes += sum(map(len, new)) - sum(map(len, old))
        self._tail_start = self._bases[0]
        return True

    def forget_producers(self, before_ms: int) -> None:
        """Remove the state of producers that wrote nothing since `before_ms` and have no open transaction."""
        idle = [
            producer_id
            for producer_id, state in self.producers.items()
            if state.seen_ms < before_ms and producer_id not in self.open
        ]
        for producer_id in idle:
            del self.producers[producer_id]

    @property
    def last_timestamp_ms(self) -> int:
        """Largest timestamp of the last batch, in ms."""
        return self._max_timestamps[-1]

    # --- reading

    def visible_end(self, *, committed: bool, unsynced: bool = False) -> int:
        """The first offset that is not visible to such a reader."""
        end = self.end if unsynced else self.stable_end
        if committed:
            if self.open:
                end = min(end, min(self.open.values()))
            if self._closing and not unsynced:
                end = min(end, min(first for first, _ in self._closing))
        return end

    def read(self, offset: int, max_bytes: int, *, committed: bool, unsynced: bool = False) -> Slice:
        """Complete batches from the one that contains `offset`: at least one if any is visible, then up to `max_bytes`."""
        end = self.visible_end(committed=committed, unsynced=unsynced)
        if offset >= end:
            return Slice(b"", [])
        data, upper = b"", end
        if offset < self.memory_start:
            data = self._reader.read(self.key, offset, max_bytes, min(end, self.memory_start))
        if not data and self._batches and self._tail_start < end:
            data, upper = self._read_tail(max(offset, self._tail_start), max_bytes, end)
        aborted: list[tuple[int, int]] = []
        if committed and self._aborted:
            at = bisect_left(self._aborted, offset, key=lambda entry: entry.last_offset)
            aborted = [(entry.producer_id, entry.first_offset) for entry in self._aborted[at:] if entry.first_offset < upper]
        return Slice(data, aborted)

    def _read_tail(self, offset: int, max_bytes: int, end: int) -> tuple[bytes, int]:
        bases, batches = self._bases, self._batches
        first = max(0, bisect_right(bases, offset) - 1)
        if first + 1 < len(bases) and bases[first] + last_offset_delta(batches[first]) < offset:
            first += 1  # compaction left a gap
        stop, size, count = first + 1, len(batches[first]), len(bases)
        while stop < count and bases[stop] < end:
            size += len(batches[stop])
            if size > max_bytes:
                break
            stop += 1
        upper = bases[stop] if stop < count else self.end
        return (batches[first] if stop == first + 1 else b"".join(batches[first:stop])), upper

    def offset_for_timestamp(self, timestamp_ms: int, *, committed: bool) -> tuple[int, bytes] | None:
        """(base offset, bytes) of the first visible batch with a record of at least `timestamp_ms`, or None."""
        at = self._reader.offset_for_timestamp(self.key, timestamp_ms) if self.start < self.memory_start else None
        offset = max(self.start, self.memory_start if at is None else at)
        for base, batch in self._walk(offset, self.visible_end(committed=committed)):
            header = read_header(batch)
            if header.max_timestamp_ms >= timestamp_ms and header.last_offset >= self.start:
                return base, batch
        return None

    def max_timestamp_ms(self, *, committed: bool) -> int:
        """Largest timestamp of the visible batches in ms, -1 if there are none."""
        end = self.visible_end(committed=committed)
        in_memory = max(self._max_timestamps[: bisect_left(self._bases, end)], default=-1)
        return max(in_memory, self._reader.max_timestamp_ms(self.key, self.start, min(end, self.memory_start)))

    @property
    def memory_start(self) -> int:
        """First offset of the batches in memory; `end` if there are none."""
        return self._tail_start if self._batches else self.end

    def _walk(self, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        while offset < end:
            if self._batches and offset >= self._tail_start:
                for index in range(max(0, bisect_right(self._bases, offset) - 1), len(self._bases)):
                    if self._bases[index] >= end:
                        return
                    yield self._bases[index], self._batches[index]
                return
            data = self._reader.read(self.key, offset, 1 << 20, end)
            for base, start, stop in whole_batches(data):
                batch = data[start:stop]
                yield base, batch
                offset = base + read_header(batch).last_offset_delta + 1
            if not data:
                if offset >= self.memory_start:
                    return
                offset = self.memory_start  # compaction removed the batches between

    # --- checkpoints

    def unwritten(self) -> tuple[list[bytes], list[int], list[int]]:
        """The batches in memory, their base offsets and largest timestamps."""
        return self._batches[:], self._bases[:], self._max_timestamps[:]

    def written(self, end: int, now_ms: int) -> int:
        """Drop the batches before `end` from memory: they are in segment files now. Returns the bytes freed."""
        self.memory_since_ms = now_ms
        return self._drop_from_memory(bisect_left(self._bases, end))

    def _drop_from_memory(self, count: int) -> int:
        freed = sum(map(len, self._batches[:count]))
        self.memory_bytes -= freed
        del self._batches[:count], self._bases[:count], self._max_timestamps[:count]
        if self._bases:
            self._tail_start = self._bases[0]
        return freed

    def _base_after(self, index: int) -> int:
        return self._bases[index + 1] if index + 1 < len(self._bases) else self.end

    def memory_views(self, segment_bytes: int) -> Iterator[SegmentView]:
        """The batches in memory, divided into parts of about `segment_bytes` like segments."""
        at, count = 0, len(self._bases)
        while at < count:
            first, size, timestamp_ms = at, 0, -1
            while at < count and (size == 0 or size + len(self._batches[at]) <= segment_bytes):
                size += len(self._batches[at])
                timestamp_ms = max(timestamp_ms, self._max_timestamps[at])
                at += 1
            yield SegmentView(
                self._bases[first], self._base_after(at - 1), size, timestamp_ms, self.memory_since_ms, closed=at < count
            )

    def snapshot(self) -> dict[str, Any]:
        """The state without batches, for a checkpoint."""
        return {
            "start": self.start,
            "end": self.end,
            "open": list(self.open.items()),
            "aborted": self._aborted,
            "producers": [
                (producer_id, state.epoch, state.seen_ms, list(state.batches)) for producer_id, state in self.producers.items()
            ],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Inverse of `snapshot`."""
        self.start, self.end = snapshot["start"], snapshot["end"]
        self.stable_end = self._tail_start = self.end
        self.open = dict(snapshot["open"])
        self._aborted = [AbortedTransaction(*entry) for entry in snapshot["aborted"]]
        for producer_id, epoch, timestamp_ms, batches in snapshot["producers"]:
            state = self.producers[producer_id] = ProducerState(epoch, timestamp_ms)
            state.batches.extend(SentBatch(*sent) for sent in batches)
