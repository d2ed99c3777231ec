"""Runs an event loop with a manual clock: everything that becomes due runs in order, at its due time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .manual_time import ManualTime
from .quiet import Quiet, StalledError

T = TypeVar("T")

#: Real time without progress after which waiting callers get an error (seconds), if no body is running.
PATIENCE_SECONDS = 0.2


class Driver:
    """Drives the event loop of a test. `running` returns the number of running bodies, `busy_threads` that of plain functions;
    see `HubInMemory` for `thread_seconds` and `stall_seconds`. A failure of a part of the hub is reported to `fail`: waiting
    callers get its error."""

    def __init__(
        self,
        clock: ManualTime,
        *,
        running: Callable[[], int],
        busy_threads: Callable[[], int],
        thread_seconds: float,
        stall_seconds: float,
    ) -> None:
        self._clock = clock
        self._running = running
        self._stall_seconds = stall_seconds
        self._failure: BaseException | None = None
        self._quiet = Quiet(
            clock, busy_threads=busy_threads, thread_seconds=thread_seconds, patience=self._patience, stall=self._stall
        )

    async def settle(self) -> None:
        """Run until there is no more work at the current time. Raises the error of a failed part of the hub."""
        await self._quiet.wait()
        self.raise_failure()

    async def advance(self, seconds: float) -> None:
        """Advance the time, settling at the start, at each timer and at the end. Raises as `settle` does."""
        target = self._clock.monotonic() + seconds
        await self.settle()
        while await self._step(target):
            self.raise_failure()
        self._clock.move_to(target)
        await self.settle()

    async def _step(self, target: float) -> bool:
        """Run the next due work up to `target`. Returns False if there is none."""
        due = self._clock.next_due()
        if due is None or due > target:
            return False
        self._clock.move_to(due)
        await self._quiet.wait()
        return True

    async def finish(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """The result of `work`, advancing the time as necessary, up to `seconds`. Raises StalledError."""
        target = self._clock.monotonic() + seconds
        task = asyncio.get_running_loop().create_task(work)
        await self._quiet.wait()
        while not task.done() and await self._step(target):
            pass
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            raise StalledError(f"The hub did not end within {seconds:g} s of its own time.")
        return task.result()

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises StalledError if it is not possible at the current time, or the error of a failed part
        of the hub."""
        result = await self._quiet.guard(work)
        self.raise_failure()
        return result

    def fail(self, error: BaseException) -> None:
        """Report the failure of a part of the hub."""
        self._failure = self._failure or error

    def raise_failure(self) -> None:
        """Raise the first error of a failed part of the hub, if any."""
        if self._failure is not None:
            raise self._failure

    def _patience(self) -> float:
        return self._stall_seconds if self._running() and self._failure is None else PATIENCE_SECONDS

    def _stall(self) -> BaseException:
        if self._failure is not None:
            return self._failure
        running = self._running()
        bodies = f"; {running} running, which wait for a later time or for an external result," if running else ""
        return StalledError(
            f"The awaited result cannot arrive at the current time of the hub: nothing is left to do{bodies} until the time is "
            "advanced (`await hub.advance(seconds=...)`). `hub.events` has the events so far."
        )
