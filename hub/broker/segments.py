"""Segment files: the logs' older batches, written behind the journal.

One directory per log; a segment is a file of batches named by its first offset, with a sparse index beside it: one
entry about every 16 KiB. What counts is the checkpoint's table of lengths: bytes behind it are cut at start, they are
replayed from the journal. The index is only an aid: one that does not fit its segment is made again by reading the
segment.
"""

import os
import struct
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .batches import HEADER_BYTES, read_header, whole_batches
from .errors import StorageDamaged
from .log import LogKey
from .storage import LogTail

INDEX_INTERVAL_BYTES = 16 * 1024
_ENTRY = struct.Struct(">qqq")
_OPEN_FILES_MAX = 128

SegmentTable = list[tuple[int, int, list[tuple[int, int, int, int]]]]
"""(topic number, partition, [(base offset, bytes, end offset, largest timestamp)])."""


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
    """One file. `size` and `end` grow as checkpoints add to it."""

    base: int
    size: int
    end: int
    max_timestamp_ms: int
    path: Path
    index: SegmentIndex | None = None

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".index")


class SegmentStore:
    """All logs' segments. `append`, `sync` and `remove_others` belong to the checkpointing thread; reads may come from
    another."""

    def __init__(self, directory: Path, *, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._logs: dict[LogKey, list[Segment]] = {}
        self._unsynced: set[Path] = set()
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()
        self._index_lock = threading.Lock()

    def _log_directory(self, key: LogKey) -> Path:
        return self._directory / f"{key.topic_number}-{key.partition}"

    # --- the table kept in checkpoints

    def table(self) -> SegmentTable:
        """What the segments hold."""
        return [
            (key.topic_number, key.partition, [(s.base, s.size, s.end, s.max_timestamp_ms) for s in segments])
            for key, segments in self._logs.items()
        ]

    def restore(self, table: SegmentTable) -> None:
        """Take over the segments of a checkpoint; cut what was written behind it. Raises `StorageDamaged` when bytes
        are missing."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for topic_number, partition, entries in table:
            key = LogKey(topic_number, partition)
            segments = self._logs[key] = []
            for base, size, end, timestamp_ms in entries:
                path = self._log_directory(key) / f"{base:020d}.log"
                found = path.stat().st_size if path.exists() else 0
                if found < size:
                    raise StorageDamaged(f"segment {path} has {found} bytes, {size} were written")
                if found > size:
                    os.truncate(path, size)
                segments.append(Segment(base, size, end, timestamp_ms, path))
        self.remove_others()

    # --- writing

    def append(self, tail: LogTail) -> None:
        """Write a log's batches behind those it has; batches that a failed checkpoint wrote already are skipped."""
        segments = self._logs.setdefault(tail.key, [])
        at, count = bisect_left(tail.bases, segments[-1].end) if segments else 0, len(tail.batches)
        while at < count:
            segment = self._segment_for(tail.key, segments, tail.bases[at])
            stop, size = at, segment.size
            while stop < count and (stop == at or size < self._segment_bytes):
                size += len(tail.batches[stop])
                stop += 1
            end = tail.bases[stop] if stop < count else tail.end
            self._extend(segment, tail, at, stop, end)
            at = stop

    def _segment_for(self, key: LogKey, segments: list[Segment], base: int) -> Segment:
        if segments and segments[-1].size < self._segment_bytes:
            return segments[-1]
        directory = self._log_directory(key)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{base:020d}.log"
        segment = Segment(base, 0, base, -1, path, SegmentIndex.empty())
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
        a checkpoint without them is on disk (`remove_others`)."""
        for key in list(self._logs):
            if key not in starts:
                del self._logs[key]
            else:
                self._logs[key] = [segment for segment in self._logs[key] if segment.end > starts[key]]

    def remove_others(self) -> None:
        """Remove the files of forgotten logs and segments."""
        directories = {self._log_directory(key): segments for key, segments in self._logs.items()}
        for directory in self._directory.iterdir():
            segments = directories.get(directory, [])
            known = {segment.path for segment in segments} | {segment.index_path for segment in segments}
            for path in directory.iterdir():
                if path not in known:
                    self._forget_file(path)
                    path.unlink()
            if directory not in directories:
                directory.rmdir()

    # --- reading

    def log_bytes(self, key: LogKey) -> int:
        """Bytes of a log's segments."""
        return sum(segment.size for segment in self._logs.get(key, ()))

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """Whole batches from the one that holds `offset` (or the next one): at least one, then at most `max_bytes`."""
        segments = self._logs.get(key, [])
        at = bisect_right(segments, offset, key=lambda segment: segment.base) - 1
        if at >= 0 and segments[at].end <= offset:
            at += 1
        if not segments or at >= len(segments):
            return b""
        segment = segments[max(at, 0)]
        position = self._position(segment, offset)
        data = self._pread(segment, position, max(max_bytes, INDEX_INTERVAL_BYTES) + INDEX_INTERVAL_BYTES)
        return self._cut(segment, position, data, offset, max_bytes, end)

    def _position(self, segment: Segment, offset: int) -> int:
        index = self._index(segment)
        entry = bisect_right(index.offsets, offset) - 1
        return index.positions[entry] if entry >= 0 else 0

    def _cut(self, segment: Segment, position: int, data: bytes, offset: int, max_bytes: int, end: int) -> bytes:
        first = stop = -1
        for base, begin, finish in whole_batches(data):
            if base >= end:
                break
            if first < 0 and read_header(data, begin).last_offset_delta + base < offset:
                continue
            if first < 0:
                first = begin
            elif finish - first > max_bytes:
                break
            stop = finish
        if first >= 0:
            return data[first:stop]
        return self._read_one(segment, position, data, offset, end)

    def _read_one(self, segment: Segment, position: int, data: bytes, offset: int, end: int) -> bytes:
        """The batch that holds `offset`, when it did not fit into what was read."""
        for _, begin, finish in whole_batches(data):
            if read_header(data, begin).last_offset_delta + read_header(data, begin).base_offset >= offset:
                return b""
            position += finish - begin
        head = self._pread(segment, position, HEADER_BYTES)
        if len(head) < HEADER_BYTES:
            return b""
        header = read_header(head)
        return b"" if header.base_offset >= end else self._pread(segment, position, header.length + 12)

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        """Base offset of a batch at or before the first with a timestamp of at least `timestamp_ms`."""
        for segment in self._logs.get(key, []):
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
        return index if fits and rising and index.offsets[0] == segment.base else None

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
        entries = zip(index.offsets, index.positions, index.timestamps, strict=True)
        segment.index_path.write_bytes(b"".join(_ENTRY.pack(*entry) for entry in entries))
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
