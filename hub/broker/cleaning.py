"""Carries out a cleaning: reads a log's closed segments, writes what stays into new files. Runs in a thread of its own.

Nothing here changes the log. A new file is whole and on disk before it is handed out as a `Replacement`; whoever owns the table
of segments puts it into the place of the old ones. A crash at any moment leaves files that no checkpoint names.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from ..durable import sync_path
from .batches import HEADER_BYTES, is_intact, read_header, whole_batches
from .compaction import CleaningFilter, Contents, KeyMap, Pause, Rules, map_keys
from .errors import StorageDamaged
from .segment import INDEX_INTERVAL_BYTES, Segment, SegmentIndex, segment_path, write_index

READ_BYTES = 1 << 20
SYNC_BYTES = 1 << 20
"""A new file is brought to disk in parts of this size: the journal's syncs would have to wait for a large one."""
SLICE_SECONDS = 0.002
"""Time that the thread computes without a rest: so long others wait for it at most."""


class CleaningStopped(Exception):
    """The broker ends."""


class Pace:
    """Keeps a thread to a share of one core: after each slice it rests, and others have the interpreter.

    `share` is above 0 and at most 1; time spent waiting for the interpreter counts as rest. Called often; `stop` makes the next
    call raise `CleaningStopped`."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._stopped = False
        self.begin()

    def begin(self) -> None:
        """Count from now; called in the thread."""
        self._computed_at, self._began_at = time.thread_time(), time.perf_counter()

    def __call__(self) -> None:
        if self._stopped:
            raise CleaningStopped
        if time.perf_counter() - self._began_at < SLICE_SECONDS:
            return  # reading this clock costs less than reading that of the thread
        used = time.thread_time() - self._computed_at
        if used >= SLICE_SECONDS:
            time.sleep(max(0.0, used / self.share - (time.perf_counter() - self._began_at)))
            self.begin()

    def stop(self) -> None:
        """End the work at its next pause."""
        self._stopped = True


class Replacement(NamedTuple):
    """`new` stands for the neighbours `old`; None when nothing of them stays."""

    old: list[Segment]
    new: Segment | None


class BatchRead(NamedTuple):
    """A batch, and whether it is its segment's last."""

    data: bytes
    last: bool


def read_batches(segment: Segment, pause: Pause) -> Iterator[BatchRead]:
    """All batches of a segment. Raises `StorageDamaged` when one is not what was written."""
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
            if not used and len(data) < min(want, segment.size - position):
                raise StorageDamaged(f"segment {segment.path} ends inside a batch")
            if not used and len(data) >= HEADER_BYTES:
                want = max(READ_BYTES, read_header(data).length + 12)
                if position + want > segment.size and len(data) == segment.size - position:
                    raise StorageDamaged(f"segment {segment.path} ends inside a batch")
            else:
                want = READ_BYTES
            position += used
    finally:
        os.close(handle)


def find_keys(segments: Sequence[Segment], rules: Rules, pause: Pause, *, bytes_max: int) -> KeyMap:
    """First pass over the part that was never cleaned."""
    dirty = (segment for segment in segments if segment.end > rules.dirty_from)
    batches = (batch.data for segment in dirty for batch in read_batches(segment, pause))
    return map_keys(batches, rules, pause, bytes_max=bytes_max)


def rewrite(
    segments: Sequence[Segment], keep: CleaningFilter, pause: Pause, *, segment_bytes: int, now_ms: int
) -> Iterator[Replacement]:
    """Second pass: new files with what stays, each for as many neighbours as are expected to fit into `segment_bytes`. A file
    that would be the same as before is left out; one of which that is known beforehand is not read, unless it is small and has
    neighbours."""
    output: _Output | None = None
    expected = [keep.expected(segment.base, segment.end, segment.size) for segment in segments]
    try:
        for number, segment in enumerate(segments):
            following = expected[number + 1] if number + 1 < len(segments) else 0
            alone = segment.size * 2 >= segment_bytes or segment.size + following > segment_bytes
            left = keep.leaves(segment.contents, segment.end)
            if output is not None and (output.size + expected[number] > segment_bytes or (left and (alone or not output.size))):
                made = output.close(keep.take_contents(), now_ms)
                output = None  # before the caller has the file: from then on it is not to be discarded
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
    """One new file."""

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
        """The file is on disk; nothing to replace when it is the only source over again."""
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
        """Remove the file. Closing it fails on a full disk, where its space is needed most."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".index").unlink(missing_ok=True)
