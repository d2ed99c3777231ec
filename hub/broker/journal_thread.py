"""The thread that writes and syncs the journal, and the decision when it is used.

The latency of a single task includes this handover twice. It uses one queue to the thread and one event loop callback back,
which is faster than the futures and locks of an executor (measured with one task at a time).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Work = Callable[[], None]
Done = Callable[[BaseException | None], None]

QUICK_SECONDS = 0.001
SLOW_SECONDS = 0.02
RECENT_WRITES = 9


class WritePace:
    """How long recent writes of blocks took, syncs included, and whether the next one should run on the event loop.

    There it saves two handovers between threads (a sixth of the CPU time of broker and engine for a single task, and a tenth of
    its latency), and costs no throughput as long as most writes take less than `QUICK_SECONDS`. That is the median, because a
    few slow ones, as every disk has, would dominate the mean. But the event loop can do nothing else meanwhile: after a write of
    `SLOW_SECONDS` the thread is used again, until the last `RECENT_WRITES` were shorter."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_WRITES)

    def record(self, seconds: float) -> None:
        """Add the duration of a write."""
        self._recent.append(seconds)

    @property
    def suits_event_loop(self) -> bool:
        """Whether the next block should be written on the event loop."""
        recent = sorted(self._recent)
        return not recent or (recent[len(recent) // 2] < QUICK_SECONDS and recent[-1] < SLOW_SECONDS)


class JournalThread:
    """Runs functions in the order of their calls in one thread, which starts with the first call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def call(self, work: Work, done: Done) -> None:
        """Run `work` in the thread, then `done` on the event loop with the exception of `work`, or None."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="broker-journal", daemon=True)
            self._thread.start()
        self._queue.put((work, done))

    def stop(self) -> None:
        """Wait for all submitted work and end the thread. `done` callbacks may still run afterwards."""
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
            except RuntimeError:  # the loop is closed: nothing waits for the result
                return
            del work, done, item  # do not keep a block in memory until the next one arrives
