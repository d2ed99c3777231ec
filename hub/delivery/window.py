"""Events in flight (passed to the subscriber and not acknowledged yet), per partition, and the offset that may be committed.

Used by two threads: the feed (in the service's loop) appends and reads; the subscriber's thread marks events as done. Every field
has one writer, so no lock is needed: a stale read only delays a commit or a resume.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from ..kafka import SharedHeadersRecord
from .policies import EventPolicy
from .selection import Headers, Route

SHARE_MIN = 0.25
"""The share of `in_flight_max` that must be free before more events are read."""
OVERHEAD_BYTES = 200
"""What an event in flight takes in memory, without the bytes of its record."""


class Item:
    """One record in flight. `record`: as fetched; None after `finish`."""

    __slots__ = ("done", "error", "failures", "first_failure_at", "offset", "partition", "policy", "record", "route", "session",
                 "size", "timestamp_ms", "wall_first_failure")  # fmt: skip

    def __init__(self, session: "Session", route: Route, record: Any, partition: int | None = None) -> None:
        """`partition`: needed for a record without this attribute."""
        self.session = session
        self.route = route
        self.partition: int = record.partition if partition is None else partition
        self.offset: int = record.offset
        self.timestamp_ms: int = record.timestamp
        self.size: int = (record.size if type(record) is SharedHeadersRecord else _size(record)) + OVERHEAD_BYTES
        self.record = record
        self.done = False
        self.failures = 0
        self.first_failure_at = 0.0
        self.wall_first_failure = ""
        self.error: BaseException | None = None
        self.policy: EventPolicy | None = None

    @property
    def key(self) -> bytes | None:
        """The key of the record; None after `finish`."""
        return None if self.record is None else self.record.key

    @property
    def value(self) -> bytes | None:
        """The value of the record; None after `finish`."""
        return None if self.record is None else self.record.value

    @property
    def headers(self) -> Headers:
        """The headers of the record; empty after `finish`."""
        return () if self.record is None else tuple(self.record.headers)

    def finish(self) -> None:
        """Acknowledge the record. Called once, in the subscriber's thread."""
        self.done = True
        self.record = self.error = None
        session = self.session
        session.finished += 1
        session.finished_bytes += self.size
        if session.waiting and session.has_room(0.5):
            session.waiting = False
            session.wake()


def _size(record: Any) -> int:
    return len(record.value or b"") + sum([len(value or b"") for _, value in record.headers])


class Window:
    """One partition: its unacknowledged items in the order of offsets, and the offset of the next record to read."""

    __slots__ = ("pending", "position")

    def __init__(self, position: int) -> None:
        self.pending: deque[Item] = deque()
        self.position = position

    def forget_done(self) -> None:
        """Remove acknowledged items up to the first that is not acknowledged."""
        pending = self.pending
        while pending and pending[0].done:
            pending.popleft()

    def committable(self) -> int:
        """The offset that may be committed: the lowest that is not acknowledged. Filtered records advance it, too."""
        self.forget_done()
        pending = self.pending
        return pending[0].offset if pending else self.position


class Session:
    """One assignment of partitions, until its revocation. Events of a revoked session are ignored."""

    def __init__(self, in_flight_max: int, in_flight_bytes_max: int, wake: Callable[[], None]) -> None:
        self.windows: dict[int, Window] = {}
        self.revoked = False
        self.wake = wake
        self.waiting = False
        self.fed = self.fed_bytes = 0
        self.finished = self.finished_bytes = 0
        self._in_flight_max = in_flight_max
        self._in_flight_bytes_max = in_flight_bytes_max

    @property
    def in_flight(self) -> int:
        """The number of events in flight."""
        return self.fed - self.finished

    def oldest_ms(self) -> int | None:
        """The timestamp, in milliseconds since the epoch, of the oldest event that is not acknowledged; None if there is none."""
        first = [window.pending[0].timestamp_ms for window in self.windows.values() if window.committable() < window.position]
        return min(first, default=None)

    def room(self) -> int:
        """How many more events may be passed to the subscriber now. 0 also if it is less than a quarter of the bound: the events
        of a few large chunks cost less than those of many small ones."""
        if self.fed_bytes - self.finished_bytes >= self._in_flight_bytes_max:
            return 0
        room = self._in_flight_max - self.in_flight
        return room if room >= self._in_flight_max * SHARE_MIN else 0

    def has_room(self, share: float) -> bool:
        """Whether at most `share` of both bounds is in use."""
        return (
            self.in_flight <= self._in_flight_max * share
            and self.fed_bytes - self.finished_bytes <= self._in_flight_bytes_max * share
        )
