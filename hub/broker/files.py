"""The broker's storage on disk: lock, journal, segment files, checkpoint.

    <data_dir>/lock           one process only
    <data_dir>/format         see `format`
    <data_dir>/checkpoint     see `checkpoint_file`
    <data_dir>/journal/       see `journal`
    <data_dir>/logs/          see `segments`

Recovery: read the checkpoint, cut segments back to its table, replay the journal from its position.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .checkpoint_file import Checkpoint, read_checkpoint, write_checkpoint
from .disk_room import DiskRoom
from .errors import DataDirectoryInUse
from .format import ensure_format
from .journal import Journal, Position
from .log import LogKey
from .segments import SegmentStore
from .storage import CheckpointPlan, Recovery, StorageSpace

CHECKPOINT_OVERDUE = 3
"""Writes wait for a running checkpoint once the journal has grown by this many times `checkpoint_bytes` since the last one."""
BACKLOG_MAX = 6
"""Writes are rejected once it has grown by this many times `checkpoint_bytes`: checkpoints fail, or do not keep up."""


class FileStorage:
    """Storage in a directory. Raises `DataDirectoryInUse` if another process uses it, `OtherFormat` if its data has another
    format."""

    def __init__(
        self,
        directory: Path,
        *,
        flush: str = "always",
        journal_file_bytes: int = 8 << 20,
        checkpoint_bytes: int = 16 << 20,
        segment_bytes: int = 1 << 31,
        reserve_bytes: int = 64 << 20,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.location = str(directory.absolute())
        self._lock_file = _take_lock(directory)
        try:
            ensure_format(directory)
        except BaseException:
            os.close(self._lock_file)
            raise
        self._sync_every_write = flush == "always"
        self._room = DiskRoom(directory, reserve_bytes)
        self._checkpoint_bytes = checkpoint_bytes
        self._checkpointed_at_bytes = 0
        self._dirty = False
        self._journal = Journal(directory / "journal", file_bytes=journal_file_bytes)
        self.segments = SegmentStore(directory / "logs", segment_bytes=segment_bytes)

    # --- recovery

    def recover(self) -> Recovery:
        """The state and the journal blocks found on disk. Raises `StorageDamaged`."""
        checkpoint = read_checkpoint(self._directory)
        position = Position(*checkpoint.position) if checkpoint else Position(0, 0, 1)
        self.segments.restore(checkpoint.segments if checkpoint else [])
        if checkpoint is None:
            return Recovery(None, self._replay(position), clean=False)
        return Recovery(checkpoint.state, self._replay(position), checkpoint.clean)

    def _replay(self, position: Position) -> Iterator[bytes]:
        yield from self._journal.replay(position)
        self._journal.recycle(position.generation)

    # --- space

    def disk_space(self) -> StorageSpace:
        """See `Storage.disk_space`. Raises OSError."""
        return self._room.space()

    def log_bytes(self, key: LogKey) -> int:
        """See `SegmentStore.log_bytes`."""
        return self.segments.log_bytes(key)

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        """See `SegmentStore.holds_before`."""
        return self.segments.holds_before(starts)

    # --- writing

    @property
    def writable(self) -> bool:
        """Whether writes are accepted: a journal file is prepared, free space exceeds the reserve, and checkpoints keep up."""
        return self._room.enough and self._backlog_bytes < BACKLOG_MAX * self._checkpoint_bytes

    @property
    def _backlog_bytes(self) -> int:
        return self._journal.bytes_written - self._checkpointed_at_bytes

    @property
    def checkpoint_overdue(self) -> bool:
        """Whether new writes must wait for the running checkpoint, so that memory stays bounded."""
        return self._backlog_bytes >= CHECKPOINT_OVERDUE * self._checkpoint_bytes

    @property
    def checkpoint_due(self) -> bool:
        """Whether at least `checkpoint_bytes` were journaled since the last checkpoint."""
        return self._backlog_bytes >= self._checkpoint_bytes

    def write(self, parts: Sequence[bytes]) -> None:
        """Append one block to the journal; sync it if the flush policy is `always`."""
        self._journal.write(parts, sync=self._sync_every_write)
        self._dirty = not self._sync_every_write

    def sync(self) -> None:
        """Sync everything that was written."""
        if self._dirty:
            self._dirty = False  # before the sync: a block written meanwhile needs another sync
            self._journal.sync()

    def rest(self) -> None:
        """Record in the journal that its last block is on disk."""
        self._journal.note_synced()

    def begin_checkpoint(self) -> Position:
        """The position in the journal after the last block."""
        return self._journal.position

    def checkpoint(self, plan: CheckpointPlan, position: Position) -> None:
        """Write the segments, then the checkpoint that lists them, then free the journal before `position`."""
        journaled = self._journal.bytes_written
        for tail in plan.tails:
            self.segments.append(tail)
        self.segments.sync()
        self.segments.leave_out_before(plan.starts)
        place = (position.generation, position.offset, position.lsn)
        write_checkpoint(self._directory, Checkpoint(place, plan.clean, self.segments.table(), plan.state))
        self.segments.remove_garbage()
        self._journal.recycle(position.generation)
        self._checkpointed_at_bytes = journaled

    def maintain(self) -> None:
        """Prepare journal files and check the free space; updates `writable`."""
        self._room.look(self._journal.prepare)

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """See `SegmentStore.read`."""
        return self.segments.read(key, offset, max_bytes, end)

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        """See `SegmentStore.offset_for_timestamp`."""
        return self.segments.offset_for_timestamp(key, timestamp_ms)

    def max_timestamp_ms(self, key: LogKey, start: int, end: int) -> int:
        """See `SegmentStore.max_timestamp_ms`."""
        return self.segments.max_timestamp_ms(key, start, end)

    def close(self) -> None:
        """Close all files and release the lock."""
        self._journal.close()
        self.segments.close()
        os.close(self._lock_file)


def _take_lock(directory: Path) -> int:
    """The handle that holds the lock of a data directory. Raises `DataDirectoryInUse`."""
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        raise DataDirectoryInUse(f"{directory} is in use by another broker (process {owner or '?'})") from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle
