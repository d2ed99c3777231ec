"""Tasks of an event loop that have an owner: each is waited for or cancelled, and the owner hears at once of one that raises."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any


class OwnedTasks:
    """The running tasks of one owner. `on_failed` is called with what any of them raised. Unlike an `asyncio.TaskGroup`, it lets
    the others run on: a worker that fails still ends what it runs in order. Use from one event loop."""

    def __init__(self, on_failed: Callable[[BaseException], object]) -> None:
        self._on_failed = on_failed
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it beside the caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def start_service(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """As `start`, for what has to run until it is cancelled: that it returns is a failure, too."""
        self.start(work).add_done_callback(partial(self._service_over, name))

    async def wait(self, timeout_seconds: float) -> None:
        """Until all have ended, or the time has passed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)

    async def cancel(self) -> None:
        """Cancel them all, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failed(error)

    def _service_over(self, name: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._on_failed(RuntimeError(f"{name} has ended"))
