"""Tracks the starts of bodies that are not reported yet. The worker's event loop reports them after a short linger, the
heartbeat thread if a handler blocks the loop."""

from .attempts import Attempt


class Announcements:
    """Running bodies whose start is not reported yet. Each start is claimed once. Pure: times, in seconds, are passed in."""

    def __init__(self) -> None:
        self._pending: dict[Attempt, None] = {}

    @property
    def any_pending(self) -> bool:
        """Whether the start of a running body is not reported yet."""
        return bool(self._pending)

    def add(self, attempt: Attempt, now: float) -> None:
        """Add an attempt whose body begins at `now`."""
        attempt.began_at = now
        self._pending[attempt] = None

    def drop(self, attempt: Attempt) -> None:
        """Forget an attempt that has ended: its end implies its start."""
        self._pending.pop(attempt, None)

    def claim(self, attempt: Attempt) -> bool:
        """Whether the caller has to report the start; False if it is already claimed or the attempt has ended."""
        if attempt.over or attempt.announced:
            return False
        attempt.announced = True
        return True

    def claim_all(self) -> list[Attempt]:
        """Returns all pending attempts whose start the caller has to report."""
        pending, self._pending = self._pending, {}
        return [attempt for attempt in pending if self.claim(attempt)]

    def claim_older(self, began_before: float) -> list[Attempt]:
        """Like `claim_all`, but only for bodies that began before `began_before`; the others remain pending."""
        return [attempt for attempt in self._pending if attempt.began_at < began_before and self.claim(attempt)]
