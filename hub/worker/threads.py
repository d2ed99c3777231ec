"""Threads for plain functions. A function that hangs holds its thread forever, and must not hold the process: unlike those of a
ThreadPoolExecutor, which the interpreter joins when it ends, these are daemons.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads(Executor):
    """At most `threads_max` threads, made when they are needed. Submit from one thread only."""

    def __init__(self, threads_max: int, *, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._count = 0
        self._idle = threading.Semaphore(0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See Executor. Raises RuntimeError, with nothing begun, when the system gives no thread."""
        if not self._idle.acquire(blocking=False) and self._count < self._threads_max:
            threading.Thread(target=self._work, name=f"{self._name}_{self._count}", daemon=True).start()
            self._count += 1
        future: Future[T] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(*job)
            del job  # or it would hold the last one's arguments and result while it waits
            self._idle.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Idle threads end; those that run end with what they run, and nobody waits for them."""
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
