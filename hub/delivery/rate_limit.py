"""A limit of the rate of calls, as a value without a clock."""

from collections import deque

EARLY_SECONDS = 1e-6
"""Timers of an event loop may fire this much too early."""


class RateLimit:
    """At most `calls` calls in any interval of `seconds` seconds."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=calls)

    def wait(self, now: float) -> float:
        """Seconds until the next call may begin; 0.0 if it may begin now."""
        if len(self._times) < (self._times.maxlen or 0):
            return 0.0
        wait = self._times[0] + self._seconds - now
        return wait if wait > EARLY_SECONDS else 0.0

    def note(self, now: float) -> None:
        """Record a call. Only when `wait` is 0.0."""
        self._times.append(now)

    def withdraw(self, when: float) -> None:
        """Remove the record of `when`: no call was made."""
        if when in self._times:
            self._times.remove(when)
