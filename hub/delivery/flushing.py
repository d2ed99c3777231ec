"""Flushes sinks that buffer: an event is acknowledged only after the flush that follows its handler."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from subscribers import Subscriber, Unavailable

from ..service import set_within
from .config import SubscriberPlan
from .current_events import CurrentEvents
from .failures import Failures
from .outages import Outages
from .status import Counters
from .window import Item, Session

FLUSH_SECONDS = 1.0
"""From the first event that waits for a flush to the flush."""


class Flushing:
    """The events that were handled but not flushed yet. `current`: where those of a flush are written, if that may end the
    process."""

    def __init__(
        self,
        plan: SubscriberPlan,
        instance: Subscriber[Any],
        failures: Failures,
        outages: Outages,
        counters: Counters,
        logger: logging.Logger,
        current: CurrentEvents | None = None,
    ) -> None:
        self._current = current
        self._plan, self._instance = plan, instance
        self._failures, self._outages = failures, outages
        self._counters, self._log = counters, logger
        self._loop = asyncio.get_running_loop()
        self._handled: list[Item] = []
        self._lock = asyncio.Lock()
        self._has_events, self._wanted = asyncio.Event(), asyncio.Event()

    def add(self, part: list[Item]) -> None:
        """Add events whose handler has returned."""
        self._handled.extend(part)
        self._has_events.set()
        if len(self._handled) * 2 >= self._plan.delivery.in_flight_max:
            self._wanted.set()

    async def keep(self) -> None:
        """Flush one second after the first event that waits for it, and when half of `in_flight_max` events wait; until
        cancelled."""
        while True:
            await self._has_events.wait()
            await set_within(self._wanted, FLUSH_SECONDS)
            self._has_events.clear()
            self._wanted.clear()
            await self.flush()

    async def flush(self, *, once: bool = False) -> None:
        """Call the sink's `flush`, then acknowledge its events. Retried like a handler unless `once`; raises the last error."""
        async with self._lock:
            handled, self._handled = self._handled, []
            if not handled:
                return
            if self._current is not None:
                self._current.begin_flush(handled)
            try:
                await self._patiently(self._instance.flush, once=once)
            except BaseException:
                self._handled = handled + self._handled
                raise
            finally:
                if self._current is not None:
                    self._current.end_flush()
            for item in handled:
                item.finish()

    async def _patiently(self, action: Callable[[], Awaitable[None]], *, once: bool) -> None:
        retry, began, failures = self._plan.delivery.retry, self._loop.time(), 0
        while True:
            try:
                async with asyncio.timeout(self._plan.delivery.timeout_seconds):
                    await action()
                return self._outages.end_flush()
            except Unavailable as error:
                if once:
                    raise
                self._failures.error = f"flush: the destination is unavailable: {error.reason}"
                delay = self._outages.note_flush(error)
                began += delay  # an outage does not count for the timeout
            except Exception as error:
                failures += 1
                delay = retry.delay_seconds(failures)
                self._failures.error = f"flush: {type(error).__name__}: {error}"
                if once or self._loop.time() + delay - began > retry.timeout_seconds:
                    raise
                self._counters.retried += 1
                self._log.warning("flush failed, retrying in %.1f s: %s", delay, error, extra={"action": "flush_failed"})
            await asyncio.sleep(delay)

    async def finish(self, session: Session, timeout_seconds: float) -> None:
        """Flush once more at the end of a session; events that could not be flushed are dropped here and redelivered."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.flush(once=True)
        except Exception as error:
            self._log.warning(
                "flush at the end of an assignment failed; its events will be redelivered: %s",
                error,
                extra={"action": "flush_missed"},
            )
        self._handled = [item for item in self._handled if item.session is not session]
