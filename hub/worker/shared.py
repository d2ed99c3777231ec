"""What crosses from one thread of a worker to another, and nothing else does: a value behind a lock, calls that a loop makes for
other threads, and a latch. Threads themselves are in `threads.py`.

The desk is used by the worker's event loop and by the heartbeat thread; progress and the return of a function that hung come from
the threads of handlers; lost leases come from the heartbeat thread; `ctx.cancelled` is read in the threads of handlers.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Locked(Generic[T]):
    """A value that several threads use, each inside `with locked as value:`. Nobody may wait in there, or lock it again."""

    __slots__ = ("_lock", "_value")

    def __init__(self, value: T) -> None:
        self._value = value
        self._lock = threading.Lock()

    def __enter__(self) -> T:
        self._lock.acquire()
        return self._value

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()


class LoopCalls:
    """Calls that an event loop makes for any thread, in the order in which they come. One that comes when the loop is closed is
    dropped: a function may outlive its worker."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call `function(*args)` soon."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


class Latch:
    """A flag that can be set once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def set(self) -> None:
        """Turn it on; may be called again."""
        self._lock.acquire(blocking=False)

    @property
    def is_set(self) -> bool:
        """Whether it is on."""
        return self._lock.locked()
