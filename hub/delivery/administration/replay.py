"""Replays events of the log to a subscriber: without its group, so that the committed offsets do not change.

1. The end of each partition is determined: later events are not replayed. 2. The partitions are read one after the other, from
the first record at or after the beginning of the range. 3. Records in the range that the subscriber selects are delivered to a
fresh instance, with the order, retries and dead letters of delivery, and `meta.replay` true.

Records that are not events are counted, and not replayed.
"""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas import header_map
from subscribers import Handler, type_matches

from ...kafka import EVENTS, Cluster, OffsetRange, StoredRecord, describe_offsets, find_offsets
from ..clients import Clients
from ..config import SubscriberPlan
from ..dead_letters import DeadLetters
from ..failures import DeadLetterSink
from ..selection import Malformed, Route, Selection
from ..status import Counters
from .instance import LoggedRecord, durable_state, opened
from .reading import read_range

SKEW_MS = 600_000
"""Timestamps of a partition may decrease by this much, when another engine with another clock takes it over: reading continues
for this time after the end of the range."""


class ReplayRange(NamedTuple):
    """Which events are replayed: timestamps (ms) from `from_ms` up to, but not including, `to_ms`; types that match `pattern`;
    those of one task, or of one workflow and its steps. None: no limit."""

    from_ms: int | None = None
    to_ms: int | None = None
    pattern: str | None = None
    task: str | None = None

    def has(self, record: StoredRecord) -> bool:
        """Whether a record is in the range."""
        if self.from_ms is not None and record.timestamp_ms < self.from_ms:
            return False
        if self.to_ms is not None and record.timestamp_ms >= self.to_ms:
            return False
        if self.pattern is None and self.task is None:
            return True
        headers = header_map(tuple(record.headers))
        if self.pattern is not None and not type_matches(self.pattern, headers.get("ce_type", b"").decode(errors="replace")):
            return False
        task = None if self.task is None else self.task.encode()
        return task is None or task in (record.key, headers.get("ce_subject"))

    def is_after(self, record: StoredRecord) -> bool:
        """Whether no later record of its partition can be in the range."""
        return self.to_ms is not None and record.timestamp_ms >= self.to_ms + SKEW_MS


@dataclass
class ReplayProgress:
    """Numbers of a replay so far. `total`, `read`: offsets to read, and those that were read or skipped by a seek; `matching`:
    events by type; `malformed`: records that are not events. `counters`: the events by outcome."""

    total: int = 0
    read: int = 0
    matching: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    counters: Counters = field(default_factory=Counters)

    @property
    def failed(self) -> int:
        """Events that could not be delivered: they are dead letters, or were skipped, as configured."""
        return self.counters.dead_lettered + self.counters.skipped

    @property
    def percent(self) -> float:
        """How much of the log was read, in per cent."""
        return 100.0 if self.total == 0 else 100.0 * self.read / self.total


async def count_matching(
    cluster: Cluster,
    plan: SubscriberPlan,
    wanted: ReplayRange,
    *,
    topic: str = EVENTS,
    on_progress: Callable[[ReplayProgress], None] = lambda _: None,
) -> ReplayProgress:
    """What a replay would deliver. Raises Unreachable, TopicMissing, OffsetOutOfRange."""
    scan = await _Scan.begin(cluster, topic, wanted, on_progress)
    async with aclosing(scan.matching(plan)) as records:
        async for _ in records:
            pass
    return scan.progress


async def replay(
    cluster: Cluster,
    plan: SubscriberPlan,
    wanted: ReplayRange,
    sink: DeadLetterSink,
    *,
    topic: str = EVENTS,
    on_progress: Callable[[ReplayProgress], None] = lambda _: None,
) -> ReplayProgress:
    """Deliver the events in the range; those that fail are given to `sink`, as by delivery. `on_progress` is called while reading
    and while waiting. Raises what the instance's `open` raises, StoppedByPolicy, Unreachable, TopicMissing, OffsetOutOfRange."""
    plan = plan._replace(replay=True)
    scan = await _Scan.begin(cluster, topic, wanted, on_progress)

    def on_wait(_: Counters) -> None:
        on_progress(scan.progress)

    logger = logging.getLogger(f"hub.delivery.{plan.config.id}")
    async with durable_state(cluster, plan) as state, opened(plan, sink, state, on_wait=on_wait, logger=logger) as instance:
        scan.progress.counters = instance.counters
        async with aclosing(scan.matching(plan)) as records:
            async for route, record in records:
                await instance.feed(route, record)
        await instance.finish()
    return scan.progress


async def replay_to_dead_letters(
    cluster: Cluster,
    plan: SubscriberPlan,
    wanted: ReplayRange,
    configs: Mapping[str, str],
    *,
    on_progress: Callable[[ReplayProgress], None],
) -> ReplayProgress:
    """`replay` of `hub.events`; events that fail become dead letters if the subscriber is configured so. `configs`: settings of
    the topic of dead letters. Raises as `replay` does, and TopicRefused or TopicMismatch."""
    clients = Clients(cluster, configs)
    letters = DeadLetters(clients, EVENTS)
    if plan.delivery.on_error == "dlq":
        await clients.ensure_dead_letter_topic(plan.config.id, EVENTS)
    try:
        return await replay(cluster, plan, wanted, letters, on_progress=on_progress)
    finally:
        await letters.close()


class _Scan:
    """Reads the log once. `progress`: what was read so far."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        wanted: ReplayRange,
        ranges: dict[int, OffsetRange],
        on_progress: Callable[[ReplayProgress], None],
    ) -> None:
        self.progress = ReplayProgress(total=sum(one.length for one in ranges.values()))
        self._cluster, self._topic, self._wanted, self._ranges = cluster, topic, wanted, ranges
        self._on_progress = on_progress

    @classmethod
    async def begin(
        cls, cluster: Cluster, topic: str, wanted: ReplayRange, on_progress: Callable[[ReplayProgress], None]
    ) -> "_Scan":
        """A scan up to the present end of the log. Raises Unreachable, TopicMissing."""
        return cls(cluster, topic, wanted, await _ranges(cluster, topic, wanted), on_progress)

    async def matching(self, plan: SubscriberPlan) -> AsyncGenerator[tuple[Route, LoggedRecord], None]:
        """The records to deliver, with their handlers, in the order of each partition."""
        selection, progress, wanted = Selection(plan.plugin, plan.settings, plan.filter), self.progress, self._wanted
        for partition, offsets in self._ranges.items():
            done = progress.read
            async with aclosing(read_range(self._cluster, self._topic, partition, offsets)) as records:
                async for record in records:
                    progress.read = done + record.offset - offsets.start + 1
                    self._on_progress(progress)
                    if wanted.is_after(record):
                        break
                    route = selection.route(tuple(record.headers)) if wanted.has(record) else None
                    if isinstance(route, Malformed):
                        progress.malformed += 1
                    elif isinstance(route, Handler):
                        progress.matching[_type_of(record)] += 1
                        yield route, _log_record(partition, record)
            progress.read = done + offsets.length


def _log_record(partition: int, record: StoredRecord) -> LoggedRecord:
    offset, timestamp_ms, key, value, headers = record
    return LoggedRecord(partition, offset, timestamp_ms, key, value, tuple(headers))


async def _ranges(cluster: Cluster, topic: str, wanted: ReplayRange) -> dict[int, OffsetRange]:
    ranges = await describe_offsets(cluster, topic)
    if wanted.from_ms is None:
        return ranges
    first = await find_offsets(cluster, topic, wanted.from_ms)
    starts = {partition: first[partition] for partition in ranges}
    return {
        partition: OffsetRange(end if (start := starts[partition]) is None else min(max(start, low), end), end)
        for partition, (low, end) in ranges.items()
    }


def _type_of(record: StoredRecord) -> str:
    return header_map(tuple(record.headers)).get("ce_type", b"").decode(errors="replace")
