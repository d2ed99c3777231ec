"""Runs one subscriber's code: workers that process lanes of events (see `handling`), drain, close.

Everything here runs in the subscriber's own thread and loop, except `feed`, which any thread may call. An exception of a handler
does not end a worker: it leads to a retry, a dead letter, a skip or a stop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from subscribers import Subscriber

from ..metrics import Histogram, histogram_of
from ..service import ServiceTasks, set_within
from .admission import Admission, wall_ms
from .arrivals import Arrivals
from .calls import Calls, Slot
from .config import SubscriberPlan
from .current_events import CurrentEvents
from .failures import DeadLetterSink, Failures
from .flushing import Flushing
from .handling import Handling
from .lane import Lane
from .lanes import Lanes
from .outages import Outages
from .policies import policies_of
from .status import Counters
from .suspects import CautiousHandling
from .window import Item, Session

SLICE_SECONDS = 0.003
DURATION = "hub.subscriber.delivery.duration"


class Runner:
    """One opened subscriber. `on_fatal` is called, in this loop, with the error that ends it. `handler_seconds`: the distribution
    of the durations of its calls. `current`: where the events that are being handled are written, in a process of its own."""

    def __init__(
        self,
        plan: SubscriberPlan,
        instance: Subscriber[Any],
        sink: DeadLetterSink,
        counters: Counters,
        on_fatal: Callable[[Exception], None],
        logger: logging.Logger,
        now_ms: Callable[[], int] = wall_ms,
        handler_seconds: Histogram | None = None,
        current: CurrentEvents | None = None,
    ) -> None:
        self._name, self._instance = plan.config.id, instance
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        policies = policies_of(plan)
        admission = None if policies is None else Admission(plan, policies, counters, now_ms)
        batches = any(handler.batch is not None for handler in plan.plugin.handlers)
        has_suspects = current is not None and current.has_suspects
        self._lanes = Lanes(plan.delivery.order, policies, counters, self._loop, sorts=batches or has_suspects)
        self._outages = Outages(self._lanes, counters, logger)
        self._arrivals = Arrivals(self._lanes, admission, self._loop)
        self._halted = False
        self._slots = [Slot(number, self._loop, plan.delivery.timeout_seconds) for number in range(plan.delivery.concurrency)]
        self._failures = Failures(plan, sink, counters, self._outages.working_time, self._fatal, logger)
        flushes = plan.plugin.flush is not Subscriber.flush
        flushing = Flushing(plan, instance, self._failures, self._outages, counters, logger, current) if flushes else None
        self._flushing = flushing
        calls = Calls(plan, instance, counters, handler_seconds or histogram_of(DURATION))
        if current is not None:
            current.open(*_sizes_of(plan))
        handling = Handling(
            plan, self._lanes, calls, self._failures, self._outages, flushing, admission, current, counters, logger
        )
        self._step: Callable[[Slot, Lane], Awaitable[float | None]] = handling.step
        if current is not None and current.has_suspects:
            self._step = CautiousHandling(handling, self._failures, flushing, current).step
        self._rested = asyncio.Event()
        self._tasks = ServiceTasks(f"subscriber {self._name}", self._task_failed)

    @property
    def error(self) -> str | None:
        """The latest error of a handler or a flush."""
        return self._failures.error

    # From the feed's thread

    def feed(self, items: list[Item]) -> None:
        """Add records, in the order of their partition. Callable from any thread; the caller respects `Session.room`."""
        self._arrivals.put(items)

    # In the subscriber's loop

    def start(self) -> None:
        """Start the workers."""
        for slot in self._slots:
            slot.task = self._tasks.keep(self._until_closed(partial(self._work, slot)), f"{self._name} worker")
        if self._flushing is not None:
            self._tasks.keep(self._until_closed(self._flushing.keep), f"{self._name} flush")

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

    async def _work(self, slot: Slot) -> None:
        loop, lanes = self._loop, self._lanes
        slot.slice_ends = loop.time() + SLICE_SECONDS
        while True:
            lane = None if self._halted else lanes.take()
            if lane is None:
                await lanes.idle.wait() if not self._halted else await loop.create_future()
                slot.slice_ends = loop.time() + SLICE_SECONDS
                continue
            slot.active, slot.called = True, False
            try:
                while True:
                    delay = await self._step(slot, lane)
                    if lane.probes or lane.call is not None:
                        self._after_call(slot, lane)
                    if delay is not None:
                        lanes.later(lane, delay)
                        break
                    if loop.time() > slot.slice_ends:
                        await asyncio.sleep(0)
                        slot.slice_ends = loop.time() + SLICE_SECONDS
                    if self._halted or not lane.items or lane.batch is not None or lanes.yielding:
                        lanes.release(lane)
                        break
            except asyncio.CancelledError:
                if not slot.abandoned:
                    raise
                slot.calm()
            finally:
                slot.active = slot.abandoned = False
                if lane.probes or lane.call is not None:
                    self._after_call(slot, lane)
                self._rested.set()

    def _after_call(self, slot: Slot, lane: Lane) -> None:
        """Settle what the admission of the lane has promised: the probe of an outage, a call within a rate."""
        if lane.probes:
            self._outages.leave_open(lane)
        if lane.call is not None and not slot.called:
            self._lanes.withdraw_call(lane)
        lane.call, slot.called = None, False

    # Drain, close

    async def drain(self, session: Session, timeout_seconds: float) -> None:
        """Drain a session whose partitions are revoked: begin no more handlers, let running ones end for `timeout_seconds`, then
        cancel them; flush."""
        session.revoked = True
        self._lanes.clear()
        self._outages.clear()
        deadline = self._loop.time() + timeout_seconds
        while self.active and (left := deadline - self._loop.time()) > 0:
            self._rested.clear()
            await set_within(self._rested, left)
        for slot in self._slots:
            if slot.active and slot.task is not None:
                slot.abandoned = True
                slot.task.cancel()
        if self.active:
            await asyncio.sleep(0.05)
        if self._flushing is not None:
            await self._flushing.finish(session, timeout_seconds)

    @property
    def active(self) -> int:
        """The number of lanes that are being processed."""
        return sum(slot.active for slot in self._slots)

    async def close(self, timeout_seconds: float) -> None:
        """Stop the workers, then close the subscriber. Raises TimeoutError if that takes longer than `timeout_seconds`."""
        self._halted = True
        self._outages.close()
        self._tasks.request_cancel()
        await self._tasks.wait(1.0)
        for slot in self._slots:
            if slot.timer is not None:
                slot.timer.cancel()
        async with asyncio.timeout(timeout_seconds):
            await self._instance.close()


def _sizes_of(plan: SubscriberPlan) -> tuple[int, int, int]:
    """The numbers of handlers, of events in one call, and of events in one flush, at most."""
    batches = [handler.batch.max for handler in plan.plugin.handlers if handler.batch is not None]
    in_flight_max = plan.delivery.in_flight_max
    return plan.delivery.concurrency, min(max(batches, default=1), in_flight_max), in_flight_max
