"""A limit for log lines that anybody who may write to a topic could cause: at most one per cause and interval."""

import time
from collections.abc import Callable

#: Seconds between two lines of one cause.
INTERVAL_SECONDS = 10.0


class LogThrottle:
    """Says whether a line may be logged now. Use from one thread; causes are words of ours, never foreign text."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def admit(self, cause: str) -> int | None:
        """How many lines of this cause were left out since the last one; None when this one is left out, too."""
        now, last = self._clock(), self._last.get(cause)
        if last is not None and now - last < self._interval_seconds:
            self._left_out[cause] = self._left_out.get(cause, 0) + 1
            return None
        self._last[cause] = now
        return self._left_out.pop(cause, 0)
