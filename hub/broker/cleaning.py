"""Executes a cleaning in the cleaner's thread: reads the closed segments of a log and writes the retained records to new files.

This module does not change the log. A new file is complete and on disk before it is returned as a `Replacement`; the owner of
the segment table then replaces the old files by it. A crash at any time leaves only files that no checkpoint lists.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from ..durable import sync_path
from ..protocol.batch_layout import HEADER_BYTES, LENGTH_COUNTS_FROM, whole_batches
from .batches import is_intact, read_header
from .compaction import CleaningFilter, Contents, KeyMap, Pause, Rules, map_keys
from .errors import StorageDamaged
from .segment import INDEX_INTERVAL_BYTES, Segment, SegmentIndex, segment_path, write_index

READ_BYTES = 1 << 20
SYNC_BYTES = 1 << 20
"""A new file is synced in parts of this size, so that syncs of the journal do not wait for a long one."""
SLICE_SECONDS = 0.002
"""Longest time that the thread computes without a pause, and so the longest time that other threads wait for it."""


class CleaningStopped(Exception):
    """The broker is stopping."""


class Pace:
    """Limits a thread to a share of one core: it sleeps after each time slice, and other threads get the interpreter.

    `share` is greater than 0 and at most 1; time spent waiting for the interpreter counts as sleep. The thread calls the
    instance often; after `stop` the next call raises `CleaningStopped`."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._stopped = False
        self.begin()

    def begin(self) -> None:
        """Start measuring; called in the thread."""
        self._computed_at, self._began_at = time.thread_time(), time.perf_counter()

    def __call__(self) -> None:
        if self._stopped:
            raise CleaningStopped
        if time.perf_counter() - self._began_at < SLICE_SECONDS:
            return  # this clock is cheaper to read than that of the thread
        used = time.thread_time() - self._computed_at
        if used >= SLICE_SECONDS:
            time.sleep(max(0.0, used / self.share - (time.perf_counter() - self._began_at)))
            self.begin()

    def stop(self) -> None:
        """Stop the work at its next pause."""
        self._stopped = True


class Replacement(NamedTuple):
    """The adjacent segments `old` are replaced by `new`; None if no record of them is retained."""

    old: list[Segment]
    new: Segment | None


class BatchRead(NamedTuple):
    """A batch, and whether it is the last of its segment."""

    data: bytes
    last: bool


def read_batches(segment: Segment, pause: Pause) -> Iterator[BatchRead]:
    """All batches of a segment. Raises `StorageDamaged` if one is incomplete or fails its checksum."""
    handle = os.open(segment.path, os.O_RDONLY)
    try:
        position, want = 0, READ_BYTES
        while position < segment.size:
            data = os.pread(handle, min(want, segment.size - position), position)
            used = 0
            for _, begin, end in whole_batches(data):
                batch, used = data[begin:end], end
                if not is_intact(batch, read_header(batch)):
                    raise StorageDamaged(f"segment {segment.path} is damaged at byte {position + begin}")
                yield BatchRead(batch, position + end == segment.size)
                pause()
            if used:
                want = READ_BYTES
            elif len(data) < min(want, segment.size - position):
                raise StorageDamaged(f"segment {segment.path} ends inside a batch")
            else:
                needed = HEADER_BYTES if len(data) < HEADER_BYTES else read_header(data).length + LENGTH_COUNTS_FROM
                if needed <= len(data) or position + needed > segment.size:
                    raise StorageDamaged(f"segment {segment.path} is damaged at byte {position}")
                want = max(READ_BYTES, needed)
            position += used
    finally:
        os.close(handle)


def find_keys(segments: Sequence[Segment], rules: Rules, pause: Pause, *, bytes_max: int) -> KeyMap:
    """First pass: the keys of the part that was never cleaned. Raises `StorageDamaged`."""
    dirty = (segment for segment in segments if segment.end > rules.dirty_from)
    batches = (batch.data for segment in dirty for batch in read_batches(segment, pause))
    return map_keys(batches, rules, pause, bytes_max=bytes_max)


def rewrite(
    segments: Sequence[Segment], keep: CleaningFilter, pause: Pause, *, segment_bytes: int, now_ms: int
) -> Iterator[Replacement]:
    """Second pass: writes the retained records to new files. Each replaces as many adjacent segments as are expected to fit
    into `segment_bytes`. A segment that would not change is kept; if that is known in advance it is not even read, unless it
    is small enough to be merged. Raises `StorageDamaged`, OSError."""
    output: _Output | None = None
    expected = [keep.expected(segment.base, segment.end, segment.size) for segment in segments]
    try:
        for number, segment in enumerate(segments):
            following = expected[number + 1] if number + 1 < len(segments) else 0
            alone = segment.size * 2 >= segment_bytes or segment.size + following > segment_bytes
            left = keep.leaves(segment.contents, segment.end)
            if output is not None and (output.size + expected[number] > segment_bytes or (left and (alone or not output.size))):
                made = output.close(keep.take_contents(), now_ms)
                output = None  # before the caller gets the file: it must not be discarded after that
                yield from made
            if output is None and left and alone:
                assert segment.contents is not None
                keep.pass_over(segment.contents)
                continue
            if output is None:
                keep.take_contents()
                output = _Output(segment)
            output.sources.append(segment)
            for batch in read_batches(segment, pause):
                kept = keep.apply(batch.data, last=batch.last and number == len(segments) - 1)
                if kept is not None:
                    output.add(kept)
        if output is not None:
            made = output.close(keep.take_contents(), now_ms)
            output = None
            yield from made
    finally:
        if output is not None:
            output.discard()


class _Output:
    """A new segment file while it is written."""

    def __init__(self, first: Segment) -> None:
        self.sources: list[Segment] = []
        self.size = 0
        self._path = segment_path(first.path.parent, first.base, first.generation + 1)
        self._file: BinaryIO | None = None
        self._synced = 0
        self._index = SegmentIndex.empty()
        self._max_timestamp_ms = -1

    def add(self, batch: bytes) -> None:
        if self._file is None:
            self._file = self._path.open("wb", buffering=256 * 1024)
        header = read_header(batch)
        self._max_timestamp_ms = max(self._max_timestamp_ms, header.max_timestamp_ms)
        if not self._index.positions or self.size - self._index.positions[-1] >= INDEX_INTERVAL_BYTES:
            self._index.add(header.base_offset, self.size, self._max_timestamp_ms)
        self._file.write(batch)
        self.size += len(batch)
        if self.size - self._synced >= SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._synced = self.size

    def close(self, contents: Contents | None, now_ms: int) -> list[Replacement]:
        """Sync the file. Returns nothing to replace if the file equals its only source."""
        if len(self.sources) == 1 and self.size == self.sources[0].size:
            self.sources[0].contents = contents
            self.discard()
            return []
        if self._file is None:
            return [Replacement(self.sources, None)]
        self._sync()
        self._file.close()
        first, last = self.sources[0], self.sources[-1]
        created_ms = first.created_ms if first.created_ms >= 0 else now_ms
        new = Segment(
            first.base, self.size, last.end, self._max_timestamp_ms, self._path, created_ms, first.generation + 1, sealed=True
        )
        new.index, new.contents = self._index, contents
        write_index(new.index_path, self._index)
        sync_path(self._path.parent)
        return [Replacement(self.sources, new)]

    def discard(self) -> None:
        """Remove the file, even if closing it fails: on a full disk its space is needed most."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".index").unlink(missing_ok=True)
