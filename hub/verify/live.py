"""Checks a running hub: all topics, committed records only, up to one consistent point (the cut).

The cut: events are read first, then commands, state and intake, each up to its last stable offset. Further rounds read what
was committed meanwhile, in the same order. When a round finds nothing new, the cut is exact and all comparisons are strict. If
the hub stays busy for `settle_seconds`, rows and commands newer than the events are counted but not checked. Replies are read
last, because they are compared with ends.

Records may be deleted while they are read (`hub.intake` by the engine, every topic by retention). If the next records were
deleted, the check continues at the log start offset and treats the partition as one whose beginning was removed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ConfigurationError
from ..kafka import Cluster, OffsetOutOfRange
from .checker import Checker
from .history import Execution, LogRecord, Options, Starts, SubscriberJournal
from .kafka_source import kafka_source
from .report import Prefix, VerificationReport
from .source import Source, Span
from .tables import COMMANDS_PREFIX, EVENTS, INTAKE, REPLIES, STATE

SETTLE_SECONDS = 5.0
ROUND_SECONDS = 0.05
BUSY_WAKE_SECONDS = 5.0

Progress = Callable[[str, int, int], None]
"""Called with (topic, records read so far, number of offsets); the latter includes markers."""


class _Reading:
    """The read position of each partition, initially `starts` (0 if absent).

    `removed` is called with (topic, partition, log start offset) if the next records were deleted.
    """

    def __init__(
        self, source: Source, starts: Starts, removed: Callable[[str, int, int], None], progress: Progress | None
    ) -> None:
        self._source = source
        self._removed = removed
        self._progress = progress
        self._positions = {(topic, number): offset for topic, by in starts.items() for number, offset in by.items()}
        self._counts: dict[str, int] = {}
        self.open_transactions: set[tuple[str, int]] = set()

    async def on(self, topic: str, take: Callable[[int, LogRecord], None]) -> int:
        """Read every partition of `topic` up to its last stable offset. Returns the number of new offsets.

        Raises OffsetOutOfRange if the end of a partition was also removed.
        """
        new = 0
        for partition, span in sorted((await self._source.spans(topic)).items()):
            place = (topic, partition)
            (self.open_transactions.add if span.committed < span.end else self.open_transactions.discard)(place)
            position = self._from(place, span)
            if position < span.committed:
                new += span.committed - position
                await self._read(place, position, span.committed, take)
        return new

    def _from(self, place: tuple[str, int], span: Span) -> int:
        """The offset to continue at: the log start offset if the next record was deleted."""
        wanted = self._positions.get(place, span.start)
        if wanted < span.start:
            self._removed(*place, span.start)
        self._positions[place] = max(wanted, span.start)
        return self._positions[place]

    async def _read(self, place: tuple[str, int], position: int, end: int, take: Callable[[int, LogRecord], None]) -> None:
        """Read one partition up to `end`; each retry starts at a later offset."""
        while position < end:
            try:
                await self._read_kept(place, position, end, take)
                self._positions[place] = position = end
            except OffsetOutOfRange:
                span = (await self._source.spans(place[0]))[place[1]]
                if span.start <= position:
                    raise
                position = self._from(place, span)

    async def _read_kept(self, place: tuple[str, int], position: int, end: int, take: Callable[[int, LogRecord], None]) -> None:
        topic, partition = place
        async for records in self._source.read(topic, partition, position, end):
            for record in records:
                take(partition, record)
            self._counts[topic] = self._counts.get(topic, 0) + len(records)
            if self._progress is not None:
                self._progress(topic, self._counts[topic], end - position)


async def verify(
    cluster: Cluster,
    *,
    require_all_ended: bool = False,
    acknowledged: Iterable[str] | None = None,
    progress: Progress | None = None,
    **more: Any,
) -> VerificationReport:
    """Check the hub on `cluster`: all topics, committed records only, up to one cut.

    `require_all_ended`: a live task, a waiting one or an open transaction is a finding. `acknowledged`: ids of acknowledged
    submissions. `progress` is called while reading. `more`: see `verify_source`. Raises BrokerUnreachable, ConfigurationError
    if the cluster has no hub.
    """
    async with kafka_source(cluster) as source:
        return await verify_source(
            source, require_all_ended=require_all_ended, acknowledged=acknowledged, progress=progress, **more
        )


async def verify_source(
    source: Source,
    *,
    require_all_ended: bool = False,
    acknowledged: Iterable[str] | None = None,
    journals: list[SubscriberJournal] | None = None,
    executions: Iterable[Execution] | None = None,
    earlier: dict[int, Prefix] | None = None,
    progress: Progress | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> VerificationReport:
    """Check the hub of `source`; the module docstring explains the cut. Raises ConfigurationError if it has no `hub.events`."""
    options = Options(
        require_all_ended=require_all_ended, wake_seconds=0.0 if require_all_ended else BUSY_WAKE_SECONDS, earlier=earlier or {}
    )
    topics = await source.topics()
    if not topics.get(EVENTS):
        raise ConfigurationError(
            f"Topic {EVENTS} does not exist at this address. Check that it is the hub's broker and that the hub has run."
        )
    starts = {
        topic: {partition: span.start for partition, span in (await source.spans(topic)).items()}
        for topic in topics
        if topic in (EVENTS, INTAKE) or topic.startswith(COMMANDS_PREFIX)
    }
    checker = Checker(topics[EVENTS], options, starts=starts, acknowledged=acknowledged, journals=journals, executions=executions)
    reading = _Reading(source, starts, checker.removed, progress)
    exact = await _settle(checker, reading, topics, settle_seconds)
    if REPLIES in topics:
        await reading.on(REPLIES, lambda partition, record: checker.reply(partition, record, exact=exact))
    if options.require_all_ended:
        for topic, partition in sorted(reading.open_transactions):
            checker.found.add("I33", f"{topic} has an open transaction", partition=partition)
    return checker.finish(exact=exact)


async def _settle(checker: Checker, reading: _Reading, topics: dict[str, int], settle_seconds: float) -> bool:
    """Read in rounds; True if a round found nothing new and no open transaction."""
    deadline = asyncio.get_running_loop().time() + settle_seconds
    inboxes = sorted(topic for topic in topics if topic.startswith(COMMANDS_PREFIX))
    _announce(checker, topics)
    rounds = 0
    while True:
        rounds += 1
        new = await reading.on(EVENTS, checker.event)
        for topic in inboxes:
            new += await reading.on(topic, _taker(checker, topic))
        if STATE in topics:
            new += await reading.on(STATE, lambda partition, record: _take_row(checker, partition, record))
        if INTAKE in topics:
            await reading.on(INTAKE, checker.intake_record)
        if not new and not reading.open_transactions:
            return True
        if rounds > 1 and asyncio.get_running_loop().time() >= deadline:
            return False
        if rounds > 1:
            await asyncio.sleep(ROUND_SECONDS)


def _announce(checker: Checker, topics: dict[str, int]) -> None:
    """Mark empty topics as read, so that their invariants are checked."""
    checker.inputs |= {name for name, topic in (("state", STATE), ("intake", INTAKE), ("replies", REPLIES)) if topic in topics}
    if any(topic.startswith(COMMANDS_PREFIX) for topic in topics):
        checker.inputs.add("commands")


def _taker(checker: Checker, topic: str) -> Callable[[int, LogRecord], None]:
    return lambda partition, record: checker.command(topic, partition, record)


def _take_row(checker: Checker, partition: int, record: LogRecord) -> None:
    if record.key is not None:
        checker.row(partition, record.key, record.value)
