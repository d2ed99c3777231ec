"""Times of events: microseconds since the epoch, so that sums and comparisons are exact."""

from datetime import UTC, datetime, timedelta

from schemas import Event

SECOND = 1_000_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(seconds: float) -> int:
    """A duration in seconds, in microseconds."""
    return round(seconds * SECOND)


def moment_of(event: Event) -> int:
    """When an event happened."""
    return micros_of(event.time)


def micros_of(time: str) -> int:
    """An RFC 3339 time with a zone. Raises ValueError for any other text."""
    moment = datetime.fromisoformat(time)
    if moment.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return (moment - _EPOCH) // _MICROSECOND


def time_of(moment: int) -> str:
    """A moment as an RFC 3339 time in UTC, to the millisecond."""
    return (_EPOCH + moment * _MICROSECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")
