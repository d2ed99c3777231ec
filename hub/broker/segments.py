"""Segment files: the logs' older batches, written after the journal.

One directory per log; a segment is a file of batches named by its first offset, with a sparse index beside it: one
entry about every 16 KiB. What counts is the checkpoint's table of lengths: bytes after them are cut at start, they are
replayed from the journal. The index is only an aid: one that does not fit its segment is built again by reading the
segment.

Cleaning replaces some neighbouring segments by one file of another name (`<first offset>-<generation>.log`). The checkpoint's
table decides here, too: it names either the old files or the new one, and files that it does not name are removed at start.
Old files are removed once a checkpoint without them is on disk. Offsets within and between segments may have gaps.
"""

import os
import shutil
import struct
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from .batches import HEADER_BYTES, BatchHeader, read_header, whole_batches
from .compaction import HASH_BYTES, Contents, Spans
from .errors import StorageDamaged
from .log import LogKey, SegmentView

INDEX_INTERVAL_BYTES = 16 * 1024
_ENTRY = struct.Struct(">qqq")
_OPEN_FILES_MAX = 128
CONTENTS_BYTES_MAX = 32 << 20
"""Memory for the contents of all cleaned segments: 4 million records."""


_Found = TypeVar("_Found")


class LogTail(NamedTuple):
    """Batches of one log to be written to its segment files, in order."""

    key: LogKey
    start: int
    end: int
    batches: list[bytes]
    bases: list[int]
    max_timestamps: list[int]
    segment_bytes: int
    """Size at which the topic wants its segments closed."""
    roll_ms: int
    """Age at which it wants them closed."""
    now_ms: int


class SegmentEntry(msgspec.Struct, array_like=True):
    """A segment in a checkpoint. What earlier releases did not write has a default."""

    base: int
    size: int
    end: int
    max_timestamp_ms: int
    generation: int = 0
    created_ms: int = -1


class LogEntry(msgspec.Struct, array_like=True):
    """A log's segments in a checkpoint."""

    topic_number: int
    partition: int
    segments: list[SegmentEntry]
    cleaned: Spans = []


@dataclass(slots=True)
class SegmentIndex:
    """Base offset, file position and largest timestamp so far, for some batches of a segment."""

    offsets: "array[int]"
    positions: "array[int]"
    timestamps: "array[int]"

    @classmethod
    def empty(cls) -> "SegmentIndex":
        return cls(array("q"), array("q"), array("q"))

    def add(self, offset: int, position: int, timestamp_ms: int) -> None:
        self.offsets.append(offset)
        self.positions.append(position)
        self.timestamps.append(timestamp_ms)


@dataclass(slots=True)
class Segment:
    """One file. `size` and `end` grow as checkpoints add to it, until it is full, too old, or `sealed`."""

    base: int
    size: int
    end: int
    max_timestamp_ms: int
    path: Path
    created_ms: int
    generation: int = 0
    sealed: bool = False
    index: SegmentIndex | None = None
    contents: Contents | None = None
    """What its last cleaning kept, where that is known."""

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".index")


def write_index(path: Path, index: SegmentIndex) -> None:
    """Write the file of an index."""
    entries = zip(index.offsets, index.positions, index.timestamps, strict=True)
    path.write_bytes(b"".join(_ENTRY.pack(*entry) for entry in entries))


def segment_path(directory: Path, base: int, generation: int) -> Path:
    """Where a segment is; generation 0 is one that was never cleaned."""
    return directory / (f"{base:020d}-{generation}.log" if generation else f"{base:020d}.log")


class SegmentStore:
    """All logs' segments. Whatever changes them belongs to one thread, that of checkpoints; reads may come from others.

    `segment_bytes` caps what topics ask for."""

    def __init__(self, directory: Path, *, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self._directory = directory
        self._logs: dict[LogKey, list[Segment]] = {}
        self._cleaned: dict[LogKey, Spans] = {}
        self._garbage: list[Path] = []
        """Files and directories that the next checkpoint no longer names."""
        self._unsynced: set[Path] = set()
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()
        self._index_lock = threading.Lock()

    def log_directory(self, key: LogKey) -> Path:
        """Where a log's files are."""
        return self._directory / f"{key.topic_number}-{key.partition}"

    # --- the table kept in checkpoints

    def table(self) -> list[LogEntry]:
        """What the segments hold."""
        return [
            LogEntry(
                *key,
                [SegmentEntry(s.base, s.size, s.end, s.max_timestamp_ms, s.generation, s.created_ms) for s in segments],
                self._cleaned.get(key, []),
            )
            for key, segments in self._logs.items()
        ]

    def restore(self, table: Sequence[LogEntry]) -> None:
        """Take over the segments of a checkpoint; cut what was written after it and remove all other files. Raises
        `StorageDamaged` when bytes are missing."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for entry in table:
            key = LogKey(entry.topic_number, entry.partition)
            self._logs[key] = [self._restored(key, segment) for segment in entry.segments]
            if entry.cleaned:
                self._cleaned[key] = entry.cleaned
        self._remove_others()

    def _restored(self, key: LogKey, entry: SegmentEntry) -> Segment:
        path = segment_path(self.log_directory(key), entry.base, entry.generation)
        found = path.stat() if path.exists() else None
        if found is None or found.st_size < entry.size:
            has = 0 if found is None else found.st_size
            raise StorageDamaged(f"segment {path} has {has} bytes, {entry.size} were written")
        if found.st_size > entry.size:
            os.truncate(path, entry.size)
        created_ms = entry.created_ms if entry.created_ms >= 0 else int(found.st_mtime * 1000)
        return Segment(entry.base, entry.size, entry.end, entry.max_timestamp_ms, path, created_ms, entry.generation)

    def _remove_others(self) -> None:
        directories = {self.log_directory(key): segments for key, segments in self._logs.items()}
        for directory in self._directory.iterdir():
            segments = directories.get(directory, [])
            known = {segment.path for segment in segments} | {segment.index_path for segment in segments}
            for path in directory.iterdir():
                if path not in known:
                    path.unlink()
            if directory not in directories:
                directory.rmdir()

    def views(self, key: LogKey) -> list[SegmentView]:
        """A log's segments as plans see them."""
        segments = self._logs.get(key, ())
        last = segments[-1] if segments else None
        return [
            SegmentView(s.base, s.end, s.size, s.max_timestamp_ms, s.created_ms, closed=s.sealed or s is not last)
            for s in segments
        ]

    def cleaned(self, key: LogKey) -> Spans:
        """When which part of a log was cleaned first; the last end is where the part begins that never was."""
        return self._cleaned.get(key, [])

    # --- writing

    def append(self, tail: LogTail) -> None:
        """Write a log's batches after those it has; batches that a failed checkpoint wrote already are skipped."""
        segments = self._logs.setdefault(tail.key, [])
        at, count = bisect_left(tail.bases, segments[-1].end) if segments else 0, len(tail.batches)
        limit = min(tail.segment_bytes, self.segment_bytes)
        while at < count:
            segment = self._segment_for(tail, segments, at, limit)
            stop, size = at + 1, segment.size + len(tail.batches[at])
            while stop < count and size + len(tail.batches[stop]) <= limit:
                size += len(tail.batches[stop])
                stop += 1
            end = tail.bases[stop] if stop < count else tail.end
            self._extend(segment, tail, at, stop, end)
            at = stop

    def _segment_for(self, tail: LogTail, segments: list[Segment], at: int, limit: int) -> Segment:
        """The last segment, or the next one when that is full, too old, or not to be changed."""
        if segments:
            last = segments[-1]
            fits = last.size == 0 or last.size + len(tail.batches[at]) <= limit
            if fits and not last.sealed and tail.now_ms - last.created_ms < tail.roll_ms:
                return last
        directory, base = self.log_directory(tail.key), tail.bases[at]
        directory.mkdir(parents=True, exist_ok=True)
        path = segment_path(directory, base, 0)
        segment = Segment(base, 0, base, -1, path, tail.now_ms, index=SegmentIndex.empty())
        path.write_bytes(b"")
        segment.index_path.write_bytes(b"")
        self._unsynced |= {directory, self._directory}
        segments.append(segment)
        return segment

    def _extend(self, segment: Segment, tail: LogTail, start: int, stop: int, end: int) -> None:
        index = self._index(segment)
        position = segment.size
        indexed = index.positions[-1] if index.positions else -INDEX_INTERVAL_BYTES
        entries, timestamp_ms = [], segment.max_timestamp_ms
        for at in range(start, stop):
            timestamp_ms = max(timestamp_ms, tail.max_timestamps[at])
            if position - indexed >= INDEX_INTERVAL_BYTES:
                entries.append((tail.bases[at], position, timestamp_ms))
                indexed = position
            position += len(tail.batches[at])
        with segment.path.open("r+b") as file:
            file.seek(segment.size)
            file.writelines(tail.batches[start:stop])
            file.truncate()
        with segment.index_path.open("ab") as file:
            file.write(b"".join(_ENTRY.pack(*entry) for entry in entries))
        for entry in entries:
            index.add(*entry)
        segment.size, segment.end, segment.max_timestamp_ms = position, end, timestamp_ms
        self._unsynced.add(segment.path)

    def sync(self) -> None:
        """Bring everything appended to disk."""
        for path in self._unsynced:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self._unsynced.clear()

    def leave_out_before(self, starts: Mapping[LogKey, int]) -> None:
        """Forget logs that are not named and segments that end at or before their log's start. Their files stay until
        a checkpoint without them is on disk (`remove_garbage`)."""
        for key in list(self._logs):
            if key not in starts:
                self._discard(self._logs.pop(key))
                self._cleaned.pop(key, None)
                self._garbage.append(self.log_directory(key))
            elif self._logs[key] and self._logs[key][0].end <= starts[key]:
                self._discard([segment for segment in self._logs[key] if segment.end <= starts[key]])
                self._logs[key] = [segment for segment in self._logs[key] if segment.end > starts[key]]

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        """Whether there are files for `leave_out_before` and `remove_garbage` to remove."""
        logs = list(self._logs.items())
        return bool(self._garbage) or any(key not in starts or (s and s[0].end <= starts[key]) for key, s in logs)

    def _discard(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._garbage += (segment.path, segment.index_path)
            self._unsynced.discard(segment.path)

    def remove_garbage(self) -> None:
        """Remove the files of forgotten logs and segments; in the directory of a deleted log a cleaning may have begun others."""
        garbage, self._garbage = self._garbage, []
        for path in garbage:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                self._forget_file(path)
                path.unlink(missing_ok=True)

    # --- cleaning

    def seal(self, key: LogKey) -> None:
        """Nothing is added to the log's last segment any more."""
        if segments := self._logs.get(key):
            segments[-1].sealed = True

    def segments(self, key: LogKey) -> list[Segment]:
        """A log's segments now."""
        return list(self._logs.get(key, ()))

    def replace(self, key: LogKey, old: Sequence[Segment], new: Segment | None) -> bool:
        """Put one segment, whose file is on disk, into the place of some neighbours; None when nothing of them is left.

        False, without any change, when one of them has been removed meanwhile."""
        segments = self._logs.get(key, [])
        at = next((index for index, segment in enumerate(segments) if segment is old[0]), -1)
        if at < 0 or any(one is not other for one, other in zip(segments[at : at + len(old)], old, strict=False)):
            return False
        self._logs[key] = segments[:at] + ([] if new is None else [new]) + segments[at + len(old) :]
        self._discard(old)
        return True

    def set_cleaned(self, key: LogKey, spans: Spans) -> None:
        """Note what has been cleaned; see `cleaned`. Contents of segments that take too much memory are forgotten."""
        if key in self._logs:
            self._cleaned[key] = spans
        left = CONTENTS_BYTES_MAX
        for segment in (segment for segments in self._logs.values() for segment in segments):
            if segment.contents is not None and (left := left - HASH_BYTES * len(segment.contents.hashes)) < 0:
                segment.contents = None

    # --- reading

    def log_bytes(self, key: LogKey) -> int:
        """Bytes of a log's segments."""
        return sum(segment.size for segment in self._logs.get(key, ()))

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """Whole batches from the one that holds `offset` (or the next one): at least one, then at most `max_bytes`. Empty when
        no segment has one before `end`."""
        return self._looked(key, lambda segments: self._read(segments, offset, max_bytes, end))

    def _looked(self, key: LogKey, look: Callable[[list[Segment]], _Found]) -> _Found:
        """What `look` finds in the segments of a log; again where they were replaced meanwhile and a file is gone."""
        while True:
            segments = self._logs.get(key, [])
            try:
                return look(segments)
            except FileNotFoundError:
                if self._logs.get(key, []) is segments:  # not replaced meanwhile: the file is missing
                    raise

    def _read(self, segments: list[Segment], offset: int, max_bytes: int, end: int) -> bytes:
        at = max(0, bisect_right(segments, offset, key=lambda segment: segment.base) - 1)
        while at < len(segments) and segments[at].base < end:
            if segments[at].end > offset and (data := self._read_segment(segments[at], offset, max_bytes, end)):
                return data
            at += 1
        return b""

    def _position(self, segment: Segment, offset: int) -> int:
        index = self._index(segment)
        entry = bisect_right(index.offsets, offset) - 1
        return index.positions[entry] if entry >= 0 else 0

    def _read_segment(self, segment: Segment, offset: int, max_bytes: int, end: int) -> bytes:
        position = self._position(segment, offset)
        window = max(max_bytes, INDEX_INTERVAL_BYTES) + INDEX_INTERVAL_BYTES
        while position < segment.size:
            data = self._pread(segment, position, window)
            if len(data) < HEADER_BYTES:
                return b""
            first, stop, after = _cut(data, offset, max_bytes, end)
            if first >= 0:
                return data[first:stop]
            if after == 0:  # one batch is larger than the window
                header = read_header(data)
                if header.base_offset >= end:
                    return b""
                if header.last_offset >= offset:
                    return self._pread(segment, position, header.length + 12)
                after = header.length + 12
            elif after < 0:
                return b""
            position += after
        return b""

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        """Base offset of a batch at or before the first with a timestamp of at least `timestamp_ms`."""
        return self._looked(key, lambda segments: self._offset_for_timestamp(segments, timestamp_ms))

    def _offset_for_timestamp(self, segments: list[Segment], timestamp_ms: int) -> int | None:
        for segment in segments:
            if segment.max_timestamp_ms >= timestamp_ms:
                index = self._index(segment)
                entry = bisect_left(index.timestamps, timestamp_ms) - 1
                return index.offsets[entry] if entry >= 0 else segment.base
        return None

    def _pread(self, segment: Segment, position: int, size: int) -> bytes:
        with self._lock:
            handle = self._files.pop(segment.path, -1)
            if handle < 0:
                handle = os.open(segment.path, os.O_RDONLY)
                if len(self._files) >= _OPEN_FILES_MAX:
                    os.close(self._files.popitem(last=False)[1])
            self._files[segment.path] = handle
            return os.pread(handle, min(size, segment.size - position), position)

    def _index(self, segment: Segment) -> SegmentIndex:
        with self._index_lock:
            if segment.index is None:
                segment.index = self._load_index(segment) or self._rebuild_index(segment)
            return segment.index

    def _load_index(self, segment: Segment) -> SegmentIndex | None:
        if not segment.index_path.exists():
            return None
        index, raw = SegmentIndex.empty(), segment.index_path.read_bytes()
        entries = list(_ENTRY.iter_unpack(raw[: len(raw) // _ENTRY.size * _ENTRY.size]))
        for offset, position, timestamp_ms in entries:
            if position < segment.size:
                index.add(offset, position, timestamp_ms)
        if len(index.offsets) * _ENTRY.size != len(raw):
            os.truncate(segment.index_path, len(index.offsets) * _ENTRY.size)
        if not index.offsets:
            return None
        head = self._pread(segment, index.positions[-1], HEADER_BYTES)
        fits = len(head) == HEADER_BYTES and read_header(head).base_offset == index.offsets[-1]
        rising = all(a < b for a, b in zip(index.positions, index.positions[1:], strict=False))
        return index if fits and rising and index.positions[0] == 0 else None

    def _rebuild_index(self, segment: Segment) -> SegmentIndex:
        index, position, indexed, timestamp_ms = SegmentIndex.empty(), 0, -INDEX_INTERVAL_BYTES, -1
        while position < segment.size:
            head = self._pread(segment, position, HEADER_BYTES)
            if len(head) < HEADER_BYTES:
                raise StorageDamaged(f"segment {segment.path} ends inside a batch")
            header = read_header(head)
            timestamp_ms = max(timestamp_ms, header.max_timestamp_ms)
            if position - indexed >= INDEX_INTERVAL_BYTES:
                index.add(header.base_offset, position, timestamp_ms)
                indexed = position
            position += header.length + 12
        write_index(segment.index_path, index)
        return index

    def _forget_file(self, path: Path) -> None:
        with self._lock:
            handle = self._files.pop(path, -1)
            if handle >= 0:
                os.close(handle)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for handle in self._files.values():
                os.close(handle)
            self._files.clear()

    def max_timestamp_ms(self, key: LogKey, start: int, end: int) -> int:
        """Largest timestamp of the batches that hold `start` or come after it and begin before `end`; -1 without any.

        Only a segment that reaches over one of these ends is looked into."""
        return self._looked(key, lambda segments: self._max_timestamp_ms(segments, start, end))

    def _max_timestamp_ms(self, segments: list[Segment], start: int, end: int) -> int:
        largest = -1
        for segment in segments:
            if segment.max_timestamp_ms <= largest or segment.end <= start or segment.base >= end:
                continue
            if start <= segment.base and segment.end <= end:
                largest = segment.max_timestamp_ms
            else:
                inside = self._headers(segment, start, end)
                largest = max(largest, max((header.max_timestamp_ms for header in inside), default=-1))
        return largest

    def _headers(self, segment: Segment, start: int, end: int) -> Iterator[BatchHeader]:
        position = self._position(segment, start)
        while position < segment.size:
            header = read_header(self._pread(segment, position, HEADER_BYTES))
            if header.base_offset >= end:
                return
            if header.last_offset >= start:
                yield header
            position += header.length + 12


def _cut(data: bytes, offset: int, max_bytes: int, end: int) -> tuple[int, int, int]:
    """(start, stop, bytes passed over) of the batches in `data` that hold `offset` or come after it, at most `max_bytes` but
    at least one. Start -1 when there is none among the whole batches; then passed over is -1 if `end` was met."""
    first = stop = -1
    after = 0
    for base, begin, finish in whole_batches(data):
        if base >= end:
            after = -1
            break
        after = finish
        if first < 0 and read_header(data, begin).last_offset < offset:
            continue
        if first < 0:
            first = begin
        elif finish - first > max_bytes:
            break
        stop = finish
    return first, stop, after
