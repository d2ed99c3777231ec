"""The time of an event loop, moved by hand: it stands still until somebody moves it, and nothing waits for it.

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
        """From now on the loop's time stands still."""
        if "time" in vars(self._loop):
            raise ConfigurationError("The time of this event loop is moved by another HubInMemory: leave that one first.")
        self._loop.time = self.monotonic
        self.installed = True

    def uninstall(self) -> None:
        """The loop has its own time again."""
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
        """When the next timer of the loop is due, by its clock; None where there is none."""
        timers = self._loop._scheduled  # a heap; cancelled ones leave it when they are its first
        if timers and not timers[0].cancelled():
            return float(timers[0].when())
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    def is_quiet(self) -> bool:
        """Whether nothing is ready to run, and no timer is due. Ask from a callback or a task of the loop."""
        if self._loop._ready:
            return False
        due = self.next_due()
        return due is None or due > self._now

    def move_to(self, when: float) -> None:
        """A timer of `when` is due now."""
        self._now = max(self._now, math.nextafter(when, math.inf))
