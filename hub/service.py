"""Services own their background tasks: what starts one here awaits or cancels it, and ends when it fails. Nothing is
fire-and-forget.

This is the one place that starts tasks of an event loop outside of an `asyncio.TaskGroup`; the exceptions stand in
`tests/architecture/test_owned_tasks.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Service(Protocol):
    """What runs for long in a process: started once, watched while it serves, stopped once."""

    async def start(self) -> None:
        """Begin. Raises what keeps it from serving; `stop` is called then, too."""

    async def watch(self) -> None:
        """Raises what keeps the service from continuing, and returns at most when it was asked to stop."""

    async def stop(self) -> None:
        """End in order: no task of the service is left when this returns."""


def no_log(_: BaseException) -> None:
    """An `on_failed` for tasks whose error is raised by who waits for them, and must not be logged beside that."""


async def run_until(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` until it ends, or until `event` is set, which cancels it. Returns its task, which has ended."""
    loop = asyncio.get_running_loop()
    both = working, waiting = loop.create_task(work), loop.create_task(event.wait())
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait(both)
    return working


class ServiceTasks:
    """The background tasks of one service, used from one event loop.

    A task that raises is a failure of the service: `watch` and `unless_failed` raise the first, and `on_failed` is called with
    each. Without an `on_failed` the first is logged here; otherwise whoever is called logs it. The other tasks continue until the
    service stops, unlike with an `asyncio.TaskGroup`: a worker that fails still ends in order what it runs."""

    def __init__(self, service: str, on_failed: Callable[[BaseException], object] | None = None) -> None:
        self._service = service
        self._on_failed = on_failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = asyncio.Event()
        self.failure: BaseException | None = None

    def __len__(self) -> int:
        """How many run."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run `work` beside the caller; it may return."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def keep(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """As `start`, for what has to run until it is cancelled: that it returns is a failure, too, and so is a cancellation that
        nobody asked the task for (an awaited future was cancelled)."""
        task = self.start(work, name)
        task.add_done_callback(self._kept_over)
        return task

    async def watch(self) -> None:
        """Until a task fails; raises its error."""
        await self._failed.wait()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error of the first task that failed, if one has."""
        if self.failure is not None:
            raise self.failure

    async def unless_failed(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises what it raises, or the error of a task that fails before."""
        task = await run_until(self._failed, work)
        if task.cancelled():
            self.raise_failure()
        return task.result()

    async def wait(self, timeout_seconds: float | None = None) -> None:
        """Until all have ended, or the time has passed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)

    def request_cancel(self) -> None:
        """Ask all of them to end."""
        for task in self._tasks:
            task.cancel()

    async def cancel(self, *, again_seconds: float | None = None) -> None:
        """Cancel them all, and wait until they have ended; those that have not after `again_seconds` are cancelled again."""
        while self._tasks:
            self.request_cancel()
            await asyncio.wait(self._tasks, timeout=again_seconds)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(task, error)

    def _kept_over(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not task.cancelling():
                self._fail(task, RuntimeError(f"{task.get_name()} was cancelled by what it waited for"))
        elif task.exception() is None:
            self._fail(task, RuntimeError(f"{task.get_name()} ended by itself"))

    def _fail(self, task: asyncio.Task[Any], error: BaseException) -> None:
        error.add_note(f"In the background task {task.get_name()!r} of {self._service}.")
        if self.failure is None:
            self.failure = error
            self._failed.set()
            if self._on_failed is None:
                about = {"service": self._service, "background_task": task.get_name()}
                log.error("a background task failed", action="service_failed", **about, exc_info=error)
        if self._on_failed is not None:
            self._on_failed(error)
