"""Segment files: the older batches of the logs, written by checkpoints.

Each log has a directory. A segment is a file of batches, named by its first offset, with a sparse index (`segment`). The table
of lengths in the checkpoint is authoritative: bytes after these lengths are truncated at start and replayed from the journal.

Cleaning replaces adjacent segments by one file with another name (`<first offset>-<generation>.log`). Here, too, the table in
the checkpoint is authoritative: it lists either the old files or the new one, and files that are not listed are removed at
start. Old files are removed when a checkpoint without them is on disk. Offsets may have gaps within and between segments.
"""

import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..durable import sync_path
from .compaction import HASH_BYTES, Spans
from .errors import StorageDamaged
from .log import LogKey, SegmentView
from .segment import INDEX_ENTRY, INDEX_INTERVAL_BYTES, LogEntry, LogTail, Segment, SegmentEntry, SegmentIndex, segment_path
from .segment_reader import SegmentReader

CONTENTS_BYTES_MAX = 32 << 20
"""Memory for the contents of all cleaned segments: 4 million records."""


_Found = TypeVar("_Found")


class SegmentStore:
    """The segments of all logs. Only the thread of checkpoints may change them; any thread may read.

    `segment_bytes` is an upper limit for the setting `segment.bytes` of topics."""

    def __init__(self, directory: Path, *, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self._directory = directory
        self._logs: dict[LogKey, list[Segment]] = {}
        self._cleaned: dict[LogKey, Spans] = {}
        self._garbage: list[Path] = []
        """Files and directories that the next checkpoint no longer lists."""
        self._unsynced: set[Path] = set()
        self._reader = SegmentReader()

    def log_directory(self, key: LogKey) -> Path:
        """The directory of a log."""
        return self._directory / f"{key.topic_number}-{key.partition}"

    # --- the table kept in checkpoints

    def table(self) -> list[LogEntry]:
        """The segment table, for a checkpoint."""
        return [
            LogEntry(
                *key,
                [SegmentEntry(s.base, s.size, s.end, s.max_timestamp_ms, s.generation, s.created_ms) for s in segments],
                self._cleaned.get(key, []),
            )
            for key, segments in self._logs.items()
        ]

    def restore(self, table: Sequence[LogEntry]) -> None:
        """Load the segments of a checkpoint, truncate what was written after it, and remove all other files. Raises
        `StorageDamaged` if bytes are missing."""
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
            raise StorageDamaged(f"segment {path} has {has} bytes, expected {entry.size}")
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
        """The segments of a log, for plans of retention and compaction."""
        segments = self._logs.get(key, ())
        last = segments[-1] if segments else None
        return [
            SegmentView(s.base, s.end, s.size, s.max_timestamp_ms, s.created_ms, closed=s.sealed or s is not last)
            for s in segments
        ]

    def cleaned(self, key: LogKey) -> Spans:
        """When each part of a log was first cleaned; the dirty part begins at the last end."""
        return self._cleaned.get(key, [])

    # --- writing

    def append(self, tail: LogTail) -> None:
        """Append batches to a log, except those that a failed checkpoint has already written."""
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
        """The last segment, or a new one if the last is full, too old, or sealed."""
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
        index = self._reader.index(segment)
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
            file.write(b"".join(INDEX_ENTRY.pack(*entry) for entry in entries))
        for entry in entries:
            index.add(*entry)
        segment.size, segment.end, segment.max_timestamp_ms = position, end, timestamp_ms
        self._unsynced.add(segment.path)

    def sync(self) -> None:
        """Sync everything that was appended."""
        for path in self._unsynced:
            sync_path(path)
        self._unsynced.clear()

    def leave_out_before(self, starts: Mapping[LogKey, int]) -> None:
        """Remove logs that are not in `starts`, and segments that end at or before the start of their log, from the table.
        Their files are removed by `remove_garbage`, after a checkpoint without them is on disk."""
        for key in list(self._logs):
            if key not in starts:
                self._discard(self._logs.pop(key))
                self._cleaned.pop(key, None)
                self._garbage.append(self.log_directory(key))
            elif self._logs[key] and self._logs[key][0].end <= starts[key]:
                self._discard([segment for segment in self._logs[key] if segment.end <= starts[key]])
                self._logs[key] = [segment for segment in self._logs[key] if segment.end > starts[key]]

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        """Whether `leave_out_before` and `remove_garbage` would remove files."""
        logs = list(self._logs.items())
        return bool(self._garbage) or any(key not in starts or (s and s[0].end <= starts[key]) for key, s in logs)

    def _discard(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._garbage += (segment.path, segment.index_path)
            self._unsynced.discard(segment.path)

    def remove_garbage(self) -> None:
        """Remove the files of removed logs and segments, including files that a cleaning has created in the directory of a
        deleted log."""
        garbage, self._garbage = self._garbage, []
        for path in garbage:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                self._reader.forget(path)
                path.unlink(missing_ok=True)

    # --- cleaning

    def seal(self, key: LogKey) -> None:
        """Close the last segment of a log: nothing more is appended to it."""
        if segments := self._logs.get(key):
            segments[-1].sealed = True

    def segments(self, key: LogKey) -> list[Segment]:
        """The current segments of a log."""
        return list(self._logs.get(key, ()))

    def replace(self, key: LogKey, old: Sequence[Segment], new: Segment | None) -> bool:
        """Replace adjacent segments `old` by `new`, whose file is on disk, or by nothing if `new` is None.

        Returns False, without a change, if one of them was removed meanwhile."""
        segments = self._logs.get(key, [])
        at = next((index for index, segment in enumerate(segments) if segment is old[0]), -1)
        if at < 0 or any(one is not other for one, other in zip(segments[at : at + len(old)], old, strict=False)):
            return False
        self._logs[key] = segments[:at] + ([] if new is None else [new]) + segments[at + len(old) :]
        self._discard(old)
        return True

    def set_cleaned(self, key: LogKey, spans: Spans) -> None:
        """Set when each part of a log was first cleaned (see `cleaned`). Drops contents of segments that exceed
        CONTENTS_BYTES_MAX."""
        if key in self._logs:
            self._cleaned[key] = spans
        left = CONTENTS_BYTES_MAX
        for segment in (segment for segments in self._logs.values() for segment in segments):
            if segment.contents is not None and (left := left - HASH_BYTES * len(segment.contents.hashes)) < 0:
                segment.contents = None

    # --- reading

    def log_bytes(self, key: LogKey) -> int:
        """Bytes in the segment files of a log."""
        return sum(segment.size for segment in self._logs.get(key, ()))

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """Complete batches from the one that contains `offset`, or the next one: at least one, then up to `max_bytes`. Empty
        if no segment has one before `end`."""
        return self._looked(key, lambda segments: self._read(segments, offset, max_bytes, end))

    def _looked(self, key: LogKey, look: Callable[[list[Segment]], _Found]) -> _Found:
        """The result of `look` on the segments of a log; retried if they were replaced meanwhile and a file is missing."""
        while True:
            segments = self._logs.get(key, [])
            try:
                return look(segments)
            except FileNotFoundError:
                if self._logs.get(key, []) is segments:  # not replaced: the file is missing
                    raise

    def _read(self, segments: list[Segment], offset: int, max_bytes: int, end: int) -> bytes:
        at = max(0, bisect_right(segments, offset, key=lambda segment: segment.base) - 1)
        while at < len(segments) and segments[at].base < end:
            if segments[at].end > offset and (data := self._reader.read(segments[at], offset, max_bytes, end)):
                return data
            at += 1
        return b""

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        """Base offset of a batch at or before the first batch with a timestamp of at least `timestamp_ms`, or None."""
        return self._looked(key, lambda segments: self._offset_for_timestamp(segments, timestamp_ms))

    def _offset_for_timestamp(self, segments: list[Segment], timestamp_ms: int) -> int | None:
        for segment in segments:
            if segment.max_timestamp_ms >= timestamp_ms:
                return self._reader.offset_for_timestamp(segment, timestamp_ms)
        return None

    def max_timestamp_ms(self, key: LogKey, start: int, end: int) -> int:
        """Largest timestamp, in ms, of the batches that contain `start` or come after it and begin before `end`; -1 if there
        are none.

        Only segments that extend beyond `start` or `end` are read."""
        return self._looked(key, lambda segments: self._max_timestamp_ms(segments, start, end))

    def _max_timestamp_ms(self, segments: list[Segment], start: int, end: int) -> int:
        largest = -1
        for segment in segments:
            if segment.max_timestamp_ms <= largest or segment.end <= start or segment.base >= end:
                continue
            if start <= segment.base and segment.end <= end:
                largest = segment.max_timestamp_ms
            else:
                inside = self._reader.headers(segment, start, end)
                largest = max(largest, max((header.max_timestamp_ms for header in inside), default=-1))
        return largest

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
