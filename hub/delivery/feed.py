"""Reads the log for one subscriber, passes on the events it wants, and commits the acknowledged offsets.

Runs in the service's loop. One `Feed` is one consumer. After any error, when its position does not advance although the log does,
or without a response for several seconds, it ends with `Disconnected`, and the supervisor creates another. Committed offsets are
always correct, so a new consumer repeats the events of at most one second.

At an assignment: 1. a partition without a committed offset begins at the end of the log (or at its start), and that offset is
committed immediately, so that a crash before the first event loses none; 2. reading begins. At a revocation: 1. no more handlers
begin, running ones may end; 2. sinks flush; 3. the offsets are committed; 4. the partitions are released.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Literal

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from ..errors import HubError
from ..kafka import Chunk, RecordPicker, leaders_away
from .progress import Progress, Silence
from .selection import Selection
from .status import Counters
from .window import Item, Session, Window

POLL_MS = 500
RECORDS_MAX = 500
COMMIT_SECONDS = 1.0
COMMIT_FIRST_SECONDS = 0.05
"""The first commit of an assignment; the following intervals are twice as long each, up to COMMIT_SECONDS. A process that ends
again and again within a second would otherwise deliver the same events each time."""
REQUEST_SECONDS = 5.0
SILENT_SECONDS = 10.0
JOIN_SECONDS = 45.0
KEEP_ALIVE_SECONDS = 20.0
UNCOMMITTED_MAX = 50_000
TOPIC_SECONDS = 1.0


class Disconnected(HubError):
    """The consumer cannot continue; it is replaced by a new one."""


class Feed(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One consumer of a subscriber, from its start to its end. `hand_over` is called with the events that `selection` accepts;
    the others are not decoded. `on_commit` is called after offsets were committed."""

    def __init__(
        self,
        consumer: Any,
        topic: str,
        selection: Selection,
        counters: Counters,
        *,
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
        self._picker = RecordPicker(selection)
        self._picker.attach(consumer)
        self._topic = topic
        self._counters = counters
        self._hand_over, self._drain, self._on_commit = hand_over, drain, on_commit
        self._limits = limits
        self._start_from = start_from
        self._log = logger
        self._resumed = asyncio.Event()
        self._progress = Progress()
        self._silence = Silence(topic, logger)
        self._paused_windows: set[TopicPartition] = set()
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
            await self._wait_for_topic()
            self._unjoined_since = time.monotonic()
            self._silence.restart()
            self._consumer.subscribe([self._topic], listener=self)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_the_end(self._pump()))
                tasks.create_task(self._until_the_end(self._tend()))
        except* (KafkaError, OSError, TimeoutError, IllegalStateError, Disconnected) as group:
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
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._resumed.set)

        session = Session(*self._limits, wake=wake)
        first_offsets = {}
        lows = await self._consumer.beginning_offsets(assigned) if assigned else {}
        highs = await self._consumer.end_offsets(assigned) if assigned else {}
        for partition in sorted(assigned):
            position, low, high = await self._consumer.committed(partition), lows[partition], highs[partition]
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
        # No await from here on: records that the client may have fetched before this are read again.
        for partition in assigned:
            self._consumer.seek(partition, session.windows[partition.partition].position)
        self._paused_windows.clear()
        positions = {number: window.position for number, window in session.windows.items()}
        self._progress.assign(positions, _by_number(highs), time.monotonic())
        self.session = session
        self.joined.set()
        self._resumed.set()

    async def _give_back(self) -> None:
        session, self.session = self.session, None
        self.joined.clear()
        if session is None or session.revoked:
            return
        await self._drain(session)
        await self._commit(session)

    # Reading

    async def _pump(self) -> None:
        consumer, kept_alive_at = self._consumer, time.monotonic()
        while not self.ending:
            if self._failure is not None:
                raise Disconnected(f"the assignment failed: {self._failure}") from self._failure
            session = self.session
            if session is None:
                await self._is_joined()
                continue
            room = session.room()
            if room == 0:
                kept_alive_at = await self._wait_for_room(session, kept_alive_at)
                continue
            try:
                self._picker.limit = min(room, RECORDS_MAX)
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=1)
            except (NoOffsetForPartitionError, OffsetOutOfRangeError):
                if session is self.session:
                    raise
                continue  # the client read before `_begin` had set the position
            if fetched and session is self.session:
                for partition, chunks in fetched.items():
                    for chunk in chunks:
                        self._take(session, partition, chunk)
                await asyncio.sleep(0)
            elif fetched:
                self._rewind(fetched)

    def _rewind(self, fetched: dict[TopicPartition, list[Chunk]]) -> None:
        """Read records again that arrived while the assignment changed, if their partition is still assigned."""
        session = self.session
        if session is None:  # `_begin` is running and will set the positions
            return
        for partition in fetched:
            window = session.windows.get(partition.partition)
            if window is not None:
                self._consumer.seek(partition, window.position)

    def _take(self, session: Session, partition: TopicPartition, chunk: Chunk) -> None:
        window = session.windows.get(partition.partition)
        if window is None:
            return
        number = partition.partition
        wanted = [Item(session, route, record, number) for record, route in chunk.wanted]
        self._counters.filtered += chunk.size - len(wanted)
        window.position = chunk.next_offset
        window.forget_done()
        if wanted:
            window.pending.extend(wanted)
            session.fed += len(wanted)
            session.fed_bytes += sum([item.size for item in wanted])
            self._hand_over(wanted)
            if len(window.pending) > UNCOMMITTED_MAX:
                self._consumer.pause(partition)
                self._paused_windows.add(partition)

    async def _wait_for_room(self, session: Session, kept_alive_at: float) -> float:
        """Wait for at most 1 s until there is room for more events. From time to time the partitions are paused and the consumer
        is polled, so that it remains in its group."""
        self._resumed.clear()
        session.waiting = True
        if session.has_room(0.5):
            session.waiting = False
            return kept_alive_at
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._resumed.wait()
            return kept_alive_at
        if session is self.session and time.monotonic() - kept_alive_at > KEEP_ALIVE_SECONDS:
            kept_alive_at = time.monotonic()
            ours = self._consumer.assignment()
            self._consumer.pause(*ours)
            await self._consumer.getmany(timeout_ms=0)
            if session is self.session:
                self._consumer.resume(*(ours - self._paused_windows))
        return kept_alive_at

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.joined.wait()
        return self.session is not None

    async def _tend_session(self, session: Session, *, is_early: bool) -> None:
        """Commit; `is_early`: only if an event was acknowledged, and without a look at the log."""
        if is_early and not session.finished:
            return
        try:
            if not is_early:
                await self._look(session)
            await self._commit(session)
            self._silence.end()
        except (CommitFailedError, IllegalStateError) as error:
            self._log.info("commit deferred: the group is rebalancing: %s", error, extra={"action": "commit_deferred"})
        except (KafkaError, TimeoutError, OSError) as error:
            self._silence.note(error, partial(leaders_away, self._consumer._client, self._topic, session.windows))
            if self._silence.seconds > SILENT_SECONDS:
                raise
        if session is self.session and not is_early:
            self._suspect(session)

    async def _look(self, session: Session) -> None:
        """Query the end offsets of the log; advance positions past transaction markers."""
        partitions = [TopicPartition(self._topic, number) for number in session.windows]
        if not partitions:
            return
        async with asyncio.timeout(REQUEST_SECONDS):
            self._progress.ends = _by_number(await self._consumer.end_offsets(partitions))
        for partition in partitions:
            if session is not self.session:
                return
            async with asyncio.timeout(REQUEST_SECONDS):
                position = await self._consumer.position(partition)
            if session is not self.session:
                return
            window = session.windows[partition.partition]
            window.position = max(window.position, position)
            if partition in self._paused_windows and len(window.pending) < UNCOMMITTED_MAX // 2:
                self._paused_windows.discard(partition)
                self._consumer.resume(partition)

    async def _commit(self, session: Session) -> None:
        offsets = self._progress.committable(session)
        if offsets:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._consumer.commit({TopicPartition(self._topic, number): offset for number, offset in offsets.items()})
            self._progress.committed(offsets)
            self._on_commit()

    def _suspect(self, session: Session) -> None:
        """Raise Disconnected if the position does not advance while the log grows (aiokafka #1154)."""
        paused = {partition.partition for partition in self._paused_windows}
        stuck = self._progress.find_stuck(session, paused, time.monotonic())
        if stuck is not None:
            place = f"{self._topic}-{stuck.number} has not advanced beyond offset {stuck.position}"
            raise Disconnected(f"{place} for {stuck.seconds:.0f} s, although the log ends at {stuck.end}")


def _by_number(offsets: dict[TopicPartition, int]) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items()}


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
