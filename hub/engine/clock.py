"""Time for the loop: a steady clock, the time watermark, and times in which the process did not run."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from ..logs import Logger

log = Logger(__name__)

#: The loop looks around at least once a second, and has a `Pulse` while it waits for a commit. A much longer gap means that this
#: process did not run (it was stopped, or starved): then workers may have been stopped, too, and their silence means nothing.
STOPPED_US = 4_000_000

#: Interval of the beats of a `Pulse` (seconds).
BEAT_SECONDS = 1.0


class TimeWatermark:
    """`time_us`: all reports made up to this time have been read. A missing heartbeat before it was not sent; a later one may
    be unread.

    The end of the log moves while it is read, under load faster than reading. So one end, with the time at which it was
    observed, is kept until the reader reaches it; then the next one."""

    def __init__(self) -> None:
        self.time_us: int | None = None
        self._mark: tuple[int, int] | None = None

    def read(self, *, position: int, end: int, end_us: int) -> None:
        """Record that the log was read up to `position`, and that it ended at `end` at time `end_us`."""
        if self._mark is not None and position >= self._mark[0]:
            self._advance(self._mark[1])
            self._mark = None
        if position >= end:
            self._advance(end_us)
        elif self._mark is None:
            self._mark = end, end_us

    def _advance(self, time_us: int) -> None:
        self.time_us = max(self.time_us or 0, time_us)


class Pulse:
    """Tells a long wait for others from a time in which this process did not run: in the latter no timer fires.

    `now_us`: the clock of the partition. A timer runs out after `end`, because to cancel and start one for each short wait costs
    more."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._timer: asyncio.TimerHandle | None = None
        self._is_counting = False
        self._beat_us = self._stopped_us = 0

    def begin(self, now_us: int) -> None:
        """From now on, until `end`, count the time in which the process does not run."""
        self._beat_us, self._stopped_us, self._is_counting = now_us, 0, True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def end(self) -> int:
        """Returns for how many microseconds the process did not run since `begin`. May be called again."""
        if self._is_counting:
            self._count()
            self._is_counting = False
        return self._stopped_us

    def _beat(self) -> None:
        self._timer = None
        if self._is_counting:
            self._count()
            self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _count(self) -> None:
        now_us = self._now_us()
        if now_us - self._beat_us > STOPPED_US:
            self._stopped_us += now_us - self._beat_us
        self._beat_us = now_us


class SteadyClock:
    """Wall clock time at the start plus elapsed time, so that changes of the system clock do not cause jumps.

    `since_boot_ns`: a clock in nanoseconds that includes suspend time (CLOCK_BOOTTIME), if available."""

    def __init__(self, since_boot_ns: Callable[[], int] | None = None) -> None:
        self._elapsed_ns = since_boot_ns or _since_boot_ns
        self._wall_us = time.time_ns() // 1000
        self._began_ns = self._elapsed_ns()

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return self._wall_us + (self._elapsed_ns() - self._began_ns) // 1000


class PartitionClock:
    """The time of one engine partition, from `source` (microseconds since the Unix epoch). It never decreases, not even below
    the time that an earlier owner wrote."""

    def __init__(self, partition: int, source: Callable[[], int]) -> None:
        self._partition = partition
        self._ahead_us = 0
        self.source = source

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return self.source() + self._ahead_us

    def continue_from(self, written_us: int) -> None:
        """The log has been written up to this time."""
        behind_us = max(0, written_us - self.now_us())
        self._ahead_us += behind_us
        if behind_us > STOPPED_US:
            log.warning(
                "the system clock is earlier than the log's last time; continuing from the log's time",
                action="engine_clock_behind",
                partition=self._partition,
                seconds=round(behind_us / 1e6, 3),
            )


_since_boot_ns: Callable[[], int] = (
    partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns
)
