"""Runs one subscriber's code: lanes of events, workers that call handlers, retries, dead letters, flushes.

Everything here happens in the subscriber's own thread and loop; only `feed` is called from elsewhere. No handler's exception
leaves a worker: it becomes a retry, a dead letter, a skip or a stop.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from schemas import Event, MalformedEvent, decode_event
from subscribers import Drop, Handler, Meta, Postpone, Subscriber

from ..service import ServiceTasks
from .calls import Calls, Slot
from .config import SubscriberPlan
from .failures import DeadLetterSink, Failures
from .flushing import Flushing
from .lanes import Lane, Lanes
from .selection import Malformed
from .status import Counters
from .window import Item, Session

SLICE_SECONDS = 0.003


class Runner:
    """One opened subscriber. `on_fatal` is called (in this loop) when it must not continue."""

    def __init__(
        self,
        plan: SubscriberPlan,
        instance: Subscriber[Any],
        sink: DeadLetterSink,
        counters: Counters,
        on_fatal: Callable[[Exception], None],
        logger: logging.Logger,
    ) -> None:
        self._plan, self._instance, self._counters = plan, instance, counters
        self._on_fatal, self._log = on_fatal, logger
        self._loop = asyncio.get_running_loop()
        self._lanes = Lanes(plan.delivery.order, self._loop)
        self._inbox: deque[list[Item]] = deque()
        self._woken = self._halted = False
        self._slots = [Slot(self._loop, plan.delivery.timeout_seconds) for _ in range(plan.delivery.concurrency)]
        self._handlers: dict[str, Handler | None] = {}
        self._call = Calls(plan, instance, counters, self._loop).call
        self._failures = Failures(plan, sink, counters, self._fatal, logger)
        flushes = plan.plugin.flush is not Subscriber.flush
        self._flushing = Flushing(plan, instance, self._failures, counters, logger) if flushes else None
        self._rested = asyncio.Event()
        self._tasks = ServiceTasks(f"subscriber {plan.config.id}", self._task_failed)

    @property
    def error(self) -> str | None:
        """What a handler or a flush raised last."""
        return self._failures.error

    # From the feed's thread

    def feed(self, items: list[Item]) -> None:
        """Hand over wanted records, in order of their partition. Callable from any thread; bounded by the session's room."""
        self._inbox.append(items)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._unpack)

    # In the subscriber's loop

    def start(self) -> None:
        """Begin to work on what is fed."""
        for slot in self._slots:
            slot.task = self._tasks.keep(self._until_closed(partial(self._work, slot)), f"{self._plan.config.id} worker")
        if self._flushing is not None:
            self._tasks.keep(self._until_closed(self._flushing.keep), f"{self._plan.config.id} flush")

    async def _until_closed(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            if self._halted:
                raise
            raise RuntimeError("a worker was cancelled by the subscriber's own code") from None

    def _task_failed(self, error: BaseException) -> None:
        self._fatal(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _fatal(self, error: Exception) -> None:
        if not self._halted:
            self._halted = True
            self._on_fatal(error)

    def _unpack(self) -> None:
        self._woken = False
        while self._inbox:
            items = self._inbox.popleft()
            if not items[0].session.revoked:
                self._lanes.add(items)

    async def _work(self, slot: Slot) -> None:
        loop, lanes = self._loop, self._lanes
        slice_ends = loop.time() + SLICE_SECONDS
        while True:
            lane = None if self._halted else lanes.take()
            if lane is None:
                await lanes.wait() if not self._halted else await loop.create_future()
                slice_ends = loop.time() + SLICE_SECONDS
                continue
            slot.active = True
            try:
                while True:
                    delay = await self._step(slot, lane)
                    if delay is not None:
                        lanes.later(lane, delay)
                        break
                    if loop.time() > slice_ends:
                        await asyncio.sleep(0)
                        slice_ends = loop.time() + SLICE_SECONDS
                    if self._halted or not lane.items or lane.batch is not None:
                        lanes.release(lane)
                        break
            except asyncio.CancelledError:
                if not slot.abandoned:
                    raise
                slot.calm()
            finally:
                slot.active = slot.abandoned = False
                self._rested.set()

    async def _step(self, slot: Slot, lane: Lane) -> float | None:
        """Handle what is first in the lane. Returns the seconds after which to try it again, None when it is done with."""
        if lane.batch is None:
            item = lane.items[0]
            part = [item]
        else:
            if not lane.parts:
                lane.parts.append([lane.items.popleft() for _ in range(min(lane.batch.max, len(lane.items)))])
            part = lane.parts[0]
        if part[0].session.revoked:
            self._done(lane)
            return None
        try:
            if lane.batch is None:
                await self._handle_one(slot, item)
            else:
                await self._handle_batch(slot, lane, part)
                part = lane.parts[0]
        except Postpone as wish:
            self._counters.postponed += len(part)
            return wish.after_seconds
        except Drop as wish:
            self._counters.dropped += len(part)
            self._log.info("dropped %d event(s): %s", len(part), wish.reason, extra={"action": "events_dropped"})
        except Exception as error:
            part = lane.parts[0] if lane.batch is not None else part
            return await self._failed(lane, part, error)
        else:
            self._counters.delivered += len(part)
            if self._flushing is not None:
                self._flushing.add(part)
                self._done(lane)
                return None
        for item in part:
            item.finish()
        self._done(lane)
        return None

    def _done(self, lane: Lane) -> None:
        if lane.batch is None:
            lane.items.popleft()
        else:
            lane.parts.popleft()

    async def _handle_one(self, slot: Slot, item: Item) -> None:
        route = item.route
        if not isinstance(route, Handler):
            raise MalformedEvent("header ce_type is missing" if isinstance(route, Malformed) else "no route")
        event = self._decode(item)
        given = event if route.whole else event.data
        if route.takes_meta:
            await self._call(slot, route, given, Meta(event, item.partition, item.offset, item.failures + 1))
        else:
            await self._call(slot, route, given)

    def _decode(self, item: Item) -> Event:
        """The event of a record, for the handler that it was routed to. Raises MalformedEvent."""
        event = decode_event(item.value, item.headers)
        try:
            handler = self._handlers[event.type]
        except KeyError:
            handler = self._handlers[event.type] = self._plan.plugin.handler_of(event.type)
        if handler is not item.route:
            raise MalformedEvent("header ce_type is there more than once, with different types")
        return event

    async def _handle_batch(self, slot: Slot, lane: Lane, part: list[Item]) -> None:
        """Decode all, dead-letter those that are not events, hand over the others (they become the lane's first part)."""
        route = part[0].route
        assert isinstance(route, Handler)
        decoded, sound = [], []
        for item in part:
            try:
                event = self._decode(item)
            except MalformedEvent as error:
                await self._failures.set_aside(item, error)
                continue
            sound.append(item)
            decoded.append((event, Meta(event, item.partition, item.offset, item.failures + 1)))
        lane.parts[0] = sound
        if not sound:
            return
        events = [event if route.whole else event.data for event, _ in decoded]
        if route.takes_meta:
            await self._call(slot, route, events, [meta for _, meta in decoded])
        else:
            await self._call(slot, route, events)

    # Failures

    async def _failed(self, lane: Lane, part: list[Item], error: Exception) -> float | None:
        """A handler raised for `part`: when to try again; None when it was dealt with for good."""
        failures = self._failures
        failures.note(part, error)
        delay = failures.redelivery_delay(part, error)
        if delay is not None:
            return delay
        if len(part) > 1:  # a batch: halve it until the event that spoils it stands alone
            lane.parts.popleft()
            lane.parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            return 0.0
        if isinstance(error, MalformedEvent):
            await failures.set_aside(part[0], error)
        elif not await failures.give_up(part[0], error):
            return 0.0
        self._done(lane)
        return None

    # Drain, close

    async def drain(self, session: Session, timeout_seconds: float) -> None:
        """The session's partitions are leaving: begin nothing more, let what runs end (then cancel it), flush."""
        session.revoked = True
        self._lanes.clear()
        deadline = self._loop.time() + timeout_seconds
        while self._working() and (left := deadline - self._loop.time()) > 0:
            self._rested.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._rested.wait()
        for slot in self._slots:
            if slot.active and slot.task is not None:
                slot.abandoned = True
                slot.task.cancel()
        if self._working():
            await asyncio.sleep(0.05)
        if self._flushing is not None:
            await self._flushing.finish(session, timeout_seconds)

    def _working(self) -> bool:
        return any(slot.active for slot in self._slots)

    async def close(self, timeout_seconds: float) -> None:
        """End the workers, then the subscriber, which has `timeout_seconds` for it."""
        self._halted = True
        self._tasks.request_cancel()
        await self._tasks.wait(1.0)
        for slot in self._slots:
            if slot.timer is not None:
                slot.timer.cancel()
        async with asyncio.timeout(timeout_seconds):
            await self._instance.close()
