"""Calls of handlers: each has its time, and whatever it raises comes out as an Exception."""

import asyncio
from typing import Any

from subscribers import Handler, Subscriber

from .config import SubscriberPlan
from .status import Counters


class HandlerTimeout(TimeoutError):
    """A handler did not return in its time."""


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


class Calls:
    """The handlers of one instance, by route."""

    def __init__(
        self, plan: SubscriberPlan, instance: Subscriber[Any], counters: Counters, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._methods = {one: getattr(instance, one.method) for one in plan.plugin.handlers}
        self._counters = counters
        self._loop = loop

    async def call(self, slot: Slot, route: Handler, *arguments: Any) -> None:
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
