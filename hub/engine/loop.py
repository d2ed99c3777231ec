"""The loop of an engine partition: take over, read, decide, commit; after any failure discard the state and take over again.

Start order (each step requires the previous one): 1. open the session, which fences the previous owner and ends its
transaction; 2. restore rows from snapshot and changelog up to the last stable offset; 3. open the intake at the offset in
`!meta` (never a group's committed offset); 4. commit the take-over (epoch, `engine.started`); 5. run.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import MsgspecError, structs

from ..core import INTAKE_KEY, META_KEY, Known
from ..errors import HubError, Unreachable, cause_of
from ..kafka import (
    EVENTS,
    STATE,
    OffsetOutOfRange,
    SessionFailed,
    SessionFenced,
    StoredRecord,
    TopicPartition,
    TransactionalSession,
)
from ..logs import Logger, OutageLog
from ..service import ServiceTasks, run_until, set_within
from .clock import STOPPED_US, PartitionClock, Pulse, SteadyClock, TimeWatermark
from .encode import Outputs, check_fits, encode
from .figures import PartitionFigures
from .format import check_format
from .housekeeping import Housekeeping
from .intake_marks import IntakeMarks
from .partition import DecidedBatch, EnginePartition, MalformedRows, Phase
from .pools import PoolWatch
from .ports import EngineBroker, Intake
from .progress import LoopProgress, PartitionProgress
from .quarantine import Quarantine, UnwritableBatch
from .rebuilding import no_collections
from .restoring import Changelog
from .settings import EngineSettings, LoopSettings
from .snapshots import Snapshot

log = Logger(__name__)

#: Poll interval without records and due timers (seconds). New records wake the loop.
IDLE_SECONDS = 1.0

#: The interval after a turn with records (seconds). Only longer reads are interrupted by `stop`, which takes a task per read.
PROMPT_SECONDS = 0.2

#: Heartbeats cause no output. After this many records or microseconds the input offset is written anyway, so that a restart
#: need not read them again.
CHECKPOINT_RECORDS = 10_000
CHECKPOINT_US = 60_000_000

#: Due timers may have to wait for reports that are not readable yet (after the start of an open transaction): poll interval
#: (seconds).
HIDDEN_SECONDS = 0.05

#: Interval of housekeeping other than marks (microseconds), which takes longer than a transaction.
HOUSEKEEPING_US = 250_000

#: Backoff between attempts to take over a partition (seconds): first, and longest.
RETRY_SECONDS = (0.05, 2.0)


class MissingHistory(HubError):
    """Unprocessed records of the intake were deleted, or the changelog was lost: continuing would lose tasks."""


def outage_log() -> OutageLog:
    """The log of outages shared by the partitions of a process, so that each cause is logged once."""
    return OutageLog(log, action="engine_retry", over="engine_outage_over")


class PartitionLoop:
    """Owns one engine partition while `run` is running. `on_ready` is called after each take-over; `outages` is shared by the
    partitions of a process. `owner` is the host and process id in `engine.started`, by default those of this process.
    `idle_seconds`: see IDLE_SECONDS; must be less than STOPPED_US. `figures` of the partition continue."""

    def __init__(
        self,
        broker: EngineBroker,
        partition: int,
        partitions: int,
        *,
        settings: EngineSettings | None = None,
        loop_settings: LoopSettings | None = None,
        snapshots: Path | None = None,
        on_ready: Callable[[int], None] | None = None,
        outages: OutageLog | None = None,
        now_us: Callable[[], int] | None = None,
        idle_seconds: float = IDLE_SECONDS,
        owner: tuple[str, int] | None = None,
        figures: PartitionFigures | None = None,
    ) -> None:
        self._broker = broker
        self.partition = partition
        self._partitions = partitions
        self._settings = settings or EngineSettings()
        self._loop_settings = loop_settings or LoopSettings()
        self._on_ready = on_ready
        self._outages = outages or outage_log()
        self.clock = PartitionClock(partition, now_us or SteadyClock().now_us)
        self._pulse = Pulse(self.clock.now_us)
        self._idle_max_seconds = idle_seconds
        self._host, self._pid = owner or (socket.gethostname(), os.getpid())
        self._stopping = asyncio.Event()
        self._tasks = ServiceTasks(f"engine partition {partition}", lambda _: self.stop())
        self.changelog = Changelog(
            broker,
            partition,
            partitions,
            folder=snapshots,
            settings=self._loop_settings,
            now_us=self.clock.now_us,
            tasks=self._tasks,
        )
        self._known = Known()
        self._events_log, self._state_log = TopicPartition(EVENTS, partition), TopicPartition(STATE, partition)
        self._pools = PoolWatch(broker)
        self._quarantine = Quarantine(partition)
        self._marks = IntakeMarks(self._loop_settings.intake_retention_seconds)
        self._housekeeping = Housekeeping(broker, partition, self._settings, self._tasks)
        self._housekeeping_due_us = 0
        self.fenced = False
        self.offset = 0
        self.transactions = 0
        self._progress = LoopProgress()
        self.figures = figures or PartitionFigures()

    def stop(self) -> None:
        """Request the loop to end after the current transaction; `run` then writes `engine.stopped` and returns."""
        self._stopping.set()

    @property
    def progress(self) -> PartitionProgress:
        """How current the partition is."""
        seen, rejects = self._progress, self._housekeeping.level == "low"
        return PartitionProgress(self.partition, seen.lag, seen.commit_age_seconds, seen.watermark_age_seconds, rejects)

    async def run(self) -> None:
        """Own the partition until `stop`, or until another owner fences this one (`fenced` is then true).

        Waits for an unreachable broker. After a failure the state is discarded and restored after a backoff. The second
        identical failure is raised, and so are MissingHistory and other errors that a restart cannot fix. A background task
        that fails has the loop end as `stop` does, and its error is raised.
        """
        await self._own_until_stopped()
        self._tasks.raise_failure()

    async def _own_until_stopped(self) -> None:
        delay = RETRY_SECONDS[0]
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._own()
                continue
            except SessionFenced:
                self.fenced = True
                log.warning("another owner has taken over the partition", action="engine_fenced", partition=self.partition)
                return
            except (SessionFailed, Unreachable, TimeoutError, OSError) as reason:
                about = {"partition": self.partition, "reason": str(reason) or repr(reason), "seconds": delay}
                self._outages.failed(self.partition, cause_of(reason), "starting over", **about)
            except HubError:
                raise
            except Exception as failure:
                self._quarantine.learn(failure, self.offset)
            if asyncio.get_running_loop().time() - began > 10:
                delay = RETRY_SECONDS[0]
            await set_within(self._stopping, delay)
            delay = min(delay * 2, RETRY_SECONDS[1])

    async def _own(self) -> None:
        session = await self._broker.session(self.partition)
        try:
            partition, rows, from_snapshot = await self._restore()
            intake = await self._intake(partition)
            try:
                pools = await self._broker.pools()
                self._known = structs.replace(self._known, pools=frozenset(pools))
                batch = partition.take_over(
                    self.clock.now_us(), rows=rows, host=self._host, pid=self._pid, pools=pools, snapshot=from_snapshot
                )
                await self._write(session, partition, batch)
                log.info(
                    "partition taken over", action="engine_started", partition=self.partition, epoch=partition.epoch, rows=rows
                )
                self._outages.works(self.partition)
                if self._on_ready is not None:
                    self._on_ready(self.partition)
                await self._go(session, partition, intake)
            finally:
                await intake.close()
        finally:
            self._pulse.end()
            self.figures.end()
            await self._housekeeping.close()
            await self.changelog.close()
            await session.close()

    async def _intake(self, partition: EnginePartition) -> Intake:
        """Open the intake at the offset of the restored state. Without state, the intake must start at offset 0."""
        try:
            intake = await self._broker.intake(self.partition, partition.offset)
            log_start = intake.log_start
        except OffsetOutOfRange:
            if partition.epoch > 0:
                raise
            log_start = 1
        if partition.epoch == 0 and log_start > 0:
            raise MissingHistory(
                f"partition {self.partition} has no state, but its intake does not start at offset 0: the changelog "
                "hub.state was lost. Restore it, or start with new topics."
            )
        return intake

    async def _go(self, session: TransactionalSession, partition: EnginePartition, intake: Intake) -> None:
        """Until `stop`: 1. read, 2. advance the time watermark, 3. decide and commit, 4. look for new pools."""
        max_records = self._loop_settings.max_records
        stopping, quarantine = self._stopping.is_set, self._quarantine
        timeout = 0.0
        looked_us = self.clock.now_us()
        watermark = TimeWatermark()
        written_at, written_us = partition.offset, looked_us
        while not stopping():
            phases = quarantine.phases(partition.offset)
            records = await self._read(session, partition, intake, max_records if phases == ("all",) else 1, timeout)
            now_us = self.clock.now_us()
            self._pulse.begin(now_us)
            if now_us - looked_us > STOPPED_US:  # the known end of the log may be as old as the gap
                self._extend_deadlines(partition, now_us - looked_us)
            else:
                end_us = now_us - round((asyncio.get_running_loop().time() - intake.end_at) * 1e6)
                watermark.read(position=intake.position, end=intake.end, end_us=end_us)
            self._known = structs.replace(self._known, time_watermark_us=watermark.time_us)
            idle = not records
            for phase in phases:
                taken, began = (records if phase in ("all", "records") else ()), self.figures.clock()
                batch = self._decide(partition, taken, now_us, phase)
                seconds = self.figures.clock() - began
                if batch is not None:
                    await self._commit(session, partition, *batch)
                    written_at, written_us, idle = partition.offset, now_us, False
                if batch is not None or taken:
                    self.figures.decided(seconds, len(taken))
                self.offset = partition.offset
            if partition.offset - written_at > CHECKPOINT_RECORDS or (
                partition.offset > written_at and now_us - written_us > CHECKPOINT_US
            ):
                await self._write(session, partition, partition.checkpoint(now_us))
                written_at, written_us = partition.offset, now_us
            await self._keep_house(session, partition, now_us)
            found = self._pools.is_due and await self._look_for_pools()
            looked_us = self.clock.now_us()
            age_us = None if watermark.time_us is None else looked_us - watermark.time_us
            self._progress.turned(position=intake.position, end=intake.end, watermark_age_us=age_us)
            if idle:
                self.figures.count()
            longest = self._idle_max_seconds if idle else min(PROMPT_SECONDS, self._idle_max_seconds)
            due_us = partition.next_due()
            timeout = 0.0 if found else _seconds_until(due_us, looked_us, longest)
            if idle and not found and due_us is not None and due_us <= partition.now_us:  # it was due in this turn, too
                timeout = HIDDEN_SECONDS
            looked_us -= self._pulse.end()
        await self._write(session, partition, partition.leave(self.clock.now_us()))

    async def _read(
        self, session: TransactionalSession, partition: EnginePartition, intake: Intake, max_records: int, timeout: float
    ) -> list[StoredRecord]:
        """The next records; none if `stop` is called during a long wait. If they were deleted, another owner may have processed
        them; then SessionFenced is raised."""
        try:
            if timeout <= PROMPT_SECONDS:
                return await intake.read(max_records, timeout)
            reading = await run_until(self._stopping, intake.read(max_records, timeout))
            return [] if reading.cancelled() else reading.result()
        except OffsetOutOfRange:
            await self._write(session, partition, partition.checkpoint(self.clock.now_us()))
            raise

    def _decide(
        self, partition: EnginePartition, taken: Sequence[StoredRecord], now_us: int, phase: Phase
    ) -> tuple[DecidedBatch, Outputs] | None:
        """Decide a batch. Returns it with its records, or None if there is nothing to write. Raises UnwritableBatch."""
        batch = partition.process(taken, now_us, self._known, phase=phase)
        self._pools.want(batch.unknown_pools)
        if phase == "timers":
            self._quarantine.looked_at_timers(batch.timer)
        outputs: Outputs = {}
        if not batch.empty:
            try:
                outputs = encode(batch, self.partition)
                check_fits(outputs)
            except Exception as error:
                raise UnwritableBatch(taken, batch.timer, phase, error) from error
        return None if batch.empty else (batch, outputs)

    def _extend_deadlines(self, partition: EnginePartition, gap_us: int) -> None:
        log.warning(
            "the engine loop did not run for some time; leases are extended by it",
            action="engine_was_stopped",
            partition=self.partition,
            seconds=round(gap_us / 1e6, 3),
        )
        partition.extend_deadlines(gap_us)

    async def _keep_house(self, session: TransactionalSession, partition: EnginePartition, now_us: int) -> None:
        """Write marks, delete old intake, and react to changes of the free disk space."""
        house, marks = self._housekeeping, self._marks
        if marks.due(now_us, partition.offset):
            await self._write(session, partition, partition.checkpoint(now_us, marks.note(now_us, partition.offset)))
        if now_us < self._housekeeping_due_us:
            return
        self._housekeeping_due_us = now_us + HOUSEKEEPING_US
        house.trim(marks.deletable(now_us))
        written = partition.state.engine_row.storage
        house.look(written)
        change = house.storage_change(written)
        if change is not None:
            await self._write(session, partition, partition.storage_changed(now_us, change))

    async def _write(self, session: TransactionalSession, partition: EnginePartition, batch: DecidedBatch) -> None:
        """Commit a batch created by the loop itself, which always fits."""
        await self._commit(session, partition, batch, encode(batch, self.partition))

    async def _look_for_pools(self) -> bool:
        """Whether a pool that a worker named, and that was not known, has got its topic."""
        pools, found = await self._pools.look()
        self._known = structs.replace(self._known, pools=self._known.pools | pools)
        return found

    async def _commit(
        self, session: TransactionalSession, partition: EnginePartition, batch: DecidedBatch, outputs: Outputs
    ) -> None:
        began = self.figures.clock()
        offsets = await session.commit(outputs)
        size = sum([len(record.value or b"") for record in outputs.get(self._events_log, ())])
        self.figures.committed(batch.events, size, batch.now_us, began)
        self.transactions += 1
        if (first := offsets.get(self._events_log)) is not None:
            self._known = structs.replace(self._known, events_offset=first + len(batch.events))
        if batch.rows:
            last = offsets[self._state_log] + len(batch.rows) - 1
            self.changelog.committed(batch.rows, sum(len(key) + len(value or b"") for key, value in batch.rows), last)

    # Restoring

    def _build(self, folded: Snapshot) -> tuple[EnginePartition, int]:
        """Build the partition from these rows. Returns it and the number of rows. Raises MalformedRows, FormatMismatch."""
        check_format(folded.rows.get(META_KEY), f"{STATE}-{self.partition}")
        partition = EnginePartition(self.partition, self._partitions, self._settings)
        with no_collections():
            count = partition.restore(folded.rows.items(), self.clock.now_us(), folded.timed)
        try:
            self._marks.restore(folded.rows.get(INTAKE_KEY), partition.offset)
        except MsgspecError as error:
            raise MalformedRows(f"{INTAKE_KEY.decode()}: {error}") from error
        return partition, count

    async def _restore(self) -> tuple[EnginePartition, int, bool]:
        began = self.figures.clock()
        async with asyncio.timeout(self._loop_settings.restore_seconds):
            folded, from_snapshot = await self.changelog.fold()
            try:
                partition, count = self._build(folded)
            except MalformedRows as why:
                log.error("hub.state holds foreign records", action="engine_rows", partition=self.partition, reason=str(why))
                folded, from_snapshot = await self.changelog.fold_checked(), False
                partition, count = self._build(folded)
        self.clock.continue_from(partition.now_us)
        self._known = Known(
            events_offset=await self._broker.events_end(self.partition),
            poison_records=self._quarantine.records,
            poison_timers=self._quarantine.timers,
        )
        self.offset = partition.offset
        self.figures.begin(partition.state, partition.restored)
        self.figures.restore_seconds.record(self.figures.clock() - began)
        return partition, count, from_snapshot


def _seconds_until(due_us: int | None, now_us: int, longest: float) -> float:
    """The seconds until `due_us`, at most `longest`, which is also the result if nothing is due."""
    return longest if due_us is None else min(max((due_us - now_us) / 1e6, 0.0), longest)


__all__ = ["LoopSettings", "MissingHistory", "PartitionLoop"]
