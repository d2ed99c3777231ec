"""What the broker needs of its storage, and the implementation that keeps everything in memory.

The broker appends to one journal: a block is everything that happened between two flushes, written whole or not at all.
From time to time it hands over a checkpoint: its state at a block's end, and the batches that belong into segment
files. `FileStorage` (module `files`) does this on disk.
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
    """First offset of every log that exists: what lies before, and files of any other log, may be removed."""
    clean: bool
    """Written by an orderly shutdown: nothing acknowledged is missing."""


@dataclass(slots=True)
class Recovery:
    """What a storage holds when it is opened."""

    state: dict[str, Any] | None
    blocks: Iterable[bytes]
    """Journal blocks after the checkpoint; to be consumed once, in order."""
    clean: bool


class StorageSpace(NamedTuple):
    """Bytes of the file system that holds a data directory; -1 where there is none."""

    total: int
    usable: int
    """What the broker may still write: free bytes without the reserve."""


class Storage(LogReader, Protocol):
    """Where a broker's bytes are. Methods block; `write` and `checkpoint` may be called from different threads."""

    @property
    def location(self) -> str:
        """The data directory, as clients are shown it."""
        ...

    def disk_space(self) -> StorageSpace:
        """Size of the disk and what of it can be used."""
        ...

    def log_bytes(self, key: LogKey) -> int:
        """Bytes in the segment files of a log."""
        ...

    @property
    def writable(self) -> bool:
        """False while the disk is too full to promise the next block: writes must be refused."""
        ...

    @property
    def checkpoint_due(self) -> bool:
        """Enough was journaled since the last checkpoint."""
        ...

    @property
    def checkpoint_overdue(self) -> bool:
        """So much was journaled since that a running checkpoint must be waited for."""
        ...

    @property
    def segments(self) -> SegmentStore | None:
        """The segment files; None where everything is in memory."""
        ...

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        """Whether a checkpoint with these starts of all logs would remove files."""
        ...

    def recover(self) -> Recovery:
        """State and journal of an earlier run. Called once, before any write."""
        ...

    def write(self, parts: Sequence[bytes]) -> None:
        """Append one block; on disk as the flush policy says when this returns. An OSError is not survivable."""
        ...

    def sync(self) -> None:
        """Bring every written block to disk."""
        ...

    def rest(self) -> None:
        """Nothing is being written: a moment for what costs next to nothing."""
        ...

    def begin_checkpoint(self) -> Any:
        """Journal position after the last block, to be passed to `checkpoint`."""
        ...

    def checkpoint(self, plan: CheckpointPlan, position: Any) -> None:
        """Write a checkpoint and the batches it covers; after this the journal before `position` is not needed."""
        ...

    def maintain(self) -> None:
        """Slow work ahead of need: prepare journal files, look at free space."""
        ...

    def close(self) -> None:
        """Release files and the directory lock."""
        ...


class MemoryStorage:
    """Keeps nothing: the logs' own memory is the only copy, and there are no checkpoints."""

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
        raise NotImplementedError("memory storage has no checkpoints")

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
