"""Manual time for an event loop: the time changes only when it is advanced, and nothing waits for it.

asyncio takes the time from `loop.time()` alone, so that replacing it covers `asyncio.sleep`, `asyncio.timeout` and `call_later`
of whatever runs on the loop: the hub, the handlers and the test. What waits for a socket or a thread waits really.
"""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

from ..errors import ConfigurationError


class ManualTime:
    """The time of `loop`, from `install` to `uninstall`. `start`: the wall clock at the beginning (default: the real one)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime | None = None) -> None:
        if not isinstance(loop, asyncio.BaseEventLoop):
            raise ConfigurationError(
                f"HubInMemory needs asyncio's own event loop, not {type(loop).__module__}.{type(loop).__qualname__}: "
                "only there can the time be moved. Run this test without an event loop policy."
            )
        if start is not None and start.tzinfo is None:
            raise ConfigurationError("start: must be a time with a time zone, such as datetime(2026, 1, 1, tzinfo=UTC)")
        self._loop: Any = loop
        self._began = self._now = loop.time()
        self.installed = False
        self._start_us = round((start or datetime.now(UTC)).timestamp() * 1e6)

    def install(self) -> None:
        """Replace the loop's time by the manual one."""
        if "time" in vars(self._loop):
            raise ConfigurationError("Another HubInMemory controls the time of this event loop: stop that one first.")
        self._loop.time = self.monotonic
        self.installed = True

    def uninstall(self) -> None:
        """Restore the loop's own time."""
        del self._loop.time
        self.installed = False

    def monotonic(self) -> float:
        """Seconds, by the loop's clock."""
        return self._now

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return self._start_us + round((self._now - self._began) * 1e6)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.now_us() // 1000

    def next_due(self) -> float | None:
        """The time of the loop's next timer, by its clock; None if there is none."""
        timers = self._loop._scheduled  # a heap; cancelled ones leave it when they are its first
        if timers and not timers[0].cancelled():
            return float(timers[0].when())
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    def is_quiet(self) -> bool:
        """Whether nothing is ready to run, and no timer is due. Call it from a callback or a task of the loop."""
        if self._loop._ready:
            return False
        due = self.next_due()
        return due is None or due > self._now

    def move_to(self, when: float) -> None:
        """Whether a timer with this time is due now."""
        self._now = max(self._now, math.nextafter(when, math.inf))
