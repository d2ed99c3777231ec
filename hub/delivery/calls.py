"""Calls handlers, each with a timeout; whatever a handler raises is raised as an Exception."""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType, coroutine
from typing import Any

from subscribers import Handler, Subscriber

from ..metrics import Histogram
from .config import SubscriberPlan
from .status import Counters


class HandlerTimeout(TimeoutError):
    """A handler did not return within its timeout."""


class Slot:
    """The state of one worker of a subscriber: its number, its task, whether a handler is running (`busy`) or was called since
    the lane was taken (`called`), and the timer that cancels it. `slice_ends`: when it lets others run, by the loop's time."""

    __slots__ = ("abandoned", "active", "began_at", "busy", "called", "loop", "number", "slice_ends", "task", "timed_out",
                 "timeout_seconds", "timer")  # fmt: skip

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop, timeout_seconds: float) -> None:
        self.number = number
        self.loop = loop
        self.timeout_seconds = timeout_seconds
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.began_at = self.slice_ends = 0.0
        self.busy = self.active = self.called = self.timed_out = self.abandoned = False

    def set_timeout(self, timeout_seconds: float) -> None:
        """Set the timeout of the following calls."""
        if timeout_seconds < self.timeout_seconds and self.timer is not None:  # it may be due too late
            self.timer.cancel()
            self.timer = None
        self.timeout_seconds = timeout_seconds

    @property
    def is_slice_over(self) -> bool:
        """Whether the last call began after the end of the slice."""
        return self.began_at > self.slice_ends

    def begin(self) -> float:
        """Called before each call of a handler; returns its beginning, for `Calls.end`. The timer is set once and then follows
        the beginnings, so that it costs almost nothing per event."""
        self.busy = self.called = True
        self.timed_out = False
        self.began_at = self.loop.time()
        if self.timer is None:
            self.timer = self.loop.call_at(self.began_at + self.timeout_seconds, self._due)
        return time.perf_counter()

    def _due(self) -> None:
        self.timer = None
        if not self.busy or self.task is None:
            return
        if self.loop.time() >= self.began_at + self.timeout_seconds:
            self.timed_out = True
            self.began_at = self.loop.time()  # a handler that ignores the cancel is cancelled again
            self.task.cancel()
        self.timer = self.loop.call_at(self.began_at + self.timeout_seconds, self._due)

    def calm(self) -> None:
        """Withdraw the cancellations that were meant for the handler."""
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()


def start(call: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run a call of a handler until it returns or must wait. Returns what is left of it, which the same task awaits; None if it
    has returned. Raises what the handler raises."""
    if type(call) is not CoroutineType:
        return call
    try:
        waits_for = call.send(None)
    except StopIteration:
        return None
    return _continue(call, waits_for)


@coroutine
def _continue(call: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """What `await` does (PEP 380, `yield from`), from the first thing on that the call waits for."""
    while True:
        thrown: BaseException | None = None
        try:
            sent = yield waits_for
        except GeneratorExit:
            call.close()
            raise
        except BaseException as error:
            thrown = error
        try:
            waits_for = call.send(sent) if thrown is None else call.throw(thrown)
        except StopIteration:
            return


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
