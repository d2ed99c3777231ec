"""Retention: which records of a log are too old or too many, as a pure function of its parts.

As in Kafka (`LocalLog.deletableSegments`, `UnifiedLog.deleteOldSegments`): whole segments from the front, by their newest
timestamp (`retention.ms`) and as long as what stays is at least `retention.bytes`; nothing at or after the last stable offset.
Unlike there, what is not in a segment file yet counts as one, and a timestamp from after the last write to a segment counts as
the time of that write: one record from the year 9999 does not keep the log for ever.
"""

from collections.abc import Iterable, Iterator

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
    for part, following in _with_next(parts):
        closed_ms = now_ms if following is None else max(part.created_ms, following.created_ms)
        newest_ms = min(part.max_timestamp_ms, closed_ms) if part.max_timestamp_ms >= 0 else part.created_ms
        too_old = oldest_ms is not None and newest_ms < oldest_ms
        if part.end > limit or not (too_old or part.size <= excess):
            break
        excess -= part.size
        keep = max(keep, part.end)
    return keep


def _with_next(parts: Iterable[SegmentView]) -> Iterator[tuple[SegmentView, SegmentView | None]]:
    """Each part with the one after it, None for the last; a part more is taken from `parts` than is given."""
    before: SegmentView | None = None
    for part in parts:
        if before is not None:
            yield before, part
        before = part
    if before is not None:
        yield before, None
