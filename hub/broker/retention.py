"""Retention: which records of a log are too old or too many, as a pure function of its parts.

As in Kafka (`LocalLog.deletableSegments`, `UnifiedLog.deleteOldSegments`): whole segments from the front, by their newest
timestamp (`retention.ms`) and as long as what stays is at least `retention.bytes`; nothing at or after the last stable offset.
Unlike there, what is not in a segment file yet counts as one.
"""

from collections.abc import Iterable

from .log import SegmentView
from .topic_settings import TopicSettings


def retained_from(
    parts: Iterable[SegmentView], total_bytes: int, settings: TopicSettings, *, start: int, limit: int, now_ms: int
) -> int:
    """The first offset that stays.

    `parts` lie in order and hold `total_bytes`; they are looked at no further than the first that stays. `start` is the log's
    first offset now, `limit` the one that may not be passed."""
    if not settings.delete:
        return start
    oldest_ms = now_ms - settings.retention_ms if settings.retention_ms >= 0 else None
    excess = total_bytes - settings.retention_bytes if settings.retention_bytes >= 0 else -1
    keep = start
    for part in parts:
        newest_ms = part.max_timestamp_ms if part.max_timestamp_ms >= 0 else part.created_ms
        too_old = oldest_ms is not None and newest_ms < oldest_ms
        if part.end > limit or not (too_old or part.size <= excess):
            break
        excess -= part.size
        keep = max(keep, part.end)
    return keep
