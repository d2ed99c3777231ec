"""Limits the rate of log records that other programs can cause by writing to a topic: at most one per cause and interval."""

import time
from collections.abc import Callable

#: Minimum time between two log records of one cause (seconds).
INTERVAL_SECONDS = 10.0


class LogThrottle:
    """Decides whether a record may be logged now. Use from one thread; causes must be constants, not foreign text."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def admit(self, cause: str) -> int | None:
        """The number of suppressed records of this cause since the last one; None if this one must be suppressed, too."""
        now, last = self._clock(), self._last.get(cause)
        if last is not None and now - last < self._interval_seconds:
            self._left_out[cause] = self._left_out.get(cause, 0) + 1
            return None
        self._last[cause] = now
        return self._left_out.pop(cause, 0)
