"""Compaction as pure functions: when to clean a log, which records to retain, and how their batches change.

As in Kafka's `LogCleaner` and `Cleaner`, the record with the highest offset of each key is retained. Only closed segments
below the last stable offset are cleaned, and only if they are older than `min.compaction.lag.ms`. Records of aborted
transactions are removed at once. A tombstone (a record without a value) is retained until `delete.retention.ms` after the
first cleaning that read it. So is a transaction marker, which is removed only after all records of its transaction. Retained
records keep their offsets.

Two differences do not affect consumers. The time of the first cleaning is stored per range of offsets (`Spans`), not in the
batches. Empty batches are not retained for the state of producers, which is in the checkpoint. The last batch of the cleaned
part is always retained, without records if necessary, so that consumers reach the end.

The map of keys is bounded. When it is full, the pass ends at that offset and the next pass starts there.

The contents of cleaned segments are cached in memory (`Contents`). A segment in which no record is superseded or expired is
kept without reading its file. So the cost of a cleaning depends on the records written since the last one and those they
supersede, not on the size of the log.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import NamedTuple

from .batches import BatchHeader, read_header
from .errors import MalformedBatch
from .log import AbortedTransaction, SegmentView
from .records import bounds, records_of, walk, with_records
from .topic_settings import TopicSettings

Spans = list[tuple[int, int]]
"""(end offset, time in ms) in ascending order: when the records between the previous end and this one were first cleaned."""

SPANS_PER_RETENTION = 32
"""Cleanings that are distinguished within `delete.retention.ms`; tombstones are retained longer by at most 1/32 of it."""
RECORDS_BETWEEN_PAUSES = 200
KEY_OVERHEAD_BYTES = 220
"""Memory of an entry of the map in addition to the bytes of the key."""
OFFSETS_MAX = 16 << 20
"""Most offsets in one pass; each takes one byte."""
VALUE, TOMBSTONE = 1, 2
"""Values in `KeyMap.which_stay` for records that are retained."""
HASH_BYTES = 8
HASHES_AT_ONCE = 4096
"""Hashes compared between two pauses."""
_SHARDS = 64
"""The map is split, so that growing or releasing one part does not take long."""

Pause = Callable[[], None]


class Cleaning(NamedTuple):
    """The part of a log to clean."""

    dirty_from: int
    """Everything before this offset was cleaned earlier."""
    end: int
    """First offset that is not cleaned."""
    backlog: int = 1
    """Number of segments closed since the last cleaning."""


def plan_cleaning(
    segments: Sequence[SegmentView], spans: Spans, settings: TopicSettings, *, start: int, limit: int, now_ms: int
) -> Cleaning | None:
    """The part to clean of a log that starts at `start` and whose last stable offset is `limit`. None if the part that was
    never cleaned is less than `min.cleanable.dirty.ratio` of the log and not older than `max.compaction.lag.ms`."""
    if not settings.compact:
        return None
    dirty_from = max(start, spans[-1][0] if spans else 0)
    clean_bytes = dirty_bytes = 0
    oldest_ms, end, backlog = now_ms, dirty_from, 0
    for segment in segments:
        closed = segment.closed or now_ms - segment.created_ms >= settings.roll_ms
        lag = settings.min_compaction_lag_ms
        if not closed or segment.end > limit or (lag and segment.max_timestamp_ms > now_ms - lag):
            break
        if segment.end <= dirty_from:
            clean_bytes += segment.size
            continue
        if not dirty_bytes:
            oldest_ms = segment.created_ms
        dirty_bytes, end, backlog = dirty_bytes + segment.size, segment.end, backlog + 1
    if not dirty_bytes:
        return None
    enough = dirty_bytes >= settings.min_dirty_ratio * (clean_bytes + dirty_bytes)
    overdue = now_ms - oldest_ms >= settings.max_compaction_lag_ms
    return Cleaning(dirty_from, end, backlog) if enough or overdue else None


def add_span(spans: Spans, end: int, now_ms: int, delete_retention_ms: int) -> Spans:
    """The spans after a cleaning up to `end`. Merges adjacent spans that need not be distinguished; the later time is kept."""
    step = max(1, delete_retention_ms // SPANS_PER_RETENTION)
    expired = now_ms - delete_retention_ms
    merged: Spans = []
    for one_end, time_ms in [*spans, (end, now_ms)]:
        before = merged[-1][1] if merged else None
        alike = before is not None and (time_ms <= expired or (before > expired and before // step == time_ms // step))
        if alike:
            merged[-1] = (one_end, time_ms)
        else:
            merged.append((one_end, time_ms))
    return merged


@dataclass(slots=True)
class Rules:
    """What decides, in addition to the keys, whether a record is retained. `dirty_from` and `end` come from the `Cleaning`,
    `aborted` are the aborted transactions of the log, `spans` its earlier cleanings."""

    dirty_from: int
    end: int
    aborted: Sequence[AbortedTransaction]
    spans: Spans
    delete_retention_ms: int
    now_ms: int
    _ranges: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for producer_id, first, last in self.aborted:
            self._ranges.setdefault(producer_id, []).append((first, last))
        self._ends = [end for end, _ in self.spans]

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether a data batch belongs to an aborted transaction."""
        ranges = self._ranges.get(header.producer_id, ()) if header.transactional else ()
        at = bisect_left(ranges, header.base_offset, key=lambda one: one[1])
        return at < len(ranges) and ranges[at][0] <= header.base_offset

    def may_forget(self, offset: int) -> bool:
        """Whether a tombstone or marker at this offset may be removed: it was retained for `delete_retention_ms` since an earlier
        cleaning. False for every offset in the dirty part."""
        at = bisect_right(self._ends, offset)
        return at < len(self.spans) and self.now_ms - self.spans[at][1] >= self.delete_retention_ms


@dataclass(slots=True)
class Contents:
    """What the second pass retained of a segment."""

    hashes: "array[int]" = field(default_factory=lambda: array("q"))
    """Hashes of the keys, valid in this process only."""
    forgettable: int = -1
    """Last offset of a tombstone, or of a marker that is retained only for `delete.retention.ms`. They are removed together;
    otherwise the segment would be rewritten for each of them."""
    transactions: dict[int, bool] = field(default_factory=dict)
    """By producer id: whether its last transaction continues after the segment."""


class KeyMap:
    """The last offset of every key in the part that was never cleaned (the dirty part), and which offsets of it are retained."""

    def __init__(self, start: int, *, bytes_max: int) -> None:
        self.start = self.end = start
        self._bytes_left = bytes_max
        self._latest: list[dict[bytes, int]] = [{} for _ in range(_SHARDS)]
        self._stays = bytearray()
        self._hashes = array("q")
        self._unread: set[int] = set()
        self._newer: set[int] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the next batch must wait for another pass."""
        return self._bytes_left <= 0 or self.end - self.start >= OFFSETS_MAX

    def cover(self, end: int) -> None:
        """Skip offsets without keys up to `end`: gaps, markers, batches of aborted transactions."""
        count = max(0, end - self.end)
        self._stays.extend(bytes(count))
        self._hashes.frombytes(bytes(count * HASH_BYTES))
        self._bytes_left -= count * HASH_BYTES
        self.end += count

    def keep_all(self, header: BatchHeader) -> None:
        """Skip a batch whose records cannot be read: it is retained unchanged."""
        self.cover(header.last_offset + 1)
        at = max(0, header.base_offset - self.start)
        self._stays[at:] = b"\1" * (len(self._stays) - at)
        self._unread.add(header.base_offset)

    def add(self, header: BatchHeader, data: bytes, pause: Pause) -> None:
        """Add the keys of a batch. Raises `MalformedBatch`; some keys may have been added by then."""
        self.cover(header.last_offset + 1)
        latest, stays, hashes, start = self._latest, self._stays, self._hashes, self.start
        last_delta, delta_before = header.last_offset_delta, -1
        for count, (_, delta, key, tombstone) in enumerate(walk(data, header.record_count), 1):
            if not delta_before < delta <= last_delta:
                raise MalformedBatch("record offsets do not increase within the batch")
            offset, delta_before = header.base_offset + delta, delta
            if key is not None and offset >= start:
                hashed = hash(key)
                shard = latest[hashed % _SHARDS]
                before = shard.get(key)
                if before is None:
                    self._bytes_left -= len(key) + KEY_OVERHEAD_BYTES
                else:
                    stays[before - start] = 0
                shard[key] = offset
                stays[offset - start] = TOMBSTONE if tombstone else VALUE
                hashes[offset - start] = hashed
            if count % RECORDS_BETWEEN_PAUSES == 0:
                pause()

    def has(self, key: bytes) -> bool:
        """Whether the dirty part contains the key."""
        return key in self._latest[hash(key) % _SHARDS]

    def stays(self, offset: int) -> bool:
        """Whether the record at this offset of the dirty part is the last of its key."""
        return offset >= self.end or bool(self._stays[offset - self.start])

    def which_stay(self, first: int, last: int) -> bytes:
        """A byte for each offset from `first` to `last`, all in the dirty part: VALUE or TOMBSTONE if the record is retained,
        else 0."""
        return bytes(self._stays[first - self.start : last - self.start + 1])

    def share(self, first: int, end: int) -> float:
        """The share (0 to 1) of the offsets from `first` up to, but not including, `end` that is retained; 1 if some are not
        in the dirty part."""
        if first < self.start or end > self.end:
            return 1.0
        flags = self.which_stay(first, end - 1)
        return 1.0 - flags.count(0) / max(1, len(flags))

    def hashes(self, first: int, flags: bytes) -> Iterable[int] | None:
        """Hashes of the keys of the records retained from offset `first` (`flags` from `which_stay`); None for a batch that
        could not be read."""
        at = first - self.start
        return None if first in self._unread else compress(self._hashes[at : at + len(flags)], flags)

    def supersedes(self, hashes: "array[int]", pause: Pause) -> bool:
        """Whether one of these may be the hash of a key in the dirty part."""
        newer = self._hashes_of_all(pause)
        for at in range(0, len(hashes), HASHES_AT_ONCE):
            if not newer.isdisjoint(hashes[at : at + HASHES_AT_ONCE]):
                return True
            pause()
        return False

    def _hashes_of_all(self, pause: Pause) -> set[int]:
        if self._newer is None:
            self._newer = set()
            for at in range(0, len(self._hashes), HASHES_AT_ONCE):
                stop = at + HASHES_AT_ONCE
                self._newer.update(compress(self._hashes[at:stop], self._stays[at:stop]))
                pause()
        return self._newer

    def release(self, pause: Pause) -> None:
        """Release the memory in steps."""
        while self._latest:
            self._latest.pop()
            pause()
        self._newer = None


def map_keys(batches: Iterable[bytes], rules: Rules, pause: Pause, *, bytes_max: int) -> KeyMap:
    """First pass: the keys of the batches from `rules.dirty_from`, until the map is full."""
    keys = KeyMap(rules.dirty_from, bytes_max=bytes_max)
    for batch in batches:
        header = read_header(batch)
        if header.last_offset < rules.dirty_from:
            continue
        if keys.is_full:
            return keys
        if header.control or rules.is_aborted(header):
            keys.cover(header.last_offset + 1)
        else:
            try:
                keys.add(header, records_of(batch, header), pause)
            except MalformedBatch:
                keys.keep_all(header)
        pause()
    keys.cover(rules.end)
    return keys


class CleaningFilter:
    """Second pass: filters the batches, from the first of the log to the last one to clean."""

    def __init__(self, keys: KeyMap, rules: Rules, pause: Pause) -> None:
        self._keys = keys
        self._rules = rules
        self._pause = pause
        self._unfinished: set[int] = set()
        """Producers of transactions with retained records, until their marker is read."""
        self._contents: Contents | None = Contents()

    def take_contents(self) -> Contents | None:
        """What was retained since the last call; None if a batch could not be read."""
        contents, self._contents = self._contents, Contents()
        return contents

    def leaves(self, contents: Contents | None, end: int) -> bool:
        """Whether a segment that ends at `end` is known to stay unchanged. False if the segment must be read to find out."""
        if (
            contents is None
            or end > self._rules.dirty_from
            or (contents.forgettable >= 0 and self._rules.may_forget(contents.forgettable))
        ):
            return False
        return not self._keys.supersedes(contents.hashes, self._pause)

    def expected(self, base: int, end: int, size: int) -> int:
        """Estimate of the bytes retained of a segment of `size` bytes with offsets from `base` up to, but not including,
        `end`."""
        return round(size * self._keys.share(base, end))

    def pass_over(self, contents: Contents) -> None:
        """Continue after a segment that is kept without being read."""
        for producer_id, unfinished in contents.transactions.items():
            (self._unfinished.add if unfinished else self._unfinished.discard)(producer_id)

    def apply(self, batch: bytes, *, last: bool) -> bytes | None:
        """The batch unchanged, with fewer records, or None if none is retained. A batch that is `last` is always retained,
        without records if necessary."""
        header = read_header(batch)
        if header.control:
            return batch if self._keeps_marker(header) or last else None
        kept = None if header.record_count == 0 or self._rules.is_aborted(header) else self._kept(batch, header)
        if kept is not None and header.transactional:
            self._unfinished.add(header.producer_id)
            if self._contents is not None:
                self._contents.transactions[header.producer_id] = True
        return with_records(batch, header, b"", []) if kept is None and last else kept

    def _keeps_marker(self, header: BatchHeader) -> bool:
        holds = header.producer_id in self._unfinished
        self._unfinished.discard(header.producer_id)
        keeps = holds or not self._rules.may_forget(header.base_offset)
        if self._contents is not None:
            if keeps and not self._contents.transactions.get(header.producer_id):  # no record in this segment needs it
                self._contents.forgettable = header.base_offset
            self._contents.transactions[header.producer_id] = False
        return keeps

    def _kept(self, batch: bytes, header: BatchHeader) -> bytes | None:
        if header.base_offset >= self._keys.end:
            self._contents = None
            return batch
        try:
            if header.base_offset >= self._rules.dirty_from:
                return self._by_offset(batch, header, self._keys.which_stay(header.base_offset, header.last_offset))
            return self._by_key(batch, header)
        except MalformedBatch:
            self._contents = None
            return batch

    def _by_offset(self, batch: bytes, header: BatchHeader, flags: bytes) -> bytes | None:
        """In the dirty part offsets decide alone: most batches are removed or retained as a whole, without being decoded."""
        staying = len(flags) - flags.count(0)
        if staying:
            self._note(header.base_offset, flags)
        if staying == header.record_count:
            return batch
        if staying == 0:
            return None
        data = records_of(batch, header)
        if header.record_count == len(flags):
            return with_records(batch, header, data, list(compress(bounds(data, header.record_count), flags)))
        kept = [place for place, delta, _, _ in walk(data, header.record_count) if flags[delta]]
        return with_records(batch, header, data, kept)

    def _note(self, first: int, flags: bytes) -> None:
        hashes = self._keys.hashes(first, flags)
        if hashes is None or self._contents is None:
            self._contents = None
            return
        self._contents.hashes.extend(hashes)
        if (at := flags.rfind(TOMBSTONE)) >= 0:
            self._contents.forgettable = first + at

    def _by_key(self, batch: bytes, header: BatchHeader) -> bytes | None:
        data, kept, hashes, forgettable = records_of(batch, header), [], [], -1
        for count, (place, delta, key, tombstone) in enumerate(walk(data, header.record_count), 1):
            if self._stays(header.base_offset + delta, key, tombstone=tombstone):
                kept.append(place)
                hashes.append(hash(key))
                if tombstone:
                    forgettable = header.base_offset + delta
            if count % RECORDS_BETWEEN_PAUSES == 0:
                self._pause()
        if self._contents is not None:
            self._contents.hashes.extend(hashes)
            self._contents.forgettable = max(self._contents.forgettable, forgettable)
        if len(kept) == header.record_count:
            return batch
        return with_records(batch, header, data, kept) if kept else None

    def _stays(self, offset: int, key: bytes | None, *, tombstone: bool) -> bool:
        if offset >= self._rules.dirty_from:
            return self._keys.stays(offset)
        if key is None or self._keys.has(key):
            return False
        return not (tombstone and self._rules.may_forget(offset))
