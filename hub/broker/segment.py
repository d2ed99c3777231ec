"""One segment of a log: its file, its sparse index, its entry in a checkpoint.

The index has an entry about every 16 KiB. An index that does not match its segment is rebuilt from the segment.
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
"""An index entry on disk: base offset, file position, largest timestamp so far."""


class LogTail(NamedTuple):
    """Batches of one log, in order, to be written to its segment files."""

    key: LogKey
    start: int
    end: int
    batches: list[bytes]
    bases: list[int]
    max_timestamps: list[int]
    segment_bytes: int
    """Size in bytes at which a segment of the topic is closed."""
    roll_ms: int
    """Age in ms at which a segment of the topic is closed."""
    now_ms: int


class SegmentEntry(msgspec.Struct, array_like=True):
    """A segment in a checkpoint. Fields that earlier releases did not write have defaults."""

    base: int
    size: int
    end: int
    max_timestamp_ms: int
    generation: int = 0
    created_ms: int = -1


class LogEntry(msgspec.Struct, array_like=True):
    """The segments of a log in a checkpoint."""

    topic_number: int
    partition: int
    segments: list[SegmentEntry]
    cleaned: Spans = []


@dataclass(slots=True)
class SegmentIndex:
    """Base offset, file position and largest timestamp so far of some batches of a segment."""

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
    """One segment file. Checkpoints append to it, and `size` and `end` grow, until it is full, too old, or `sealed`."""

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
    """What its last cleaning retained, if known."""

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".index")


def segment_path(directory: Path, base: int, generation: int) -> Path:
    """Path of a segment; generation 0 was never cleaned."""
    return directory / (f"{base:020d}-{generation}.log" if generation else f"{base:020d}.log")


def write_index(path: Path, index: SegmentIndex) -> None:
    """Write an index file."""
    entries = zip(index.offsets, index.positions, index.timestamps, strict=True)
    path.write_bytes(b"".join(INDEX_ENTRY.pack(*entry) for entry in entries))
