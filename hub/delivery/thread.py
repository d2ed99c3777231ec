"""A thread with an event loop for the code of one subscriber, so that a blocking handler affects only this subscriber.

Its consumer runs in the service's loop, so a blocking handler keeps its membership in the consumer group. A thread cannot be
killed: it is a daemon thread, is abandoned if it does not end, and its later results are ignored.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop event loop if uvloop is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class SubscriberThread:
    """A daemon thread with an event loop, started by the constructor. Use from the service's loop; call `stop` at the end."""

    def __init__(self, name: str) -> None:
        self.loop = new_event_loop()
        self._asked_at: float | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            leftover = asyncio.all_tasks(self.loop)
            for task in leftover:
                task.cancel()
            if leftover:
                self.loop.run_until_complete(asyncio.wait(leftover, timeout=1.0))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def run(self, work: Coroutine[Any, Any, T], timeout_seconds: float) -> T:
        """Run `work` in the thread and return its result. After `timeout_seconds` it is cancelled and TimeoutError is raised."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        async with asyncio.timeout(timeout_seconds):
            return await asyncio.wrap_future(future)

    def blocked_seconds(self) -> float:
        """Seconds since the first unanswered call of the loop; 0 if it has responded, which starts a new call. Call regularly."""
        if not self._thread.is_alive():
            return 0.0
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self.loop.call_soon_threadsafe(self._answer)
            return 0.0
        return time.monotonic() - self._asked_at

    def _answer(self) -> None:
        self._asked_at = None

    async def stop(self, timeout_seconds: float) -> bool:
        """Stop the loop and the thread. False if it did not end within `timeout_seconds` and is abandoned."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            await asyncio.to_thread(self._thread.join, timeout_seconds)
        return not self._thread.is_alive()
