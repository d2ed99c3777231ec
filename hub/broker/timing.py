"""Time for the core: a clock that is passed in, timers that somebody else drives, and answers that come later."""

import heapq
import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """Both times that the broker uses."""

    def monotonic(self) -> float:
        """Seconds for deadlines."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since 1970, for what is stored."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


COMPACT_FROM = 256
"""Timers are nearly always cancelled: when more than half of at least this many are, the heap is built again."""


class Timer:
    """A callback at a time; cancelled ones are skipped."""

    __slots__ = ("_timers", "callback", "deadline")

    def __init__(self, timers: "TimerHeap", deadline: float, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """The callback will not run."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled()

    def __lt__(self, other: "Timer") -> bool:
        return self.deadline < other.deadline


class TimerHeap:
    """Timers in order of their deadlines. `run_due` must be called when `next_deadline` has come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._dead = 0
        self.on_earlier: Callable[[float], None] = lambda deadline: None
        """Called with the new earliest deadline whenever it moves forward."""

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once, `seconds` from now."""
        timer = Timer(self, self._clock.monotonic() + seconds, callback)
        heapq.heappush(self._heap, timer)
        if self._heap[0] is timer:
            self.on_earlier(timer.deadline)
        return timer

    def cancelled(self) -> None:
        """A timer in the heap was cancelled."""
        self._dead += 1
        if self._dead * 2 > len(self._heap) >= COMPACT_FROM:
            self._heap = [timer for timer in self._heap if timer.callback is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    @property
    def next_deadline(self) -> float | None:
        """Earliest deadline, if there is one."""
        while self._heap and self._heap[0].callback is None:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0].deadline if self._heap else None

    def run_due(self) -> None:
        """Run every timer whose time has come."""
        now = self._clock.monotonic()
        while self._heap and (self._heap[0].callback is None or self._heap[0].deadline <= now):
            timer = heapq.heappop(self._heap)
            if timer.callback is None:
                self._dead -= 1
            else:
                callback, timer.callback = timer.callback, None
                callback()


class Deferred:
    """An answer that comes later. Resolved once; further calls are ignored."""

    __slots__ = ("_callback", "done", "on_abandoned", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self._callback: Callable[[Any], None] | None = None
        self.on_abandoned: Callable[[], None] | None = None
        """What to undo when nobody wants the answer any more."""

    def abandon(self) -> None:
        """Nobody will take the answer: its connection is gone."""
        if not self.done:
            self.done = True
            if self.on_abandoned is not None:
                self.on_abandoned()

    def resolve(self, value: Any) -> None:
        """Give the answer."""
        if self.done:
            return
        self.done, self.value = True, value
        if self._callback is not None:
            self._callback(value)

    def then(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with the answer, now or when it comes. One callback per answer."""
        self._callback = callback
        if self.done:
            callback(self.value)
