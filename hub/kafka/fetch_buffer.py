"""The fetched batches of one partition that were not taken yet, its positions, and what the broker reported of it. Pure code: no
I/O.

Batches of aborted transactions and control batches are left out. Checksums are checked here; records are not decoded.
"""

from collections import deque
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..errors import HubError
from ..protocol import TopicPartition
from ..protocol import batch_layout as layout
from ..protocol.fetch import FetchedPartition
from .errors import CorruptBatch
from .fetched import FetchedBatch, visible_batches


class TakenBatch(Struct):
    """A batch that readers of committed records can see. Its records at or after `from_offset` are the next ones of the
    partition; `next_offset` is the position after it, and after what follows it and is not visible. `batch` can be given to
    `RecordPicker.pick`."""

    partition: TopicPartition
    batch: FetchedBatch
    from_offset: int
    next_offset: int


class Seen(Struct, frozen=True, gc=False):
    """What the latest response of a broker said about a partition. `at_ms`: the local time of that response; `asked_at`: when its
    request was sent (`time.monotonic`), so that the log ended at or before `high_watermark` then."""

    high_watermark: int
    last_stable_offset: int
    log_start: int
    at_ms: int
    asked_at: float

    @property
    def end(self) -> int:
        """The first offset that cannot be read yet."""
        return self.high_watermark if self.last_stable_offset < 0 else self.last_stable_offset


class PartitionBuffer:
    """One partition. `position` is the offset of the next record to take, which moves past records that are not visible, too;
    `fetch_offset` the one to request next; `size` is the number of bytes that are buffered. `seen` is None before the first
    response. `failure` is raised to the reader after the batches before it were taken."""

    def __init__(self, partition: TopicPartition, offset: int, max_bytes: int) -> None:
        self.partition = partition
        self.position = self.fetch_offset = offset
        self.max_bytes = max_bytes
        self.size = 0
        self.paused = False
        self.seen: Seen | None = None
        self.failure: HubError | None = None
        self.generation = 0
        """Increased by `seek`: responses to earlier requests are dropped."""
        self.refused_since: float | None = None
        """Time (`time.monotonic`) since which the leaders of the partition have refused to serve it; None: they serve it."""
        self._batches: deque[list[Any]] = deque()
        self._end = 0
        """`seen.end`; 0 before the first response."""

    @property
    def has_batches(self) -> bool:
        """Whether a batch can be taken."""
        return bool(self._batches) and not self.paused

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns a batch or raises."""
        return not self.paused and (bool(self._batches) or self.failure is not None)

    @property
    def may_have_more(self) -> bool:
        """Whether the partition has committed records that were not fetched yet, as far as known."""
        return self.fetch_offset < self._end

    def seek(self, offset: int) -> None:
        """Continue at `offset`."""
        self._batches.clear()
        self.position = self.fetch_offset = offset
        self.size, self.failure = 0, None
        self.generation += 1

    def add(self, fetched: FetchedPartition | None, at_ms: int, asked_at: float, *, bytes_max: int) -> None:
        """Add what was fetched from `fetch_offset` on; None if there is nothing new. For the times see `Seen`. A batch that is
        larger than `max_bytes` and arrives incomplete increases `max_bytes`, up to `bytes_max`."""
        if fetched is None:
            self.seen = self.seen and replace(self.seen, at_ms=at_ms, asked_at=asked_at)
            return
        self.seen = Seen(fetched.high_watermark, fetched.last_stable_offset, fetched.log_start, at_ms, asked_at)
        self._end = self.seen.end
        if not fetched.records:
            return
        before, count = self.fetch_offset, len(self._batches)
        try:
            self._append(fetched)
        except Exception as broken:  # any, because these are bytes of others
            topic, partition = self.partition
            self.failure = CorruptBatch(f"{topic}-{partition} at offset {self.fetch_offset}: {broken}")
        if len(self._batches) > count:
            self._batches[-1][2] = len(fetched.records)  # the bytes are released with the last batch in them
            self.size += len(fetched.records)
        if self.fetch_offset == before and self.failure is None:
            self._enlarge(fetched.records, bytes_max)

    def _append(self, fetched: FetchedPartition) -> None:
        least = self.fetch_offset
        for batch, next_offset, visible in visible_batches(fetched.records, fetched.aborted):
            if next_offset <= least:
                continue  # the broker may return batches before the requested offset
            self.fetch_offset = next_offset
            if visible:
                self._batches.append([batch, next_offset, 0])
            elif self._batches:
                self._batches[-1][1] = next_offset
            else:
                self.position = next_offset

    def _enlarge(self, start: bytes, bytes_max: int) -> None:
        size = self.max_bytes + 1
        if len(start) >= layout.LENGTH_COUNTS_FROM:
            size = max(
                size, layout.LENGTH_COUNTS_FROM + int.from_bytes(start[layout.LENGTH_AT : layout.LENGTH_COUNTS_FROM], "big")
            )
        if size <= bytes_max:
            self.max_bytes = min(max(size, 2 * self.max_bytes), bytes_max)
        else:
            topic, partition = self.partition
            where = f"{topic}-{partition} at offset {self.fetch_offset}"
            self.failure = CorruptBatch(f"{where}: a batch of {size} bytes is larger than {bytes_max}")

    def take(self) -> TakenBatch | None:
        """The next batch, or None. Raises `failure` once, after the batches before it."""
        if self.paused:
            return None
        if not self._batches:
            failure, self.failure = self.failure, None
            if failure is not None:
                raise failure
            return None
        batch, next_offset, size = self._batches.popleft()
        taken = TakenBatch(self.partition, batch, self.position, next_offset)
        self.position = next_offset
        self.size -= size
        return taken
