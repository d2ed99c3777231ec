"""Reads the log for one subscriber, passes on the events it wants, and commits the acknowledged offsets.

Runs in the service's loop. One `Feed` is one member of the subscriber's group: a consumer without records, for assignments and
commits; the records come from an `AssignmentReader` per assignment. After most errors, when its position does not advance
although the log does, or without a response for several seconds, it ends with `Disconnected`, and the supervisor creates another.
Committed offsets are always correct, so a new one repeats the events of at most one second.

At an assignment: 1. a partition without a committed offset begins at the end of the log (or at its start), and that offset is
committed immediately, so that a crash before the first event loses none; 2. reading begins. At a revocation: 1. no more handlers
begin, running ones may end; 2. sinks flush; 3. the offsets are committed; 4. the partitions are released.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from ..errors import HubError, Unreachable
from ..kafka import Chunk, read_nothing
from ..service import set_within
from .progress import Progress, Silence
from .reading import AssignmentReader
from .status import Counters
from .window import Item, Session, Window

MEMBER_POLL_MS = 20_000
"""Interval at which the consumer is polled, so that it remains in its group."""
RECORDS_MAX = 500
COMMIT_SECONDS = 1.0
COMMIT_FIRST_SECONDS = 0.05
"""The first commit of an assignment; the following intervals are twice as long each, up to COMMIT_SECONDS. A process that ends
again and again within a second would otherwise deliver the same events each time."""
REQUEST_SECONDS = 5.0
SILENT_SECONDS = 10.0
JOIN_SECONDS = 45.0
RETRY_SECONDS = 0.2
UNCOMMITTED_MAX = 50_000
TOPIC_SECONDS = 1.0


class Disconnected(HubError):
    """The consumer cannot continue; it is replaced by a new one."""


class Feed(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One consumer of a subscriber, from its start to its end. `new_reader` creates what reads the partitions of an assignment;
    `hand_over` is called with the events that it selects. `on_commit` is called after offsets were committed."""

    def __init__(
        self,
        consumer: Any,
        topic: str,
        counters: Counters,
        *,
        new_reader: Callable[[], AssignmentReader],
        hand_over: Callable[[list[Item]], None],
        drain: Callable[[Session], Awaitable[None]],
        limits: tuple[int, int],
        start_from: Literal["latest", "earliest"],
        logger: logging.Logger,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.topic_exists = False
        self.ending = False
        self.joined = asyncio.Event()
        self.session: Session | None = None
        self._consumer = consumer
        self._new_reader = new_reader
        self._reader: AssignmentReader | None = None
        self._topic = topic
        self._counters = counters
        self._hand_over, self._drain, self._on_commit = hand_over, drain, on_commit
        self._limits = limits
        self._start_from = start_from
        self._log = logger
        self._resumed = asyncio.Event()
        self._progress = Progress()
        self._silence = Silence(topic, logger)
        self._failure: Exception | None = None
        self._unjoined_since = time.monotonic()

    @property
    def lag(self) -> int:
        """The lag: number of records between the committed offset and the end of the log."""
        return self._progress.lag

    def lag_seconds(self, now_ms: int) -> float | None:
        """The age of the oldest event that was read and is not acknowledged; 0 if there is none, None without an assignment."""
        if self.session is None:
            return None
        oldest_ms = self.session.oldest_ms()
        return 0.0 if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000)

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions assigned to this process."""
        return () if self.session is None else tuple(sorted(self.session.windows))

    # The lifecycle

    async def run(self) -> None:
        """Read until cancelled. Raises Disconnected. In both cases acknowledged offsets are committed if possible."""
        try:
            async with asyncio.timeout(2 * SILENT_SECONDS):
                await self._consumer.start()
            read_nothing(self._consumer)
            await self._wait_for_topic()
            self._unjoined_since = time.monotonic()
            self._silence.restart()
            self._consumer.subscribe([self._topic], listener=self)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_the_end(self._pump()))
                tasks.create_task(self._until_the_end(self._tend()))
                tasks.create_task(self._until_the_end(self._remain_member()))
        except* (KafkaError, OSError, TimeoutError, IllegalStateError, HubError) as group:
            error = _first(group)
            raise Disconnected(f"{type(error).__name__}: {error}") from error
        finally:
            await self._leave()

    async def _until_the_end(self, loop: Coroutine[Any, Any, None]) -> None:
        """Run `loop`, then end the other one, too: a cancellation alone can get lost in `asyncio.wait_for` (before Python 3.12),
        which the client uses."""
        try:
            await loop
        finally:
            self.ending = True

    async def _wait_for_topic(self) -> None:
        while not self.ending:
            async with asyncio.timeout(REQUEST_SECONDS):
                known = await self._consumer.topics()
            if self._topic in known:
                self.topic_exists = True
                return
            await asyncio.sleep(TOPIC_SECONDS)

    async def _leave(self) -> None:
        session = self.session
        with contextlib.suppress(Exception):
            await self._give_back()
        if session is not None:
            session.revoked = True
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._consumer.stop()
        except (Exception, asyncio.CancelledError) as error:
            self._log.warning("could not stop the consumer: %r", error, extra={"action": "consumer_stopped_badly"})
            if isinstance(error, asyncio.CancelledError):
                raise

    # Assignment (called by the consumer, which ignores exceptions raised here: they are kept in `_failure`)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            await self._begin(assigned)
        except Exception as error:
            self._failure = error

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._unjoined_since = time.monotonic()
        try:
            await self._give_back()
        except Exception as error:
            self._log.warning(
                "could not commit before a rebalance; the last events will be redelivered: %s",
                error,
                extra={"action": "commit_missed"},
            )

    async def _begin(self, assigned: set[TopicPartition]) -> None:
        for partition in assigned:  # the consumer itself reads nothing
            self._consumer.pause(partition)
            self._consumer.seek(partition, 0)
        self.session = None
        await self._end_reading()
        reader = self._reader = self._new_reader()
        bounds = await reader.open([partition.partition for partition in assigned])
        session, first_offsets = self._new_session(), dict[TopicPartition, int]()
        for partition in sorted(assigned):
            position, (low, high) = await self._consumer.committed(partition), bounds[partition.partition]
            if position is None:
                position = first_offsets[partition] = low if self._start_from == "earliest" else high
            elif not low <= position <= high:
                self._counters.gaps += 1
                self._log.error("%s: committed offset %d is out of range (%d to %d); resetting to %d",
                                partition, position, low, high, low, extra={"action": "events_missed"})  # fmt: skip
                position = low
            session.windows[partition.partition] = Window(position)
        if first_offsets:
            await self._consumer.commit(first_offsets)
        positions = {number: window.position for number, window in session.windows.items()}
        reader.start(positions)
        self._progress.assign(positions, {number: bound.high for number, bound in bounds.items()}, time.monotonic())
        self.session = session
        self.joined.set()
        self._resumed.set()

    def _new_session(self) -> Session:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._resumed.set)

        return Session(*self._limits, wake=wake)

    async def _give_back(self) -> None:
        session, self.session = self.session, None
        self.joined.clear()
        self._resumed.set()
        await self._end_reading()
        if session is None or session.revoked:
            return
        await self._drain(session)
        await self._commit(session)

    async def _end_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _remain_member(self) -> None:
        """Poll the consumer, whose partitions are all paused."""
        while not self.ending:
            with contextlib.suppress(NoOffsetForPartitionError, OffsetOutOfRangeError):  # before `_begin` has paused them
                await self._consumer.getmany(timeout_ms=MEMBER_POLL_MS)

    # Reading

    async def _pump(self) -> None:
        while not self.ending:
            if self._failure is not None:
                raise Disconnected(f"the assignment failed: {self._failure}") from self._failure
            session, reader = self.session, self._reader
            if session is None or reader is None:
                await self._is_joined()
                continue
            room = session.room()
            if room == 0:
                await self._wait_for_room(session)
                continue
            try:
                chunks = reader.read(min(room, RECORDS_MAX))
            except Unreachable as error:
                self._silence.note(error, reader.away)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not chunks:
                await reader.wait()
            elif self._take(session, reader, chunks) >= RECORDS_MAX:
                await asyncio.sleep(0)

    def _take(self, session: Session, reader: AssignmentReader, chunks: list[Chunk]) -> int:
        """Hand over the wanted records. Returns how many were read."""
        items, read = list[Item](), 0
        for (_, number), size, next_offset, wanted in chunks:
            window = session.windows[number]
            window.position = next_offset
            window.forget_done()
            read += size
            self._counters.filtered += size - len(wanted)
            if wanted:
                found = [Item(session, route, record, number) for record, route, _, _ in wanted]
                window.pending.extend(found)
                items += found
                if len(window.pending) > UNCOMMITTED_MAX:
                    reader.pause(number)
        if items:
            session.fed += len(items)
            session.fed_bytes += sum([item.size for item in items])
            self._hand_over(items)
        return read

    async def _wait_for_room(self, session: Session) -> None:
        """Wait until there is room for more events, or the session has ended."""
        self._resumed.clear()
        session.waiting = True
        if session is not self.session or session.has_room(0.5):
            session.waiting = False
        else:
            await self._resumed.wait()

    # Commits, lag, detection of a stuck consumer

    async def _tend(self) -> None:
        known, interval = self.session, COMMIT_SECONDS
        while not self.ending:
            if not await self._is_joined():
                if time.monotonic() - self._unjoined_since > JOIN_SECONDS:
                    raise Disconnected(f"no assignment for {JOIN_SECONDS:g} s")
                continue
            if self.session is not known:
                known, interval = self.session, COMMIT_FIRST_SECONDS
            await asyncio.sleep(interval)
            if (session := self.session) is not None:
                await self._tend_session(session, is_early=interval < COMMIT_SECONDS)
            interval = min(COMMIT_SECONDS, 2 * interval)

    async def _is_joined(self) -> bool:
        """Whether partitions are assigned; waits up to 1 s for that."""
        await set_within(self.joined, 1.0)
        return self.session is not None

    async def _tend_session(self, session: Session, *, is_early: bool) -> None:
        """Commit; `is_early`: only if an event was acknowledged, and without a look at the log."""
        if is_early and not session.finished:
            return
        reader = self._reader
        if reader is None:
            return
        try:
            if not is_early:
                await self._look(session, reader)
            await self._commit(session)
            if not is_early:
                self._silence.end()
        except (CommitFailedError, IllegalStateError) as error:
            self._log.info("commit deferred: the group is rebalancing: %s", error, extra={"action": "commit_deferred"})
        except (KafkaError, TimeoutError, OSError, Unreachable) as error:
            if session is not self.session:
                return
            self._silence.note(error, reader.away, reader.overdue_seconds)
            if self._silence.seconds > SILENT_SECONDS:
                raise
        if session is self.session and not is_early:
            self._suspect(session, reader)

    async def _look(self, session: Session, reader: AssignmentReader) -> None:
        """Update the end offsets of the log; advance positions past transaction markers."""
        async with asyncio.timeout(REQUEST_SECONDS):
            ends = await reader.ends(ask=self._silence.is_noted)
        if session is not self.session:
            return
        self._progress.ends = ends
        for number, window in session.windows.items():
            window.position = max(window.position, reader.position(number))
            if number in reader.paused and len(window.pending) < UNCOMMITTED_MAX // 2:
                reader.resume(number)

    async def _commit(self, session: Session) -> None:
        offsets = self._progress.committable(session)
        if offsets:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._consumer.commit({TopicPartition(self._topic, number): offset for number, offset in offsets.items()})
            self._progress.committed(offsets)
            self._on_commit()

    def _suspect(self, session: Session, reader: AssignmentReader) -> None:
        """Raise Disconnected if the position does not advance while the log grows."""
        stuck = self._progress.find_stuck(session, reader.paused, time.monotonic())
        if stuck is not None:
            place = f"{self._topic}-{stuck.number} has not advanced beyond offset {stuck.position}"
            raise Disconnected(f"{place} for {stuck.seconds:.0f} s, although the log ends at {stuck.end}")


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
