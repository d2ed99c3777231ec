"""Which starts are reported, and by whom: the worker's event loop after a short linger, or the heartbeat thread where a handler
blocks the loop."""

from .attempts import Attempt


class Announcements:
    """Bodies that run and whose start is not reported yet; each start is claimed once. Pure: times are the caller's."""

    def __init__(self) -> None:
        self._pending: list[Attempt] = []

    def add(self, attempt: Attempt, now: float) -> None:
        """The body of an attempt begins."""
        attempt.began_at = now
        self._pending.append(attempt)

    def claim(self, attempt: Attempt) -> bool:
        """Whether the caller is the one to report the start. False when it is reported already, or the attempt is over."""
        if attempt.over or attempt.announced:
            return False
        attempt.announced = True
        return True

    def claim_all(self) -> list[Attempt]:
        """Every pending attempt whose start the caller is to report."""
        pending, self._pending = self._pending, []
        return [attempt for attempt in pending if self.claim(attempt)]

    def claim_older(self, began_before: float) -> list[Attempt]:
        """As `claim_all`, for bodies that began before a time; the others stay pending."""
        return [attempt for attempt in self._pending if attempt.began_at < began_before and self.claim(attempt)]
