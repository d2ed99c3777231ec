"""The progress of a consumer: committed offsets, lag, detection of a stuck position, and of a broker that does not respond."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from .window import Session

STUCK_SECONDS = 6.0


class StuckPartition(NamedTuple):
    """A partition whose position has not advanced for `seconds` although the log ends at a higher offset."""

    number: int
    position: int
    end: int
    seconds: float


class Progress:
    """The progress by partition number, across assignments. `ends`: the end offsets of the log as last queried; `lag`: the number
    of records between the committed offsets and `ends`. Times are in seconds, of one clock."""

    def __init__(self) -> None:
        self.lag = 0
        self.ends: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._moved: dict[int, tuple[int, float]] = {}

    def assign(self, positions: Mapping[int, int], ends: Mapping[int, int], now: float) -> None:
        """Begin an assignment at these positions, which are committed."""
        self._committed.update(positions)
        self._moved.update({number: (position, now) for number, position in positions.items()})
        self.ends = dict(ends)
        self.lag = sum(ends[number] - position for number, position in positions.items())

    def committable(self, session: Session) -> dict[int, int]:
        """The offsets that can be committed and are not committed yet. Updates `lag`."""
        offsets = {number: window.committable() for number, window in session.windows.items()}
        self.lag = sum(max(0, self.ends.get(number, offset) - offset) for number, offset in offsets.items())
        return {number: offset for number, offset in offsets.items() if offset > self._committed.get(number, -1)}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Record that these offsets are committed."""
        self._committed.update(offsets)

    def find_stuck(self, session: Session, paused: Collection[int], now: float) -> StuckPartition | None:
        """A partition whose position has not advanced for STUCK_SECONDS although the log has more records, the subscriber has
        room and the partition is not paused; None if there is none."""
        full = session.room() == 0
        for number, window in session.windows.items():
            position, since = self._moved.get(number, (-1, now))
            end = self.ends.get(number, 0)
            if window.position != position or full or number in paused or end <= window.position:
                self._moved[number] = (window.position, now)
            elif now - since > STUCK_SECONDS:
                return StuckPartition(number, position, end, now - since)
        return None


class Silence:
    """Measures how long the broker has not responded; logs each outage once, with its cause."""

    def __init__(self, topic: str, logger: logging.Logger) -> None:
        self._topic = topic
        self._log = logger
        self._answered_at = time.monotonic()
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the last response."""
        return time.monotonic() - self._answered_at

    @property
    def is_noted(self) -> bool:
        """Whether the latest request failed."""
        return self._since is not None

    def restart(self) -> None:
        """Restart the measurement."""
        self._answered_at = time.monotonic()

    def note(self, error: Exception, away: Callable[[], str], seconds: float = 0.0) -> None:
        """Record a failed request. `away` returns a description of the unreachable leaders; `seconds`: how long there has been
        no response at least."""
        self._answered_at = min(self._answered_at, time.monotonic() - seconds)
        if self._since is None:
            self._since = time.monotonic()
            reason = str(error) or type(error).__name__
            self._log.warning(
                "reading %s is interrupted: %s (%s)", self._topic, away(), reason, extra={"action": "broker_silent"}
            )

    def end(self) -> None:
        """Record a response of the broker."""
        self.restart()
        if self._since is not None:
            seconds, self._since = self._answered_at - self._since, None
            self._log.warning("reading %s continues after %.1f s", self._topic, seconds, extra={"action": "broker_answers"})
