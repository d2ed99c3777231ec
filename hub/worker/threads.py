"""Threads for plain functions, and a thread with its own event loop. They are daemon threads, unlike those of a
ThreadPoolExecutor, which the interpreter joins at exit: a function that hangs must not keep the process from ending.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from .shared import LoopCalls

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads(Executor):
    """At most `threads_max` threads, created on demand. Submit from one thread only."""

    def __init__(self, threads_max: int, *, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._count = 0
        self._idle = threading.Semaphore(0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See Executor. Raises RuntimeError if the system cannot create a thread; the function is then not called."""
        if not self._idle.acquire(blocking=False) and self._count < self._threads_max:
            threading.Thread(target=self._work, name=f"{self._name}_{self._count}", daemon=True).start()
            self._count += 1
        future: Future[T] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(*job)
            del job  # otherwise an idle thread would keep the arguments and the result of its last call
            self._idle.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, busy ones when their function returns. Does not wait for them."""
        for _ in range(self._count):
            self._jobs.put(None)


def _run(future: "Future[Any]", call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


class LoopThread:
    """A thread that runs one coroutine on its own event loop. `main` gets a function that it must call when it is ready. When it
    ends after that, `on_over` is called in the thread with the exception or None. Use from one event loop."""

    def __init__(
        self,
        main: Callable[[Callable[[], None]], Coroutine[Any, Any, None]],
        on_over: Callable[[BaseException | None], object],
        *,
        name: str,
    ) -> None:
        self._main = main
        self._on_over = on_over
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._over: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def start(self) -> None:
        """Wait until `main` is ready. Raises what `main` raises before that."""
        self._thread.start()
        await asyncio.shield(asyncio.wrap_future(self._ready))

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Request the thread's loop to call `function(*args)` as soon as `main` is ready; dropped if the thread has ended."""
        self._ready.add_done_callback(partial(_call_on, function, args))

    async def join(self, timeout_seconds: float) -> bool:
        """Wait until the thread has ended; False on timeout. Returns True if it was never started."""
        if self._thread.ident is None:
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.shield(asyncio.wrap_future(self._over))
        except TimeoutError:
            return False
        return True

    def _run(self) -> None:
        try:
            asyncio.run(self._announced_main())
        except BaseException as error:
            self._end(error)
        else:
            self._end(None)

    async def _announced_main(self) -> None:
        loop = asyncio.get_running_loop()
        await self._main(lambda: self._ready.set_result(loop))

    def _end(self, error: BaseException | None) -> None:
        if self._ready.done():
            self._on_over(error)
        else:
            self._ready.set_exception(error or RuntimeError("the thread ended before it was ready"))
        self._over.set_result(None)


def _call_on(function: Callable[..., object], args: tuple[Any, ...], ready: "Future[asyncio.AbstractEventLoop]") -> None:
    if ready.exception() is None:
        LoopCalls(ready.result()).call(function, *args)
