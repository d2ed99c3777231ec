"""Calls handlers, each with a timeout; whatever a handler raises is raised as an Exception."""

import asyncio
import time
from typing import Any

from subscribers import Handler, Subscriber

from ..metrics import Histogram
from .config import SubscriberPlan
from .status import Counters


class HandlerTimeout(TimeoutError):
    """A handler did not return within its timeout."""


class Slot:
    """The state of one worker of a subscriber: its number, its task, whether a handler is running (`busy`) or was called since
    the lane was taken (`called`), and the timer that cancels it."""

    __slots__ = ("abandoned", "active", "busy", "called", "deadline", "loop", "number", "task", "timed_out", "timeout_seconds",
                 "timer")  # fmt: skip

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop, timeout_seconds: float) -> None:
        self.number = number
        self.loop = loop
        self.timeout_seconds = timeout_seconds
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.deadline = 0.0
        self.busy = self.active = self.called = self.timed_out = self.abandoned = False

    def set_timeout(self, timeout_seconds: float) -> None:
        """Set the timeout of the following calls."""
        if timeout_seconds < self.timeout_seconds and self.timer is not None:  # it may be due too late
            self.timer.cancel()
            self.timer = None
        self.timeout_seconds = timeout_seconds

    def begin(self) -> float:
        """Called before each call of a handler; returns its beginning, for `Calls.end`. The timer is set once and then follows
        the deadline, so that it costs almost nothing per event."""
        self.busy = self.called = True
        self.timed_out = False
        self.deadline = self.loop.time() + self.timeout_seconds
        if self.timer is None:
            self.timer = self.loop.call_at(self.deadline, self._due)
        return time.perf_counter()

    def _due(self) -> None:
        self.timer = None
        if not self.busy or self.task is None:
            return
        if self.loop.time() >= self.deadline:
            self.timed_out = True
            self.deadline = self.loop.time() + self.timeout_seconds  # a handler that ignores the cancel is cancelled again
            self.task.cancel()
        self.timer = self.loop.call_at(self.deadline, self._due)

    def calm(self) -> None:
        """Withdraw the cancellations that were meant for the handler."""
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()


INTERRUPTIONS = (asyncio.CancelledError, SystemExit, KeyboardInterrupt)
"""What a handler may raise besides an Exception, see `Calls.failure`."""


class Calls:
    """The handlers of one subscriber instance: `methods` by name. `seconds`: the duration of each call.

    A caller that must be fast uses `Slot.begin`, `failure` and `end` itself, as `call` does."""

    def __init__(self, plan: SubscriberPlan, instance: Subscriber[Any], counters: Counters, seconds: Histogram) -> None:
        self._record_seconds = seconds.record
        self.methods = {one.method: getattr(instance, one.method) for one in plan.plugin.handlers}
        self._counters = counters

    async def call(self, slot: Slot, route: Handler, *arguments: Any) -> None:
        """Call the handler. Raises what it raises, as an Exception; HandlerTimeout after its timeout."""
        began = slot.begin()
        try:
            result = self.methods[route.method](*arguments)
            if route.is_async:
                await result
        except INTERRUPTIONS as error:
            raise self.failure(slot, route, error) from error.__cause__
        finally:
            self.end(slot, began)

    def failure(self, slot: Slot, route: Handler, error: BaseException) -> BaseException:
        """The error of a call that was interrupted by this one: an Exception, or `error` if the worker itself was cancelled."""
        if not isinstance(error, asyncio.CancelledError):
            return RuntimeError(f"{route.method} raised {error!r}")
        if slot.abandoned or (slot.task is not None and slot.task.cancelling() and not slot.timed_out):
            return error
        if slot.timed_out:
            self._counters.timed_out += 1
            return HandlerTimeout(f"{route.method} did not return within {slot.timeout_seconds:g} s")
        return RuntimeError(f"{route.method} was cancelled by its own code")

    def end(self, slot: Slot, began: float) -> None:
        """Called after a call."""
        self._record_seconds(time.perf_counter() - began)
        slot.busy = False
        if slot.timed_out and not slot.abandoned:
            slot.calm()
