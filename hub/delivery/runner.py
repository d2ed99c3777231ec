"""Runs one subscriber's code: lanes of events, workers that call handlers, retries, dead letters, flushes.

Everything here happens in the subscriber's own thread and loop; only `feed` is called from elsewhere. No handler's exception
leaves a worker: it becomes a retry, a dead letter, a skip or a stop.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from schemas import Event, MalformedEvent, decode_event
from subscribers import Drop, Handler, Meta, Postpone, Subscriber

from ..errors import HubError
from ..throttle import LogThrottle
from .config import Plan
from .lanes import Lane, Lanes
from .selection import Malformed
from .status import Counters
from .window import Item, Session

SLICE_SECONDS = 0.003
FLUSH_SECONDS = 1.0
JITTER = 0.1


class StoppedByPolicy(HubError):
    """An event could not be delivered and the subscriber's policy is to stop before it."""


class HandlerTimeout(TimeoutError):
    """A handler did not return in its time."""


class DeadLetterSink(Protocol):
    """Where events go that could not be delivered. Returns when the event is safe there; callable from any loop."""

    async def put(self, plan: Plan, item: Item) -> None: ...


class Slot:
    """A worker's seat: what runs on it, since when, and the timer that ends it."""

    __slots__ = ("abandoned", "active", "busy", "deadline", "loop", "task", "timed_out", "timeout_seconds", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_seconds: float) -> None:
        self.loop = loop
        self.timeout_seconds = timeout_seconds
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.deadline = 0.0
        self.busy = self.active = self.timed_out = self.abandoned = False

    def begin(self, now: float) -> None:
        """A handler is about to be called. The timer is armed once and follows the deadline: nearly free per event."""
        self.busy, self.timed_out = True, False
        self.deadline = now + self.timeout_seconds
        if self.timer is None:
            self.timer = self.loop.call_at(self.deadline, self._due)

    def _due(self) -> None:
        self.timer = None
        if not self.busy or self.task is None:
            return
        if self.loop.time() >= self.deadline:
            self.timed_out = True
            self.deadline = self.loop.time() + self.timeout_seconds  # a handler that swallows the cancel gets another
            self.task.cancel()
        self.timer = self.loop.call_at(self.deadline, self._due)

    def calm(self) -> None:
        """Take back the cancels that were meant for the handler."""
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()


class Runner:
    """One opened subscriber. `on_fatal` is called (in this loop) when it must not continue."""

    def __init__(
        self,
        plan: Plan,
        instance: Subscriber[Any],
        sink: DeadLetterSink,
        counters: Counters,
        on_fatal: Callable[[Exception], None],
        logger: logging.Logger,
    ) -> None:
        self.error: str | None = None
        self._plan, self._instance, self._sink, self._counters = plan, instance, sink, counters
        self._on_fatal, self._log = on_fatal, logger
        self._loop = asyncio.get_running_loop()
        self._lanes = Lanes(plan.delivery.order, self._loop)
        self._inbox: deque[list[Item]] = deque()
        self._woken = False
        self._halted = False
        self._slots = [Slot(self._loop, plan.delivery.timeout_seconds) for _ in range(plan.delivery.concurrency)]
        self._handlers: dict[str, Handler | None] = {}
        self._throttle = LogThrottle()
        self._methods = {one: getattr(instance, one.method) for one in plan.plugin.handlers}
        self._flushes = plan.plugin.flush is not Subscriber.flush
        self._handled: list[Item] = []
        self._flush_lock = asyncio.Lock()
        self._flush_wanted = asyncio.Event()
        self._rested = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

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
            slot.task = self._loop.create_task(self._work(slot), name=f"{self._plan.config.id} worker")
            self._tasks.append(slot.task)
        if self._flushes:
            self._tasks.append(self._loop.create_task(self._keep_flushing(), name=f"{self._plan.config.id} flush"))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self._fatal(RuntimeError("a worker was cancelled by the subscriber's own code"))
        elif (error := task.exception()) is not None:
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
            if self._flushes:
                self._handled.extend(part)
                if len(self._handled) * 2 >= self._plan.delivery.in_flight_max:
                    self._flush_wanted.set()
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
                await self._set_aside(item, error)
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

    async def _call(self, slot: Slot, route: Handler, *arguments: Any) -> None:
        """Call the handler, for no longer than its time. Whatever it raises comes out as an Exception."""
        slot.begin(self._loop.time())
        try:
            result = self._methods[route](*arguments)
            if route.is_async:
                await result
        except asyncio.CancelledError:
            if slot.abandoned or (slot.task is not None and slot.task.cancelling() and not slot.timed_out):
                raise
            if slot.timed_out:
                self._counters.timed_out += 1
                raise HandlerTimeout(f"{route.method} did not return within {slot.timeout_seconds:g} s") from None
            raise RuntimeError(f"{route.method} was cancelled from within") from None
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(f"{route.method} raised {error!r}") from error
        finally:
            slot.busy = False
            if slot.timed_out and not slot.abandoned:
                slot.calm()

    # Failures

    async def _failed(self, lane: Lane, part: list[Item], error: Exception) -> float | None:
        """A handler raised for `part`: when to try again; None when it was dealt with for good."""
        now = self._loop.time()
        retry = self._plan.delivery.retry
        self.error = f"{type(error).__name__}: {error}"
        for item in part:
            item.failures += 1
            item.error = error
            if item.failures == 1:
                item.first_failure_at = now
                item.wall_first_failure = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        delay = retry.delay_seconds(part[0].failures) * (1 + JITTER * random.random())
        malformed = isinstance(error, MalformedEvent)
        if not malformed and now + delay - part[0].first_failure_at <= retry.timeout_seconds:
            self._counters.retried += len(part)
            self._log.warning(
                "try %d of %s failed, again in %.1f s: %s", part[0].failures, _place(part), delay, self.error,
                exc_info=error if part[0].failures == 1 else None, extra={"action": "event_retried"},
            )  # fmt: skip
            return delay
        if len(part) > 1:  # a batch: halve it until the event that spoils it stands alone
            lane.parts.popleft()
            lane.parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            return 0.0
        if malformed:
            await self._set_aside(part[0], error)
        elif not await self._give_up(part[0], error):
            return 0.0
        self._done(lane)
        return None

    async def _give_up(self, item: Item, error: Exception) -> bool:
        """The policy for an event that cannot be delivered. False: the subscriber stops before it."""
        policy = self._plan.delivery.on_error
        item.error = error
        item.failures = max(item.failures, 1)
        self.error = f"{type(error).__name__}: {error}"
        if policy == "stop":
            self._fatal(StoppedByPolicy(f"{_place([item])} could not be delivered: {self.error}"))
            return False
        await self._leave_out(item)
        self._log.error(
            "gave up on %s after %d tries (%s): %s",
            _place([item]),
            item.failures,
            policy,
            self.error,
            extra={"action": "event_given_up"},
        )
        item.finish()
        return True

    async def _set_aside(self, item: Item, error: Exception) -> None:
        """A record that is not an event: nobody could deliver it, so it goes to the dead letters, or it is skipped where there
        are none. It never stops a subscriber, and its log lines are limited."""
        item.error = error
        item.failures = max(item.failures, 1)
        self._counters.malformed += 1
        await self._leave_out(item)
        more = self._throttle.admit("malformed")
        if more is not None:
            self.error = f"{_place([item])} is not an event: {error}"
            self._log.error("%s (and %d more since the last such line)", self.error, more, extra={"action": "event_malformed"})
        item.finish()

    async def _leave_out(self, item: Item) -> None:
        if self._plan.delivery.on_error == "dlq":
            await self._sink.put(self._plan, item)
            self._counters.dead_lettered += 1
        else:
            self._counters.skipped += 1

    # Flush, drain, close

    async def _keep_flushing(self) -> None:
        while True:
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._flush_wanted.wait()
            except TimeoutError:
                pass
            self._flush_wanted.clear()
            await self._flush()

    async def _flush(self, *, once: bool = False) -> None:
        """Let the sink write what it holds, then acknowledge it; retried like a handler. Raises when that was in vain."""
        async with self._flush_lock:
            handled, self._handled = self._handled, []
            if not handled:
                return
            try:
                await self._patiently(self._instance.flush, once=once)
            except BaseException:
                self._handled = handled + self._handled
                raise
            for item in handled:
                item.finish()

    async def _patiently(self, action: Callable[[], Awaitable[None]], *, once: bool) -> None:
        retry, began, failures = self._plan.delivery.retry, self._loop.time(), 0
        while True:
            try:
                async with asyncio.timeout(self._plan.delivery.timeout_seconds):
                    return await action()
            except Exception as error:
                failures += 1
                delay = retry.delay_seconds(failures)
                self.error = f"flush: {type(error).__name__}: {error}"
                if once or self._loop.time() + delay - began > retry.timeout_seconds:
                    raise
                self._counters.retried += 1
                self._log.warning("flush failed, again in %.1f s: %s", delay, error, extra={"action": "flush_failed"})
                await asyncio.sleep(delay)

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
        if self._flushes:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._flush(once=True)
            except Exception as error:
                self._log.warning(
                    "flush at the end of an assignment failed; its events come again: %s", error, extra={"action": "flush_missed"}
                )
            self._handled = [item for item in self._handled if item.session is not session]

    def _working(self) -> bool:
        return any(slot.active for slot in self._slots)

    async def close(self, timeout_seconds: float) -> None:
        """End the workers, then the subscriber, which has `timeout_seconds` for it."""
        self._halted = True
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=1.0)
        for slot in self._slots:
            if slot.timer is not None:
                slot.timer.cancel()
        async with asyncio.timeout(timeout_seconds):
            await self._instance.close()


def _place(part: list[Item]) -> str:
    first = part[0]
    return f"{first.partition}/{first.offset}" if len(part) == 1 else f"{first.partition}/{first.offset} and {len(part) - 1} more"
