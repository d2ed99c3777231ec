"""Times as values: integer microseconds since the Unix epoch (`*_us`) in memory, RFC 3339 text in UTC on the log. Reads no
clock."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from schemas import quoted

SECOND_US = 1_000_000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WITHOUT_ZONE = datetime(1970, 1, 1)  # noqa: DTZ001  # its text has no offset


def text_of(time_us: int) -> str:
    """RFC 3339 text with microseconds, e.g. "2026-01-31T12:00:00.123456Z"."""
    seconds, rest_us = divmod(time_us, SECOND_US)
    return f"{_second_of(seconds)}.{rest_us:06d}Z"


@lru_cache(maxsize=1024)
def _second_of(seconds: int) -> str:
    """The text of a second, without its fraction and zone. The times of a batch, and of those after it, are nearly always in the
    same one."""
    return (_EPOCH_WITHOUT_ZONE + timedelta(seconds=seconds)).isoformat()


@lru_cache(maxsize=1024)
def us_of(text: str) -> int:
    """Microseconds since the epoch of RFC 3339 text. Raises ValueError where it is another text or names no offset from UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not an RFC 3339 time such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{quoted(text)} names no time zone; end it with Z or an offset such as +02:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def us_of_seconds(seconds: float) -> int:
    """A duration in microseconds."""
    return round(seconds * SECOND_US)


def earliest(time_us: int | None, other_us: int | None) -> int | None:
    """The earlier of two times; None is later than all times."""
    if time_us is None:
        return other_us
    return time_us if other_us is None or time_us < other_us else other_us
