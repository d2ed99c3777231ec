"""The present time as text, for records and states that people read."""

from datetime import UTC, datetime


def utc_now() -> str:
    """The present time, with milliseconds (RFC 3339, UTC)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
