"""Services own their background tasks: a service awaits or cancels the tasks that it starts, and fails if one of them fails.

Only this module starts tasks of an event loop outside of an `asyncio.TaskGroup`; `tests/architecture/test_owned_tasks.py`
lists the exceptions.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from .logs import Logger

log = Logger(__name__)

T = TypeVar("T")


class Service(Protocol):
    """A long-running part of a process: started once, watched while it runs, stopped once."""

    async def start(self) -> None:
        """Start the service. Raises if it cannot start; `stop` is called in this case, too."""

    async def watch(self) -> None:
        """Raises the error that keeps the service from continuing; returns only after a request to stop."""

    async def stop(self) -> None:
        """Stop the service; none of its tasks is running when this returns."""


def no_log(_: BaseException) -> None:
    """An `on_failed` for tasks whose error is raised to a waiting caller and must not be logged as well."""


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until `event` is set, for at most `seconds`. Returns whether it was set in that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


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

    An exception in a task is a failure of the service: `watch` and `unless_failed` raise the first one, and `on_failed` is
    called with each. Without `on_failed` the first one is logged here; otherwise `on_failed` must log it. Unlike in an
    `asyncio.TaskGroup`, the other tasks continue until the service stops: a failed worker can still drain."""

    def __init__(self, service: str, on_failed: Callable[[BaseException], object] | None = None) -> None:
        self._service = service
        self._on_failed = on_failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = asyncio.Event()
        self.failure: BaseException | None = None

    def __len__(self) -> int:
        """Number of running tasks."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run `work` in the background; it may return."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def keep(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Like `start`, for work that must run until it is cancelled: returning is also a failure, and so is a cancellation that
        was not requested (an awaited future was cancelled)."""
        task = self.start(work, name)
        task.add_done_callback(self._kept_over)
        return task

    async def watch(self) -> None:
        """Wait until a task fails, and raise its error."""
        await self._failed.wait()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error of the first failed task, if any."""
        if self.failure is not None:
            raise self.failure

    async def unless_failed(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises its error, or that of a task that fails earlier."""
        task = await run_until(self._failed, work)
        if task.cancelled():
            self.raise_failure()
        return task.result()

    async def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait until all tasks have ended, or for `timeout_seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)

    def request_cancel(self) -> None:
        """Request the cancellation of all tasks."""
        for task in self._tasks:
            task.cancel()

    async def cancel(self, *, again_seconds: float | None = None) -> None:
        """Cancel all tasks and wait until they have ended; tasks still running after `again_seconds` are cancelled again."""
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
                self._fail(task, RuntimeError(f"{task.get_name()} was cancelled by an awaited future"))
        elif task.exception() is None:
            self._fail(task, RuntimeError(f"{task.get_name()} returned unexpectedly"))

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
