"""The loop around an engine partition: take over, read, decide, commit; on any doubt drop everything and take over again.

Start order (each step needs the one before): 1 open the session, which fences the former owner and ends its transaction;
2 restore rows from snapshot and changelog up to the last stable offset; 3 the intake at the offset that `!meta` says (never a
group's); 4 commit the take-over (epoch, `engine.started`); 5 go.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from ..core.rows import META_KEY, meta_row_decoder
from ..errors import HubError, Unreachable
from ..kafka import (
    EVENTS,
    STATE,
    OffsetOutOfRange,
    RecordTooLarge,
    SessionFailed,
    SessionFenced,
    StoredRecord,
    TopicPartition,
    TransactionalSession,
)
from .encode import encode
from .partition import Batch, EnginePartition, Undecidable
from .ports import EngineBroker, Intake
from .settings import EngineSettings, LoopSettings
from .snapshots import Doubtful, Rows, Snapshot, check_goes_on, mark_of, read_snapshot, snapshot_path, write_snapshot

log = structlog.get_logger(__name__)

#: Without any record or due item the loop looks around this often (seconds): so long may it take to notice `stop`.
IDLE_SECONDS = 0.2

#: Heartbeats cause nothing that is written. Their place in the intake is, after so many records or microseconds: a restart
#: need not read them again.
CHECKPOINT_RECORDS = 10_000
CHECKPOINT_US = 60_000_000

#: What is due may have to wait for words that cannot be read yet (behind an open transaction): look again after this time
#: (seconds).
HIDDEN_SECONDS = 0.05

#: The loop looks around several times a second. A much longer gap means that this process did not run (it was stopped, or
#: starved): then workers may have been stopped, too, and their silence says nothing.
STOPPED_US = 4_000_000

#: Between attempts to take a partition over (seconds): first, and at most.
RETRY_SECONDS = (0.05, 2.0)


class MissingHistory(HubError):
    """The intake no longer holds what has not been decided, or the changelog is gone: going on would lose tasks."""


class PartitionLoop:
    """Owns one engine partition for as long as `run` runs. `on_ready` is called whenever it has taken over."""

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
        now_us: Callable[[], int] | None = None,
    ) -> None:
        self._broker = broker
        self.partition = partition
        self._partitions = partitions
        self._settings = settings
        self._loop_settings = loop_settings or LoopSettings()
        self._snapshots = snapshots
        self._on_ready = on_ready
        self._now_us = now_us or SteadyClock().now_us
        self._stopping = asyncio.Event()
        self._changelog_bytes = 0
        self._snapshotting: asyncio.Task[None] | None = None
        self._ahead_us = 0
        self._undecidable: dict[int, str] = {}
        self._one_by_one_until = -1
        self.fenced = False
        self.offset = 0
        self.transactions = 0

    def stop(self) -> None:
        """Ask the loop to end after the transaction at hand; `run` then says `engine.stopped` and returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Own the partition until `stop`, or until another owner has fenced this one (`fenced` is then true).

        Raises MissingHistory, RecordTooLarge, and whatever breaks an invariant; a broker that is away is waited for.
        """
        delay = RETRY_SECONDS[0]
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._own()
            except Undecidable as why:
                self._learn(why)
            except SessionFenced:
                self.fenced = True
                log.warning("another owner has taken over", action="engine_fenced", partition=self.partition)
                return
            except RecordTooLarge as why:
                log.error(
                    "this partition stops: what it decided does not fit into a record, and nothing of it was written. Report it,"
                    " with the records of hub.intake before this offset; a hub that bounds it goes on from there",
                    action="engine_output_too_large",
                    partition=self.partition,
                    topic=why.topic,
                    bytes=why.size,
                    bytes_max=why.limit,
                    offset=self.offset,
                )
                raise
            except (SessionFailed, Unreachable, TimeoutError, OSError) as reason:
                if time.monotonic() - began > 10:
                    delay = RETRY_SECONDS[0]
                log.warning("starting over", action="engine_retry", partition=self.partition, reason=repr(reason), seconds=delay)
                await _wait(self._stopping, delay)
                delay = min(delay * 2, RETRY_SECONDS[1])

    def _learn(self, why: Undecidable) -> None:
        """Something in these records cannot be decided: find out which one, and set it aside."""
        if why.first == why.last:
            self._undecidable[why.first] = why.reason
        self._one_by_one_until = why.last
        log.error(
            "a record could not be decided: it is looked for, and set aside",
            action="engine_undecidable",
            partition=self.partition,
            first=why.first,
            last=why.last,
            exc_info=why,
        )

    async def _own(self) -> None:
        session = await self._broker.session(self.partition)
        try:
            partition, rows, from_snapshot = await self._restore()
            intake = await self._intake(partition)
            try:
                pools = await self._broker.pools()
                batch = partition.take_over(
                    self._time(), rows=rows, host=socket.gethostname(), pid=os.getpid(), pools=pools, snapshot=from_snapshot
                )
                await self._commit(session, partition, batch)
                log.info(
                    "partition taken over", action="engine_started", partition=self.partition, epoch=partition.epoch, rows=rows
                )
                if self._on_ready is not None:
                    self._on_ready(self.partition)
                await self._go(session, partition, intake)
            finally:
                await intake.close()
        finally:
            if self._snapshotting is not None:
                self._snapshotting.cancel()
                self._snapshotting = None
            await session.close()

    async def _intake(self, partition: EnginePartition) -> Intake:
        """The intake where the state goes on. A first start is one at the log's beginning, and no other."""
        try:
            intake = await self._broker.intake(self.partition, partition.offset)
            log_start = intake.log_start
        except OffsetOutOfRange:
            if partition.epoch > 0:
                raise
            log_start = 1
        if partition.epoch == 0 and log_start > 0:
            raise MissingHistory(
                f"partition {self.partition} has no state, but its intake does not begin at offset 0: the changelog "
                "hub.state was lost. Restore it, or start with new topics."
            )
        return intake

    async def _go(self, session: TransactionalSession, partition: EnginePartition, intake: Intake) -> None:
        max_records = self._loop_settings.max_records
        stopping = self._stopping.is_set
        timeout = 0.0
        looked_us = self._time()
        heard = Heard()
        written_at, written_us = partition.offset, looked_us
        while not stopping():
            careful = partition.offset <= self._one_by_one_until
            records = await intake.read(1 if careful else max_records, timeout)
            now_us = self._time()
            if now_us - looked_us > STOPPED_US:
                log.warning(
                    "this process was stopped for a while", action="engine_was_stopped", seconds=(now_us - looked_us) / 1e6
                )
                partition.forgive(now_us - looked_us)
            looked_us = now_us
            end_us = now_us - round((asyncio.get_running_loop().time() - intake.end_at) * 1e6)
            heard.read(position=intake.position, end=intake.end, end_us=end_us)
            batch = partition.process(records, now_us, heard_until_us=heard.until_us)
            self.offset = batch.offset
            if not batch.empty:
                await self._commit(session, partition, batch)
                self._consider_snapshot()
                written_at, written_us = batch.offset, now_us
            elif batch.offset > written_at and (
                batch.offset - written_at > CHECKPOINT_RECORDS or now_us - written_us > CHECKPOINT_US
            ):
                await self._commit(session, partition, partition.checkpoint(now_us))
                written_at, written_us = batch.offset, now_us
            if partition.unknown_pools:
                partition.know_pools(await self._broker.pools())
            timeout = self._idle_seconds(partition)
            if timeout == 0.0 and batch.empty and not records:
                timeout = HIDDEN_SECONDS
        await self._commit(session, partition, partition.leave(self._time()))

    async def _commit(self, session: TransactionalSession, partition: EnginePartition, batch: Batch) -> None:
        offsets = await session.commit(encode(batch, self.partition))
        self.transactions += 1
        events = TopicPartition(EVENTS, self.partition)
        if events in offsets:
            partition.events_floor = offsets[events] + len(batch.events)
        self._changelog_bytes += sum(len(key) + len(value or b"") for key, value in batch.rows)

    def _idle_seconds(self, partition: EnginePartition) -> float:
        due_us = partition.next_due()
        if due_us is None:
            return IDLE_SECONDS
        return min(max((due_us - self._time()) / 1e6, 0.0), IDLE_SECONDS)

    def _time(self) -> int:
        """Microseconds since the epoch, by a clock that never goes back: not even behind what a former owner wrote."""
        return self._now_us() + self._ahead_us

    def _go_on_from(self, written_us: int) -> None:
        behind_us = written_us - self._time()
        if behind_us > 0:
            self._ahead_us += behind_us
            if behind_us > STOPPED_US:
                log.warning(
                    "the clock is behind the log: time goes on from the log's",
                    action="engine_clock_behind",
                    partition=self.partition,
                    seconds=round(behind_us / 1e6, 3),
                )

    # Restoring

    async def _restore(self) -> tuple[EnginePartition, int, bool]:
        async with asyncio.timeout(self._loop_settings.restore_seconds):
            folded, from_snapshot = await self._fold_changelog()
        partition = EnginePartition(self.partition, self._partitions, self._settings)
        partition.undecidable = self._undecidable
        count = partition.restore(folded.rows.items(), self._time())
        self._go_on_from(partition.now_us)
        partition.events_floor = await self._broker.events_end(self.partition)
        self.offset = partition.offset
        return partition, count, from_snapshot

    async def _fold_changelog(self) -> tuple[Snapshot, bool]:
        """The last row of every key, from the snapshot (where it can be gone on from) and what came after it; whether a snapshot
        was used."""
        if self._snapshots is not None:
            path = snapshot_path(self._snapshots, self.partition)
            known = await asyncio.to_thread(read_snapshot, path, partitions=self._partitions)
            if known is not None:
                try:
                    return await self._fold(known), True
                except (Doubtful, OffsetOutOfRange) as why:
                    log.info(
                        "snapshot ignored", action="snapshot_ignored", partition=self.partition, path=str(path), reason=str(why)
                    )
        return await self._fold(None), False

    async def _fold(self, known: Snapshot | None) -> Snapshot:
        """`known` and the changelog from its last record on, or all of the changelog. Raises Doubtful, OffsetOutOfRange."""
        began_us, replayed = self._time(), 0
        rows, begin = ({}, 0) if known is None else (known.rows, known.last)
        origin = _origin_of(rows)
        last: StoredRecord | None = None
        async for record in self._broker.changelog(self.partition, begin):
            if last is None and known is not None:
                check_goes_on(known, record, began_us, self._loop_settings.tombstones_seconds)
            last = record
            if record.key is None:
                continue
            replayed += len(record.key) + len(record.value or b"")
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
        if known is not None and last is None:
            raise Doubtful("the changelog ends before it")
        if known is not None and _origin_of(rows) != origin:
            raise Doubtful("it is of another changelog")
        self._changelog_bytes = replayed
        if last is None:
            return Snapshot(rows, -1, b"", began_us)
        return Snapshot(rows, last.offset, mark_of(last), began_us, self._loop_settings.tombstones_seconds)

    def _consider_snapshot(self) -> None:
        if self._snapshots is None or self._changelog_bytes < self._loop_settings.snapshot_bytes:
            return
        if self._snapshotting is None or self._snapshotting.done():
            self._changelog_bytes = 0
            self._snapshotting = asyncio.get_running_loop().create_task(self._write_snapshot())

    async def _write_snapshot(self) -> None:
        """From the last snapshot and the committed changelog, not from memory: what is not committed can't get into it."""
        assert self._snapshots is not None
        try:
            folded, _ = await self._fold_changelog()
            path = snapshot_path(self._snapshots, self.partition)
            await asyncio.to_thread(write_snapshot, path, folded, partitions=self._partitions)
            self._changelog_bytes = 0
            about = {"partition": self.partition, "rows": len(folded.rows), "offset": folded.last}
            log.info("snapshot written", action="snapshot_written", **about)
        except (OSError, TimeoutError, HubError) as reason:
            log.warning("no snapshot", action="snapshot_failed", partition=self.partition, reason=repr(reason))


class Heard:
    """Until when everybody has been heard: `until_us`. Silence before that time is silence; later it may only be unread.

    The end of the log moves while it is read, under load faster than anybody reads. So an end is kept, with the time when the log
    ended there, until it has been read; then the next."""

    def __init__(self) -> None:
        self.until_us: int | None = None
        self._mark: tuple[int, int] | None = None

    def read(self, *, position: int, end: int, end_us: int) -> None:
        """The log was read up to `position`; at `end_us` it ended at `end`."""
        if self._mark is not None and position >= self._mark[0]:
            self._hear(self._mark[1])
            self._mark = None
        if position >= end:
            self._hear(end_us)
        elif self._mark is None:
            self._mark = end, end_us

    def _hear(self, time_us: int) -> None:
        self.until_us = max(self.until_us or 0, time_us)


class SteadyClock:
    """Wall clock at the start plus monotonic time since: never jumps, whatever happens to the system's clock."""

    def __init__(self) -> None:
        self._wall_us = time.time_ns() // 1000
        self._monotonic_ns = time.monotonic_ns()

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return self._wall_us + (time.monotonic_ns() - self._monotonic_ns) // 1000


def _origin_of(rows: Rows) -> int:
    """When the log was begun that `rows` were folded from."""
    meta = rows.get(META_KEY)
    return meta_row_decoder.decode(meta).created_us if meta is not None else 0


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


__all__ = ["STATE", "LoopSettings", "MissingHistory", "PartitionLoop", "SteadyClock"]
