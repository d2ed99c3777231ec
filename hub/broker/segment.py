"""One segment of a log as a value: its file, its sparse index, its line in a checkpoint.

The index has an entry about every 16 KiB. It is only an aid: one that does not fit its segment is built again by reading the
segment.
"""

import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from .compaction import Contents, Spans
from .log import LogKey

INDEX_INTERVAL_BYTES = 16 * 1024
INDEX_ENTRY = struct.Struct(">qqq")
"""One entry of an index on disk: base offset, file position, largest timestamp so far."""


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


def segment_path(directory: Path, base: int, generation: int) -> Path:
    """Where a segment is; generation 0 is one that was never cleaned."""
    return directory / (f"{base:020d}-{generation}.log" if generation else f"{base:020d}.log")


def write_index(path: Path, index: SegmentIndex) -> None:
    """Write the file of an index."""
    entries = zip(index.offsets, index.positions, index.timestamps, strict=True)
    path.write_bytes(b"".join(INDEX_ENTRY.pack(*entry) for entry in entries))
