"""Times of events in nanoseconds since the Unix epoch, as OTLP has them."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def ns_of(text: str) -> int:
    """Nanoseconds since the epoch of RFC 3339 text; 0 for a time before it. Raises ValueError if it is another text or names no
    offset from UTC."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time of the event names no offset from UTC")
    return max(0, (moment - _EPOCH) // _MICROSECOND * 1000)


def ns_of_seconds(seconds: float) -> int:
    """A duration in nanoseconds, in whole microseconds."""
    return round(seconds * 1_000_000) * 1000
