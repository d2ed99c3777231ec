"""A disk in memory, for the embedded broker: what was written survives the end of a process, what was synced also that of the
machine; what is under way may survive or not."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import msgpack

from hub.broker import MemoryStorage
from hub.broker.batches import read_header
from hub.broker.log import LogKey
from hub.broker.storage import CheckpointPlan, Recovery, StorageSpace

GIB = 1 << 30

#: A checkpoint is due after so many bytes of journal.
CHECKPOINT_BYTES = 300_000


class Segments:
    """The batches of one log that a checkpoint wrote."""

    def __init__(self) -> None:
        self.bases: list[int] = []
        self.batches: list[bytes] = []

    def add(self, bases: Sequence[int], batches: Sequence[bytes]) -> None:
        """What follows what is there."""
        known = self.bases[-1] if self.bases else -1
        first = bisect_right(bases, known)
        self.bases += bases[first:]
        self.batches += batches[first:]

    def read(self, offset: int, max_bytes: int, end: int) -> bytes:
        """Whole batches from the one that holds `offset`: at least one, none at or after `end`."""
        at = max(0, bisect_right(self.bases, offset) - 1)
        if at < len(self.batches) and read_header(self.batches[at]).last_offset < offset:
            at += 1
        stop, size = at, 0
        while stop < bisect_left(self.bases, end) and (stop == at or size + len(self.batches[stop]) <= max_bytes):
            size += len(self.batches[stop])
            stop += 1
        return b"".join(self.batches[at:stop])

    def drop_before(self, offset: int) -> None:
        """Forget whole batches that end before `offset`."""
        while len(self.bases) > 1 and self.bases[1] <= offset:
            del self.bases[0], self.batches[0]


class Disk(MemoryStorage):
    """A `Storage` that outlives its broker: the journal's synced blocks, the block under way, and the last checkpoint."""

    location = "a disk in memory"

    def __init__(self, *, syncs_every_block: bool = True) -> None:
        self._syncs_every_block = syncs_every_block
        self._synced = 0
        self._journaled = 0
        self.full = False
        self.usable_bytes = 100 * GIB
        self.wants_checkpoint = False
        self._journal: list[bytes] = []
        self._under_way: bytes | None = None
        self._state: bytes | None = None
        self._segments: dict[LogKey, Segments] = {}

    @property
    def writable(self) -> bool:  # type: ignore[override]  # it fills up and empties
        """See Storage."""
        return not self.full

    @property
    def checkpoint_due(self) -> bool:  # type: ignore[override]
        """See Storage."""
        return self.wants_checkpoint or self._journaled > CHECKPOINT_BYTES

    def disk_space(self) -> StorageSpace:
        """See Storage."""
        return StorageSpace(100 * GIB, self.usable_bytes)

    # Blocks

    def begin(self, parts: Sequence[bytes]) -> None:
        """A block is being written: it is on disk after `complete`, and perhaps before."""
        self._under_way = b"".join(parts)

    def complete(self) -> None:
        """The block is written."""
        assert self._under_way is not None
        self._journal.append(self._under_way)
        self._journaled += len(self._under_way)
        self._under_way = None
        if self._syncs_every_block:
            self.sync()

    def sync(self) -> None:
        """See Storage."""
        self._synced = len(self._journal)

    def write(self, parts: Sequence[bytes]) -> None:
        """See Storage."""
        self.begin(parts)
        self.complete()

    def crash(self, *, torn: bool) -> None:
        """The broker's process is gone. The block that was under way is written as a whole, or (`torn`) not at all."""
        if self._under_way is not None and not torn:
            self.complete()
        self._under_way = None

    def lose_power(self) -> None:
        """The machine is gone, and with it what was not synced."""
        self._under_way = None
        del self._journal[self._synced :]

    def recover(self) -> Recovery:
        """See Storage."""
        state: Any = None if self._state is None else msgpack.decode(self._state)
        return Recovery(state, list(self._journal), clean=False)

    # Checkpoints

    def begin_checkpoint(self) -> int:
        """See Storage."""
        self.wants_checkpoint, self._journaled = False, 0
        return len(self._journal)

    def checkpoint(self, plan: CheckpointPlan, position: int) -> None:
        """See Storage."""
        self._state = msgpack.encode(plan.state)
        for tail in plan.tails:
            self._segments.setdefault(tail.key, Segments()).add(tail.bases, tail.batches)
        for key in list(self._segments):
            if key in plan.starts:
                self._segments[key].drop_before(plan.starts[key])
            else:
                del self._segments[key]
        del self._journal[:position]
        self._synced = max(0, self._synced - position)

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """See LogReader."""
        return self._segments[key].read(offset, max_bytes, end) if key in self._segments else b""

    def log_bytes(self, key: LogKey) -> int:
        """See Storage."""
        return sum(map(len, self._segments[key].batches)) if key in self._segments else 0

    def holds_before(self, starts: Mapping[LogKey, int]) -> bool:
        """See Storage."""
        return False
