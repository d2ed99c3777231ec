"""Compacts logs in the background: plans on the event loop, reads and writes in a thread that sleeps most of the time, and
swaps files in the thread that writes checkpoints, between two checkpoints."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from .broker import Broker
from .cleaning import CleaningStopped, Pace, Replacement, find_keys, rewrite
from .compaction import Cleaning, CleaningFilter, KeyMap, Rules, Spans, add_span, map_keys, plan_cleaning
from .flushing import Flusher
from .log import LogKey, PartitionLog, SegmentView
from .segment import Segment
from .segments import SegmentStore
from .storage import Storage

logger = logging.getLogger(__name__)

BACKLOG_SEGMENTS = 4
"""A log with at least this many segments to clean has a backlog: cleaning it may use more CPU."""
BACKLOG_SHARE = 2.0
"""Factor of `cleaner_share` for a log with a backlog."""
RETRY_SECONDS = 60.0
"""Time before a log is cleaned again after a failure."""
_Result = TypeVar("_Result")


class Compactor:
    """Compacts one log at a time, on disk or in memory."""

    def __init__(self, broker: Broker, storage: Storage, flusher: Flusher) -> None:
        self._state = broker.state
        self._store = storage.segments
        self._flusher = flusher
        self._pace = Pace(broker.state.settings.cleaner_share)
        self._thread = ThreadPoolExecutor(1, "broker-cleaner")
        self._failed: dict[LogKey, float] = {}
        self._spans: dict[LogKey, Spans] = {}
        """Cleanings of logs that are in memory only."""

    async def clean(self, log: PartitionLog) -> None:
        """Clean a log as long as there is enough to clean. A failure is logged, and the log is skipped for `RETRY_SECONDS`."""
        clock = self._state.clock
        if clock.monotonic() < self._failed.get(log.key, 0.0):
            return
        try:
            if self._store is None:
                await self._clean_in_memory(log)
            else:
                await self._clean_files(log, self._store)
            self._failed.pop(log.key, None)
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not self._misses_files(log):
                return  # records or the topic were deleted meanwhile
            self._failed = {key: at for key, at in self._failed.items() if at > clock.monotonic()}
            self._failed[log.key] = clock.monotonic() + RETRY_SECONDS
            logger.exception(
                "compaction of %s failed: superseded records stay on disk; retrying in %g s",
                log.key,
                RETRY_SECONDS,
                extra={"action": "compaction_failed"},
            )

    def _misses_files(self, log: PartitionLog) -> bool:
        """Whether a segment file of the log is missing."""
        if self._store is None or not self._state.topics.hold(log):
            return False
        return not all(segment.path.exists() for segment in self._store.segments(log.key))

    def give_up(self) -> None:
        """Abort the current cleaning at its next pause."""
        self._pace.stop()

    async def stop(self) -> None:
        """Abort the current cleaning, and wait for its thread."""
        self.give_up()
        await asyncio.to_thread(self._thread.shutdown)

    # --- logs on disk

    async def _clean_files(self, log: PartitionLog, store: SegmentStore) -> None:
        self._hurry(log)
        while self._state.topics.hold(log):
            spans = store.cleaned(log.key)
            log.forget_aborted(spans[-1][0] if spans else 0)
            views = store.views(log.key)
            cleaning = self._plan(log, views, spans)
            if cleaning is None:
                return
            if any(not view.closed and view.end <= cleaning.end for view in views):
                await self._flusher.in_background(store.seal, log.key)
            elif not await self._clean_segments(log, store, cleaning, spans):
                return

    def _hurry(self, log: PartitionLog) -> None:
        """Request a checkpoint for records that are overdue for compaction: only segments are compacted."""
        age_ms = self._state.clock.now_ms() - log.memory_since_ms
        if log.memory_bytes and age_ms >= log.settings.max_compaction_lag_ms:
            self._flusher.checkpoint_soon()

    def _plan(self, log: PartitionLog, views: list[SegmentView], spans: Spans) -> Cleaning | None:
        limit, now_ms = log.visible_end(committed=True), self._state.clock.now_ms()
        return plan_cleaning(views, spans, log.settings, start=log.start, limit=limit, now_ms=now_ms)

    def _rules(self, log: PartitionLog, cleaning: Cleaning, spans: Spans) -> Rules:
        retention_ms, now_ms = log.settings.delete_retention_ms, self._state.clock.now_ms()
        return Rules(cleaning.dirty_from, cleaning.end, log.aborted, spans, retention_ms, now_ms)

    async def _clean_segments(self, log: PartitionLog, store: SegmentStore, cleaning: Cleaning, spans: Spans) -> bool:
        """Returns False if the log changed meanwhile; the next round plans again."""
        share = self._state.settings.cleaner_share * (BACKLOG_SHARE if cleaning.backlog >= BACKLOG_SEGMENTS else 1)
        self._pace.share = min(1.0, share)
        rules = self._rules(log, cleaning, spans)
        segments = [segment for segment in store.segments(log.key) if segment.end <= cleaning.end]
        keys = await self._in_thread(lambda: self._find_keys(segments, rules))
        try:
            segments = [segment for segment in segments if segment.base < keys.end]
            limit = min(log.settings.segment_bytes, store.segment_bytes)
            keep = CleaningFilter(keys, rules, self._pace)
            work = rewrite(segments, keep, self._pace, segment_bytes=limit, now_ms=rules.now_ms)
            while (replacement := await self._in_thread(lambda: self._next(work))) is not None:
                if not await self._flusher.in_background(self._swap, store, log.key, replacement):
                    return False
                log.file_bytes = store.log_bytes(log.key)
            merged = add_span(spans, keys.end, rules.now_ms, rules.delete_retention_ms)
            await self._flusher.in_background(store.set_cleaned, log.key, merged)
            log.forget_aborted(keys.end)
            if store.holds_before(self._state.topics.starts()):
                self._flusher.checkpoint_soon()
        finally:
            with suppress(CleaningStopped):
                await self._in_thread(lambda: keys.release(self._pace))
        return True

    def _find_keys(self, segments: list[Segment], rules: Rules) -> KeyMap:
        self._pace.begin()
        return find_keys(segments, rules, self._pace, bytes_max=self._state.settings.cleaner_map_bytes)

    def _next(self, work: Iterator[Replacement]) -> Replacement | None:
        self._pace.begin()
        return next(work, None)

    @staticmethod
    def _swap(store: SegmentStore, key: LogKey, replacement: Replacement) -> bool:
        """Runs in the thread of checkpoints, the only one that changes the segment table."""
        if store.replace(key, replacement.old, replacement.new):
            return True
        if replacement.new is not None:
            replacement.new.path.unlink(missing_ok=True)
            replacement.new.index_path.unlink(missing_ok=True)
        return False

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- logs in memory

    async def _clean_in_memory(self, log: PartitionLog) -> None:
        spans = self._spans.get(log.key, [])
        log.forget_aborted(spans[-1][0] if spans else 0)
        views = list(log.memory_views(log.settings.segment_bytes))
        cleaning = self._plan(log, views, spans)
        if cleaning is None:
            return
        rules, old = self._rules(log, cleaning, spans), log.in_memory(cleaning.end)
        new, end = await self._in_thread(lambda: self._compact(old, rules))
        if self._state.topics.hold(log) and log.replace_in_memory(old, new):
            self._spans[log.key] = add_span(spans, end, rules.now_ms, rules.delete_retention_ms)
            log.forget_aborted(end)

    def _compact(self, old: list[bytes], rules: Rules) -> tuple[list[bytes], int]:
        self._pace.begin()
        keys = map_keys(old, rules, self._pace, bytes_max=self._state.settings.cleaner_map_bytes)
        keep = CleaningFilter(keys, rules, self._pace)
        new = [keep.apply(batch, last=number == len(old)) for number, batch in enumerate(old, 1)]
        return [batch for batch in new if batch is not None], keys.end
