"""The storage interface of the broker, and its implementation in memory.

The broker appends blocks to one journal; a block holds all changes between two flushes and is written atomically. At intervals
the broker passes a checkpoint: its state at the end of a block, and the batches to write to segment files. `FileStorage`
(module `files`) implements this on disk.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .log import LogKey, LogReader
from .segment import LogTail
from .segments import SegmentStore


class CheckpointPlan(NamedTuple):
    """The broker's state at the end of a block."""

    state: dict[str, Any]
    tails: list[LogTail]
    starts: dict[LogKey, int]
    """Start offset of every existing log. Data before it, and files of other logs, may be removed."""
    clean: bool
    """Whether an orderly shutdown wrote it: then no acknowledged data is missing."""


@dataclass(slots=True)
class Recovery:
    """The content of a storage when it is opened."""

    state: dict[str, Any] | None
    blocks: Iterable[bytes]
    """Journal blocks after the checkpoint, in order; can be consumed only once."""
    clean: bool


class StorageSpace(NamedTuple):
    """Size of the file system of the data directory, in bytes; -1 without one."""

    total: int
    usable: int
    """Bytes that the broker may still write: free bytes minus the reserve."""


class Storage(LogReader, Protocol):
    """The storage of a broker. Methods block; `write` and `checkpoint` may be called from different threads."""

    @property
    def location(self) -> str:
        """The data directory, as reported to clients."""
        ...

    def disk_space(self) -> StorageSpace:
        """Total and usable size of the disk."""
        ...

    def log_bytes(self, key: LogKey) -> int:
        """Size of the segment files of a log, in bytes."""
        ...

    @property
    def writable(self) -> bool:
        """False while the disk is too full for another block: writes must be rejected."""
        ...

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough was journaled for the next checkpoint."""
        ...

    @property
    def checkpoint_overdue(self) -> bool:
        """Whether so much was journaled that writes must wait for the running checkpoint."""
        ...

    @property
    def segments(self) -> SegmentStore | None:
        """The segment files; None if everything is in memory."""
        ...

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        """Whether a checkpoint with these start offsets would remove files."""
        ...

    def recover(self) -> Recovery:
        """Read the stored state and journal. Called once, before any write."""
        ...

    def write(self, parts: Sequence[bytes]) -> None:
        """Append one block; it is synced on return if the flush policy requires it. An OSError is fatal."""
        ...

    def sync(self) -> None:
        """Sync every written block to disk."""
        ...

    def rest(self) -> None:
        """Called while nothing is being written, for cheap work."""
        ...

    def begin_checkpoint(self) -> Any:
        """The journal position after the last block, to be passed to `checkpoint`."""
        ...

    def checkpoint(self, plan: CheckpointPlan, position: Any) -> None:
        """Write a checkpoint and the batches that it covers. The journal before `position` is no longer needed then."""
        ...

    def maintain(self) -> None:
        """Slow preparations: create journal files, check the free space."""
        ...

    def close(self) -> None:
        """Close the files and release the lock of the directory."""
        ...


class MemoryStorage:
    """Stores nothing: the logs in memory are the only copy, and there are no checkpoints."""

    location = "memory"
    segments = None
    writable = True
    checkpoint_due = False
    checkpoint_overdue = False

    def disk_space(self) -> StorageSpace:
        return StorageSpace(-1, -1)

    def log_bytes(self, key: LogKey) -> int:
        return 0

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        return False

    def recover(self) -> Recovery:
        return Recovery(None, (), clean=True)

    def write(self, parts: Sequence[bytes]) -> None:
        return None

    def sync(self) -> None:
        return None

    def rest(self) -> None:
        return None

    def begin_checkpoint(self) -> Any:
        return None

    def checkpoint(self, plan: CheckpointPlan, position: Any) -> None:
        raise NotImplementedError("MemoryStorage does not support checkpoints")

    def maintain(self) -> None:
        return None

    def close(self) -> None:
        return None

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        return b""

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        return None

    def max_timestamp_ms(self, key: LogKey, start: int, end: int) -> int:
        return -1
