"""Waits until nothing is left to do at the current time; detects callers that wait for something impossible."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import HubError
from ..service import ServiceTasks
from .manual_time import ManualTime

T = TypeVar("T")

#: Interval at which threads and sockets are polled (seconds).
LOOK_SECONDS = 0.0005


class StalledError(HubError):
    """The awaited result cannot arrive at the current time."""


class Quiet:
    """Detects when an event loop with manual time has nothing to do.

    `busy_threads` returns the number of busy threads, which are waited for at most `thread_seconds` of real time. `stall` creates
    the error for callers in `guard` after `patience()` seconds of real time without progress."""

    def __init__(
        self,
        clock: ManualTime,
        *,
        busy_threads: Callable[[], int],
        thread_seconds: float,
        patience: Callable[[], float],
        stall: Callable[[], BaseException],
    ) -> None:
        self._clock = clock
        self._busy_threads = busy_threads
        self._thread_seconds = thread_seconds
        self._patience = patience
        self._stall = stall
        self._waiting: list[asyncio.Future[None]] = []
        self._guarded: set[asyncio.Future[None]] = set()
        self._tasks = ServiceTasks("the time of the test", self._cannot_look)
        self._looking: asyncio.Task[None] | None = None
        self._given_up = 0

    async def wait(self) -> None:
        """Wait until nothing is ready to run, no timer is due and no thread is busy."""
        quiet: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(quiet)
        self._look()
        await quiet

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises the error from `stall` if there is no more progress."""
        loop = asyncio.get_running_loop()
        task, stalled = loop.create_task(work), loop.create_future()
        self._guarded.add(stalled)
        self._look()
        try:
            await asyncio.wait([task, stalled], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                stalled.result()
        finally:
            self._guarded.discard(stalled)
            stalled.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        return task.result()

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start(self._keep_looking(), "quiet")

    def _cannot_look(self, error: BaseException) -> None:
        """Release all waiting callers: changes are no longer observed."""
        for waiting in (*self._waiting, *self._guarded):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()

    async def _keep_looking(self) -> None:
        """One task for all waiting callers: several would keep each other from finding the loop idle."""
        since: float | None = None
        while self._waiting or self._guarded:
            await asyncio.sleep(0)
            if not self._clock.is_quiet():
                since = None
                continue
            since = since or time.monotonic()
            if self._notice(time.monotonic() - since):
                since = None
            else:
                _rest()

    def _notice(self, seconds: float) -> bool:
        """Notify waiting callers that the loop has been idle for this time. Returns whether there was anything to notify."""
        if self._is_worth_waiting(seconds):
            return False
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for quiet in waiting:
                if not quiet.done():
                    quiet.set_result(None)
            return True
        if seconds < self._patience():
            return False
        for stalled in self._guarded:
            if not stalled.done():
                stalled.set_exception(self._stall())
                stalled.exception()  # waiting callers get it; otherwise asyncio would log a warning
        return True

    def _is_worth_waiting(self, seconds: float) -> bool:
        """Whether a thread is busy whose time limit has not passed."""
        busy = self._busy_threads()
        if seconds >= self._thread_seconds:
            self._given_up = busy
        self._given_up = min(self._given_up, busy)
        return busy > self._given_up


def _rest() -> None:
    """Sleep in real time: sleeps of the loop follow its manual time."""
    time.sleep(LOOK_SECONDS)
