"""Which starts are reported, and by whom: the worker's event loop after a short linger, or the heartbeat thread where a handler
blocks the loop."""

import threading
from collections import deque

from .attempts import Attempt


class Announcements:
    """Bodies that run and whose start is not reported yet. From any thread; `claim` gives each start to exactly one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: deque[Attempt] = deque()

    def add(self, attempt: Attempt) -> None:
        """The body of an attempt begins."""
        with self._lock:
            self._pending.append(attempt)

    def claim(self, attempt: Attempt) -> bool:
        """Whether the caller is the one to report the start. False when it is reported already, or the attempt is over."""
        with self._lock:
            return self._claim(attempt)

    def end(self, attempt: Attempt) -> None:
        """The attempt is over: its end says that it began."""
        with self._lock:
            attempt.over = True

    def claim_all(self) -> list[Attempt]:
        """Every pending attempt whose start the caller is to report."""
        with self._lock:
            pending, self._pending = self._pending, deque()
            return [attempt for attempt in pending if self._claim(attempt)]

    def claim_older(self, began_before: float) -> list[Attempt]:
        """As `claim_all`, for bodies that began before a time (of `time.monotonic`); the others stay pending."""
        with self._lock:
            return [attempt for attempt in self._pending if attempt.began_at < began_before and self._claim(attempt)]

    @staticmethod
    def _claim(attempt: Attempt) -> bool:
        if attempt.over or attempt.announced:
            return False
        attempt.announced = True
        return True
