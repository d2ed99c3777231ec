"""Retention as a pure function: which segments of a log are too old or exceed its size.

As in Kafka (`LocalLog.deletableSegments`, `UnifiedLog.deleteOldSegments`), whole segments are deleted from the start of the
log: those whose largest timestamp is older than `retention.ms`, and those without which the log still has `retention.bytes`.
Nothing at or after the last stable offset is deleted. Unlike in Kafka, batches in memory count as a segment, and a timestamp
later than the last write to a segment counts as the time of that write, so that one record from the year 9999 does not keep
the log forever.
"""

from collections.abc import Iterable, Iterator

from .log import SegmentView
from .topic_settings import TopicSettings


def retained_from(
    parts: Iterable[SegmentView], total_bytes: int, settings: TopicSettings, *, start: int, limit: int, now_ms: int
) -> int:
    """The first offset that is retained.

    `parts` are in order and hold `total_bytes`; they are consumed only up to the first that is retained. `start` is the
    current start of the log, `limit` an upper bound of the result."""
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
    """Each part with its successor, None for the last; reads one part ahead."""
    before: SegmentView | None = None
    for part in parts:
        if before is not None:
            yield before, part
        before = part
    if before is not None:
        yield before, None
