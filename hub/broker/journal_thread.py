"""The thread that writes and syncs the journal.

A task that runs alone waits for this hand-over twice, so it costs as little as possible: one queue there and one callback of the
event loop back, without the futures and locks of an executor (measured with one task at a time).
"""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Work = Callable[[], None]
Done = Callable[[BaseException | None], None]


class JournalThread:
    """Runs work in the order in which it is handed over, in one thread that starts with the first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def call(self, work: Work, done: Done) -> None:
        """Run `work` in the thread, then `done` on the event loop with what `work` raised, or None."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="broker-journal", daemon=True)
            self._thread.start()
        self._queue.put((work, done))

    def stop(self) -> None:
        """Wait until everything that was handed over is done, and end the thread. `done` may still be called afterwards."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, done = item
            error: BaseException | None = None
            try:
                work()
            except BaseException as raised:
                error = raised
            try:
                self._loop.call_soon_threadsafe(done, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del work, done, item  # a block is not kept until the next one comes
