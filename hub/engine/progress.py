"""How current the loop of a partition is: its lag, and the ages of its commits and of its time watermark."""

import time
from collections.abc import Callable
from typing import NamedTuple


class PartitionProgress(NamedTuple):
    """`lag`: records of the intake that were not decided at the last look. `commit_age_seconds`: for how long the loop has had
    undecided input without deciding and committing any. `watermark_age_seconds`: reports made before this time have been read;
    before the first watermark, the age of the loop. `rejects`: whether submissions are rejected because the broker's disk is
    almost full."""

    partition: int
    lag: int
    commit_age_seconds: float
    watermark_age_seconds: float
    rejects: bool


class LoopProgress:
    """Written by the loop after each turn, and read by health checks at any time: a loop that waits for a commit or starts over
    writes nothing, so its ages grow. `clock`: the time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._committed_at = self._watermark_at = clock()
        self._position = -1
        self.lag = 0

    def turned(self, *, position: int, end: int, watermark_age_us: int | None) -> None:
        """Everything before `position` is decided and committed; the intake ended at `end` at the last look."""
        now = self._clock()
        self.lag = max(0, end - position)
        if self.lag == 0 or position != self._position:
            self._committed_at = now
        self._position = position
        if watermark_age_us is not None:
            self._watermark_at = now - watermark_age_us / 1e6

    @property
    def commit_age_seconds(self) -> float:
        """See PartitionProgress."""
        return self._clock() - self._committed_at

    @property
    def watermark_age_seconds(self) -> float:
        """See PartitionProgress."""
        return self._clock() - self._watermark_at
