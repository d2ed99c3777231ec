"""The only ways by which threads of a worker share data: a value with a lock, calls on an event loop from other threads, and a
latch. The threads themselves are in `threads.py`.

The worker's event loop and the heartbeat thread share the desk. Handler threads report progress and the return of a hung
function, and read `ctx.cancelled`. The heartbeat thread reports lost leases.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Locked(Generic[T]):
    """A value shared by several threads; use it inside `with locked as value:`. Do not wait there, and do not lock it again."""

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
    """Calls functions on an event loop for any thread, in the order of the requests. Requests after the loop was closed are
    dropped: a handler's thread may outlive its worker."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Request the loop to call `function(*args)`."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


class Latch:
    """A flag that can be set once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def set(self) -> None:
        """Set the flag; has no effect if it is set."""
        self._lock.acquire(blocking=False)

    @property
    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._lock.locked()
