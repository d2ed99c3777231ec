"""Time for the core: an injected clock, timers that the caller drives, and deferred responses."""

import heapq
import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """The two clocks that the broker uses."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point, for deadlines."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, for stored times."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


COMPACT_FROM = 256
"""Most timers are cancelled. The heap is rebuilt when it has at least this many entries and more than half are cancelled."""


class Timer:
    """A callback with a deadline; skipped if cancelled."""

    __slots__ = ("_timers", "callback", "deadline")

    def __init__(self, timers: "TimerHeap", deadline: float, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Prevent the callback from running."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled()

    def __lt__(self, other: "Timer") -> bool:
        return self.deadline < other.deadline


class TimerHeap:
    """Timers in the order of their deadlines. Call `run_due` when `next_deadline` is reached."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._dead = 0
        self.on_earlier: Callable[[float], None] = lambda deadline: None
        """Called with the earliest deadline when it becomes earlier."""

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once, `seconds` from now."""
        timer = Timer(self, self._clock.monotonic() + seconds, callback)
        heapq.heappush(self._heap, timer)
        if self._heap[0] is timer:
            self.on_earlier(timer.deadline)
        return timer

    def cancelled(self) -> None:
        """Count a cancelled timer in the heap."""
        self._dead += 1
        if self._dead * 2 > len(self._heap) >= COMPACT_FROM:
            self._heap = [timer for timer in self._heap if timer.callback is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    @property
    def next_deadline(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap and self._heap[0].callback is None:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0].deadline if self._heap else None

    def run_due(self) -> None:
        """Run every timer whose deadline has passed."""
        now = self._clock.monotonic()
        while self._heap and (self._heap[0].callback is None or self._heap[0].deadline <= now):
            timer = heapq.heappop(self._heap)
            if timer.callback is None:
                self._dead -= 1
            else:
                callback, timer.callback = timer.callback, None
                callback()


class Deferred:
    """A response that is not available yet. It is resolved once; further calls are ignored."""

    __slots__ = ("_callback", "done", "on_abandoned", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self._callback: Callable[[Any], None] | None = None
        self.on_abandoned: Callable[[], None] | None = None
        """Called when the response is no longer needed."""

    def abandon(self) -> None:
        """The response is no longer needed: its connection is closed."""
        if not self.done:
            self.done = True
            if self.on_abandoned is not None:
                self.on_abandoned()

    def resolve(self, value: Any) -> None:
        """Set the response."""
        if self.done:
            return
        self.done, self.value = True, value
        if self._callback is not None:
            self._callback(value)

    def then(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with the response, now or when it is set. Only one callback is possible."""
        self._callback = callback
        if self.done:
            callback(self.value)
