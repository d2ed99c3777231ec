"""What to do about a failure of a partition: who is to blame, and how to continue without it.

A record or a timer that failed is dead-lettered when the partition comes to it again. Output that cannot be written (it does not
fit into a record) does not show whose it is: records and timers are then taken one by one, each in its own transaction, until one
of them fails alone. All else is a mistake in the engine that nothing outside is to blame for: raised when it repeats itself.
"""

from collections.abc import Sequence

import structlog

from ..core import PoisonTimer, TimerKey
from ..kafka import StoredRecord
from .partition import Phase, PoisonRecord

log = structlog.get_logger(__name__)

ALL: tuple[Phase, ...] = ("all",)
ONE_BY_ONE: tuple[Phase, ...] = ("records", "timers", "dispatch")


class UnwritableBatch(Exception):
    """What was decided cannot be written: a value that JSON cannot hold, or a record larger than the topic accepts.

    Decided were `records` and, where the phase is "timers", the timer `timer`."""

    def __init__(self, records: Sequence[StoredRecord], timer: TimerKey | None, phase: Phase, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.last = records[-1].offset if records else -1
        self.timer = timer
        self.phase = phase

    def blamed(self) -> Exception:
        """The record or the timer that was decided alone, as the one to blame; else this itself."""
        if self.phase == "records" and self.last >= 0:
            return PoisonRecord(self.last, str(self))
        if self.phase == "timers" and self.timer is not None:
            return PoisonTimer(self.timer, str(self))
        return self


class Quarantine:
    """The records (by offset) and timers of one partition that are to be dead-lettered, with the reason; and whether records and
    timers are taken one by one."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._until = -1
        self._timers_left = False
        self._last_failure = ""
        self.records: dict[int, str] = {}
        self.timers: dict[TimerKey, str] = {}

    def phases(self, offset: int) -> tuple[Phase, ...]:
        """The phases of the next transactions, when the partition is at `offset` of its intake."""
        return ONE_BY_ONE if offset <= self._until or self._timers_left else ALL

    def looked_at_timers(self, taken: TimerKey | None) -> None:
        """The phase "timers" took this timer; None: none was due."""
        self._timers_left = taken is not None

    def learn(self, failure: Exception, offset: int) -> None:
        """Take a failure at `offset` into account. Raises it where the partition cannot continue: it has failed in the same way
        before, although what was to blame was left out."""
        if isinstance(failure, UnwritableBatch):
            failure = failure.blamed()
        description = f"{type(failure).__name__} at {offset}: {failure}"
        again = description == self._last_failure
        self._last_failure = description
        match failure:
            case PoisonRecord() if failure.offset not in self.records:
                self.records[failure.offset] = failure.reason
            case PoisonTimer() if failure.key not in self.timers:
                self.timers[failure.key] = failure.reason
            case UnwritableBatch() if failure.phase == "all" and not again:
                self._until, self._timers_left = failure.last, True
            case _ if isinstance(failure, PoisonRecord | PoisonTimer | UnwritableBatch) or again:
                self._log("processing failed again in the same way; the partition stops", failure)
                raise failure
        self._log("processing failed; restoring the partition", failure)

    def _log(self, message: str, failure: Exception) -> None:
        log.error(message, action="engine_poison", partition=self._partition, reason=str(failure)[:1_000], exc_info=failure)
