"""One engine partition as a value: `process(records, now_us) -> Batch`. No I/O, no clock.

The engine's loop, simulations and benchmarks use the same object. The state is changed in place; unless a batch is certainly
committed, discard the object and restore a new one.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from hashlib import sha256
from typing import Literal, NamedTuple

from schemas import EngineAnnounced
from schemas import events as e

from ..core import (
    FORMAT,
    META_KEY,
    REASON_MAX,
    SECOND_US,
    Changes,
    Command,
    EmittedEvent,
    InvalidReport,
    Known,
    MetaRow,
    PartitionState,
    PoisonTimer,
    Reply,
    TaskCategory,
    TimedRows,
    TimerKey,
    cut,
    decide_report,
    dispatch,
    earliest,
    encode_row,
    expire_leases,
    expire_starts,
    extend_deadlines,
    next_lease_expiry,
    next_start_deadline,
    settle,
    take_due,
)
from ..kafka import StoredRecord, partition_of
from .changelog import rows_of
from .reading import InvalidRequest, decode_report, envelope_of
from .rebuilding import RestoredRows
from .settings import EngineSettings

#: Most entries of the ended index that one batch removes, and how long expired ones may stay while nothing else is written.
EXPIRED_PER_BATCH = 500
EXPIRY_SLACK_US = 60 * SECOND_US

#: The time of a new owner starts this much after the last written time, so that provenance, in milliseconds, is never repeated.
RESTORED_AFTER_US = 1_000

#: The phases of `process`: all, or one alone to find the record or timer whose output does not fit.
Phase = Literal["all", "records", "timers", "dispatch"]


#: `Known` for batches without records and timers.
NOTHING = Known()


class DecidedBatch(NamedTuple):
    """The content of one transaction. `rows`: changelog entries (None: tombstone); `offset`: next input offset.

    `timer`: the last processed timer. `unknown_pools`: pools of workers without a known commands topic."""

    events: list[EmittedEvent]
    commands: list[Command]
    rows: list[tuple[bytes, bytes | None]]
    replies: list[Reply]
    forwards: list[tuple[int, StoredRecord]]
    offset: int
    epoch: int
    now_us: int
    timer: TimerKey | None = None
    unknown_pools: Set[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit (heartbeats only)."""
        return not (self.events or self.commands or self.rows or self.replies or self.forwards)


class PoisonRecord(Exception):
    """Processing the record at `offset` failed with the state partly changed: discard the partition and restore it.

    The restored partition dead-letters the record (`Known.poison_records`), so it stops the partition only once."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"record at offset {offset} of hub.intake: {reason}")
        self.offset, self.reason = offset, reason


class MalformedRows(Exception):
    """No state can be built from the rows of the changelog, which no engine can have written. The message has the reason."""


class EnginePartition:
    """The partition. Construct it, `restore` the rows of the changelog, `take_over`, then `process` batch after batch."""

    def __init__(self, partition: int, partitions: int, settings: EngineSettings | None = None) -> None:
        self.partition = partition
        self.partitions = partitions
        self.settings = settings or EngineSettings()
        self.state = PartitionState(ended_entries_max=self.settings.ended_entries_max)
        self.offset = 0
        self.epoch = 0
        self.now_us = 0
        self.created_us = 0
        self.restored: Mapping[TaskCategory, int] = {}
        """The number of restored tasks by category, for the figures."""
        self._leases_checked = False

    # Restoring and taking over

    def restore(self, rows: Iterable[tuple[bytes, bytes]], now_us: int, timed: Iterable[TimedRows] = ()) -> int:
        """Build the state from the last row of every key, which is in `rows` or in `timed`. Returns the number of rows. Call it
        once, on a new object.

        Raises MalformedRows: then restore a new object from checked rows."""
        try:
            return self._restore(rows, timed, now_us)
        except Exception as error:
            raise MalformedRows(_in_words(error)) from error

    def _restore(self, rows: Iterable[tuple[bytes, bytes]], timed: Iterable[TimedRows], now_us: int) -> int:
        found = RestoredRows(rows, timed, self.state)
        if (meta := found.meta) is not None:
            assert meta.partitions == self.partitions, (
                f"partition {self.partition} was written by a hub with {meta.partitions} partitions, not {self.partitions}"
            )
            self.offset, self.epoch, self.now_us, self.created_us = meta.offset, meta.epoch, meta.now_us, meta.created_us
        self.now_us = max(self.now_us + RESTORED_AFTER_US, now_us)
        self.restored = found.tasks
        found.build(self.now_us, epoch=self.epoch + 1)
        return found.count

    def take_over(
        self, now_us: int, *, rows: int, host: str, pid: int, pools: Sequence[str], snapshot: bool = False
    ) -> DecidedBatch:
        """The first batch of a new owner: its epoch, `engine.started`, `engine.restored`, and an announcement to every inbox."""
        self.epoch += 1
        changes = self._changes(now_us)
        self.created_us = self.created_us or self.now_us
        changes.caused_by(f"start/{self.partition}/{self.epoch}", None)
        started = e.EngineStarted(partitions=self.partitions, input_offset=self.offset, host=host, pid=pid)
        changes.apply_to_engine(started)
        changes.apply_to_engine(e.EngineRestored(rows=rows, live_tasks=self.state.live, snapshot=snapshot))
        announced = EngineAnnounced(partition=self.partition, partitions=self.partitions, epoch=self.epoch)
        for pool in pools:
            changes.commands += [Command(pool, inbox, "*", "", announced) for inbox in range(self.settings.inboxes)]
        return self._batch(changes)

    def leave(self, now_us: int) -> DecidedBatch:
        """The last batch of an owner that shuts down."""
        changes = self._changes(now_us)
        changes.caused_by(f"stop/{self.partition}/{self.epoch}", None)
        changes.apply_to_engine(e.EngineStopped(input_offset=self.offset))
        return self._batch(changes)

    # Processing

    def process(self, records: Sequence[StoredRecord], now_us: int, known: Known, *, phase: Phase = "all") -> DecidedBatch:
        """Decide `records` (the next ones of the intake, in order), then due timers, then dispatch.

        `now_us` is the time of the whole batch. Batches must be committed in order. A `phase` other than "all" runs only that
        phase (records are allowed only for "records") and processes at most one timer.

        Raises PoisonRecord or PoisonTimer if one record or timer fails; any other exception is a bug in the engine. After any
        exception the partition must be restored.
        """
        assert not records or phase in ("all", "records"), f"phase {phase!r} must not get records"
        changes = self._changes(now_us, known)
        self.state.know_pools(known.pools, self.now_us)
        self._take_all(changes, records)
        settle(changes)
        timer = None
        if phase in ("all", "timers"):
            timer = self._take_due(changes, timers_max=None if phase == "all" else 1)
        if phase in ("all", "dispatch"):
            dispatch(changes)
            self._forget_expired(changes)
            self.state.tidy()
        return self._batch(changes, timer)

    def _take_all(self, changes: Changes, records: Sequence[StoredRecord]) -> None:
        for record in records:
            try:
                self._take(changes, record)
            except MemoryError:
                raise  # not caused by the record
            except Exception as error:
                raise PoisonRecord(record.offset, _in_words(error)) from error
            self.offset = record.offset + 1

    def _take_due(self, changes: Changes, *, timers_max: int | None) -> TimerKey | None:
        expire_starts(changes)
        expire_leases(changes)
        settle(changes)
        self._leases_checked |= changes.known.time_watermark_us is not None
        timer = take_due(changes, timers_max=timers_max)
        settle(changes)
        return timer

    def next_due(self) -> int | None:
        """When `process` may have work to do without records, in microseconds since the Unix epoch, or None. Drops times that no
        longer matter."""
        state = self.state
        due_us = earliest(earliest(state.next_timer(), next_start_deadline(state)), next_lease_expiry(state.workers))
        if (expiry_us := state.ended.next_expiry()) is not None:
            due_us = earliest(due_us, expiry_us + EXPIRY_SLACK_US)
        if not self._leases_checked and (state.held or state.worker_rows):
            due_us = earliest(due_us, self.now_us)
        return due_us

    def extend_deadlines(self, gap_us: int) -> None:
        """Extend leases and start deadlines by `gap_us`, for which this process was suspended."""
        extend_deadlines(self.state, gap_us)

    def _changes(self, now_us: int, known: Known = NOTHING) -> Changes:
        self.now_us = max(self.now_us, now_us)
        return Changes(
            self.state,
            partition=self.partition,
            partitions=self.partitions,
            home_of=self._home_of,
            now_us=self.now_us,
            known=known,
            settings=self.settings,
        )

    def _home_of(self, name: str) -> int:
        return 0 if self.partitions == 1 else partition_of(name, self.partitions)

    def _forget_expired(self, changes: Changes) -> None:
        ended = self.state.ended
        expiry_us = ended.next_expiry()
        expired = expiry_us is not None and expiry_us + (0 if changes.writes else EXPIRY_SLACK_US) <= changes.now_us
        if expired or len(ended) > self.settings.ended_entries_max:
            changes.gone += ended.take_expired(changes.now_us, EXPIRED_PER_BATCH)

    # One record

    def _take(self, changes: Changes, record: StoredRecord) -> None:
        """Decide one record. An invalid record causes an event and affects nothing else."""
        prefix, mark, cause = f"{self.partition}/{record.offset}", len(changes.events), None
        try:
            if record.offset in changes.known.poison_records:
                raise InvalidReport(f"processing failed: {changes.known.poison_records[record.offset]}")
            envelope = envelope_of(record)
            cause = envelope.event_id
            changes.caused_by(prefix, cause)
            decide_report(changes, envelope, decode_report(envelope))
        except InvalidReport as why:
            assert len(changes.events) == mark, "an invalid report must not change anything"
            changes.caused_by(prefix, cause)
            if isinstance(why, InvalidRequest):
                asked = why.envelope
                changes.reject("malformed", str(why), report=asked.type, task=None, reply=asked.reply)
            else:
                self._dead_letter(changes, record, str(why))

    def _dead_letter(self, changes: Changes, record: StoredRecord, reason: str) -> None:
        value = record.value or b""
        kind = next((header for name, header in record.headers if name == "ce_type" and header is not None), b"")
        data = e.EngineReportDeadLettered(
            reason=cut(reason, REASON_MAX),
            offset=record.offset,
            sha256=sha256(value).hexdigest(),
            size_bytes=len(value),
            report=kind[:100].decode(errors="replace") or None,
            preview=value[:120].decode(errors="replace"),
        )
        changes.apply_to_engine(data)

    def checkpoint(self, now_us: int, *rows: tuple[bytes, bytes]) -> DecidedBatch:
        """A batch with only the next input offset, and further `rows` of the changelog."""
        return self._batch(self._changes(now_us))._replace(rows=[*rows, self._meta()])

    def storage_changed(self, now_us: int, change: e.EngineStorageChanged) -> DecidedBatch:
        """A batch for another level of free disk space: an event, and whether submissions are rejected from now on."""
        changes = self._changes(now_us)
        number = self.state.engine_row.sequence
        changes.caused_by(f"agenda/{self.partition}/storage:{change.level}.{number}/{self.now_us // 1000}", "agenda:storage")
        changes.apply_to_engine(change)
        return self._batch(changes)

    # Output

    def _meta(self) -> tuple[bytes, bytes]:
        meta = MetaRow(
            offset=self.offset,
            epoch=self.epoch,
            now_us=self.now_us,
            partitions=self.partitions,
            created_us=self.created_us,
            format=FORMAT,
        )
        return encode_row(META_KEY, meta)

    def _batch(self, changes: Changes, timer: TimerKey | None = None) -> DecidedBatch:
        rows: list[tuple[bytes, bytes | None]] = []
        if changes.writes:
            rows = rows_of(changes)
            rows.append(self._meta())
        self.state.tasks.rest_unchanged(changes.touched)
        return DecidedBatch(
            changes.events,
            changes.commands,
            rows,
            changes.replies,
            changes.forwards,
            self.offset,
            self.epoch,
            self.now_us,
            timer,
            changes.unknown_pools,
        )


def _in_words(error: Exception) -> str:
    return cut(f"{type(error).__name__}: {error}", REASON_MAX)


__all__ = ["DecidedBatch", "EnginePartition", "EngineSettings", "MalformedRows", "Phase", "PoisonRecord", "PoisonTimer"]
