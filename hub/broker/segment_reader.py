"""Reads segment files and their indexes. The number of open files is bounded. Used from several threads."""

import os
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from ..protocol.batch_layout import HEADER_BYTES, LENGTH_COUNTS_FROM, whole_batches
from .batches import BatchHeader, read_header
from .errors import StorageDamaged
from .segment import INDEX_ENTRY, INDEX_INTERVAL_BYTES, Segment, SegmentIndex, write_index

_OPEN_FILES_MAX = 128


class SegmentReader:
    """Reads single segments."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()
        self._index_lock = threading.Lock()

    # --- batches

    def read(self, segment: Segment, offset: int, max_bytes: int, end: int) -> bytes:
        """Complete batches from the one that contains `offset`, or the next one: at least one, then up to `max_bytes`. Empty
        if none begins before `end`."""
        position = self._position(segment, offset)
        window = max(max_bytes, INDEX_INTERVAL_BYTES) + INDEX_INTERVAL_BYTES
        while position < segment.size:
            data = self._pread(segment, position, window)
            if len(data) < HEADER_BYTES:
                return b""
            first, stop, after = _cut(data, offset, max_bytes, end)
            if first >= 0:
                return data[first:stop]
            if after == 0:  # a single batch exceeds the window
                header = read_header(data)
                if header.length + LENGTH_COUNTS_FROM < HEADER_BYTES:
                    raise StorageDamaged(f"segment {segment.path} is damaged at byte {position}")
                if header.base_offset >= end:
                    return b""
                if header.last_offset >= offset:
                    return self._pread(segment, position, header.length + LENGTH_COUNTS_FROM)
                after = header.length + LENGTH_COUNTS_FROM
            elif after < 0:
                return b""
            position += after
        return b""

    def offset_for_timestamp(self, segment: Segment, timestamp_ms: int) -> int:
        """Base offset of a batch at or before the first batch of the segment with a timestamp of at least `timestamp_ms`."""
        index = self.index(segment)
        entry = bisect_left(index.timestamps, timestamp_ms) - 1
        return index.offsets[entry] if entry >= 0 else segment.base

    def headers(self, segment: Segment, start: int, end: int) -> Iterator[BatchHeader]:
        """Headers of the batches that contain `start` or come after it and begin before `end`."""
        position = self._position(segment, start)
        while position < segment.size:
            header = read_header(self._pread(segment, position, HEADER_BYTES))
            if header.base_offset >= end:
                return
            if header.last_offset >= start:
                yield header
            position += header.length + LENGTH_COUNTS_FROM

    def _position(self, segment: Segment, offset: int) -> int:
        index = self.index(segment)
        entry = bisect_right(index.offsets, offset) - 1
        return index.positions[entry] if entry >= 0 else 0

    def _pread(self, segment: Segment, position: int, size: int) -> bytes:
        with self._lock:
            handle = self._files.pop(segment.path, -1)
            if handle < 0:
                handle = os.open(segment.path, os.O_RDONLY)
                if len(self._files) >= _OPEN_FILES_MAX:
                    os.close(self._files.popitem(last=False)[1])
            self._files[segment.path] = handle
            return os.pread(handle, min(size, segment.size - position), position)

    # --- indexes

    def index(self, segment: Segment) -> SegmentIndex:
        """The index of a segment; loaded or built at first use."""
        with self._index_lock:
            if segment.index is None:
                segment.index = self._load_index(segment) or self._rebuild_index(segment)
            return segment.index

    def _load_index(self, segment: Segment) -> SegmentIndex | None:
        if not segment.index_path.exists():
            return None
        index, raw = SegmentIndex.empty(), segment.index_path.read_bytes()
        entries = list(INDEX_ENTRY.iter_unpack(raw[: len(raw) // INDEX_ENTRY.size * INDEX_ENTRY.size]))
        for offset, position, timestamp_ms in entries:
            if position < segment.size:
                index.add(offset, position, timestamp_ms)
        if len(index.offsets) * INDEX_ENTRY.size != len(raw):
            os.truncate(segment.index_path, len(index.offsets) * INDEX_ENTRY.size)
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
            position += header.length + LENGTH_COUNTS_FROM
        write_index(segment.index_path, index)
        return index

    # --- files

    def forget(self, path: Path) -> None:
        """Close a file that is about to be removed."""
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


def _cut(data: bytes, offset: int, max_bytes: int, end: int) -> tuple[int, int, int]:
    """(start, stop, bytes skipped) of the batches in `data` from the one that contains `offset`: at least one, then up to
    `max_bytes`. If no complete batch qualifies, start is -1; bytes skipped is -1 if `end` was reached."""
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
