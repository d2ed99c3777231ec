"""Handles failures of a partition: finds the record or timer that causes one, and continues without it.

A failed record or timer is dead-lettered when the partition reaches it again. For output that cannot be written (it does not
fit into a record) the cause is unknown: then records and timers are processed one by one, each in a separate transaction,
until one of them fails alone. Any other failure is a bug in the engine, and is raised when it occurs again.
"""

from collections.abc import Sequence

from ..core import PoisonTimer, TimerKey
from ..kafka import StoredRecord
from ..logs import Logger
from .partition import Phase, PoisonRecord

log = Logger(__name__)

ALL: tuple[Phase, ...] = ("all",)
ONE_BY_ONE: tuple[Phase, ...] = ("records", "timers", "dispatch")


class UnwritableBatch(Exception):
    """The output of a batch cannot be written: a value cannot be encoded as JSON, or a record exceeds the limit of its topic.

    The batch had `records` and, in phase "timers", the timer `timer`."""

    def __init__(self, records: Sequence[StoredRecord], timer: TimerKey | None, phase: Phase, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.last = records[-1].offset if records else -1
        self.timer = timer
        self.phase = phase

    def blamed(self) -> Exception:
        """PoisonRecord or PoisonTimer if a record or timer was processed alone; otherwise this exception."""
        if self.phase == "records" and self.last >= 0:
            return PoisonRecord(self.last, str(self))
        if self.phase == "timers" and self.timer is not None:
            return PoisonTimer(self.timer, str(self))
        return self


class Quarantine:
    """The records (by offset) and timers of a partition to dead-letter, with the reason, and whether records and timers are
    processed one by one."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._until = -1
        self._timers_left = False
        self._last_failure = ""
        self.records: dict[int, str] = {}
        self.timers: dict[TimerKey, str] = {}

    def phases(self, offset: int) -> tuple[Phase, ...]:
        """The phases of the next transactions if the partition is at `offset` of its intake."""
        return ONE_BY_ONE if offset <= self._until or self._timers_left else ALL

    def looked_at_timers(self, taken: TimerKey | None) -> None:
        """Record the timer that phase "timers" processed; None: none was due."""
        self._timers_left = taken is not None

    def learn(self, failure: Exception, offset: int) -> None:
        """Record a failure at `offset`. Raises it if the partition cannot continue, because the same failure occurred
        before."""
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
                self._log("processing failed again with the same error; stopping the partition", failure)
                raise failure
        self._log("processing failed; restoring the partition", failure)

    def _log(self, message: str, failure: Exception) -> None:
        log.error(message, action="engine_poison", partition=self._partition, reason=str(failure)[:1_000], exc_info=failure)
