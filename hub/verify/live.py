"""The check of a running hub: all topics, committed records only, up to one cut.

How the cut is made: events are read first, then commands, state and intake, each up to its committed end. Then everything is
looked at again, and what was committed meanwhile is read too, in the same order. When a whole round finds nothing new, the
cut is exact and every comparison strict. A hub that never rests is read until `settle_seconds` are over; then rows and
commands newer than the events are counted, not judged. Replies are read last: they are compared with ends.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ..errors import ConfigurationError
from ..kafka import OffsetOutOfRange
from .checker import Checker
from .history import Execution, Journal, LogRecord, Options, Starts
from .kafka_source import kafka_source
from .report import Prefix, Report
from .source import Source
from .tables import COMMANDS_PREFIX, EVENTS, INTAKE, REPLIES, STATE

SETTLE_SECONDS = 5.0
ROUND_SECONDS = 0.05
BUSY_WAKE_SECONDS = 5.0
ATTEMPTS_MAX = 5

Progress = Callable[[str, int, int], None]
"""Called with (topic, records read so far, offsets to read): the second is approximate, markers take offsets too."""


class _Reading:
    """Where each partition has been read to, from `starts` on (0 where absent), and the reading on from there."""

    def __init__(self, source: Source, starts: Starts, progress: Progress | None) -> None:
        self._source = source
        self._progress = progress
        self._positions = {(topic, number): offset for topic, by in starts.items() for number, offset in by.items()}
        self._counts: dict[str, int] = {}
        self.open_transactions: set[tuple[str, int]] = set()

    async def on(self, topic: str, take: Callable[[int, LogRecord], None]) -> int:
        """Read every partition of `topic` to its committed end; returns how many offsets were new.

        Raises OffsetOutOfRange where what was to be read next has been removed meanwhile.
        """
        new = 0
        for partition, span in sorted((await self._source.spans(topic)).items()):
            place = (topic, partition)
            (self.open_transactions.add if span.committed < span.end else self.open_transactions.discard)(place)
            position = self._positions.get(place, span.start)
            if position < span.start:
                raise OffsetOutOfRange(topic, partition, position)
            if position >= span.committed:
                continue
            new += span.committed - position
            async for records in self._source.read(topic, partition, position, span.committed):
                for record in records:
                    take(partition, record)
                self._counts[topic] = self._counts.get(topic, 0) + len(records)
                if self._progress is not None:
                    self._progress(topic, self._counts[topic], new)
            self._positions[place] = span.committed
        return new


async def verify(
    bootstrap: str,
    *,
    require_all_ended: bool = False,
    acknowledged: Iterable[str] | None = None,
    progress: Progress | None = None,
    **more: Any,
) -> Report:
    """Check the hub whose broker answers at `bootstrap`: every topic, committed records only, up to one cut.

    `require_all_ended`: a live task, a waiting one or an open transaction is a finding. `acknowledged`: ids of acknowledged
    submissions. `progress` is called while reading. `more`: see `verify_source`. Raises BrokerUnreachable,
    ConfigurationError when the broker has no hub.
    """
    async with kafka_source(bootstrap) as source:
        return await verify_source(
            source, require_all_ended=require_all_ended, acknowledged=acknowledged, progress=progress, **more
        )


async def verify_source(
    source: Source,
    *,
    require_all_ended: bool = False,
    acknowledged: Iterable[str] | None = None,
    journals: list[Journal] | None = None,
    executions: Iterable[Execution] | None = None,
    earlier: dict[int, Prefix] | None = None,
    progress: Progress | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> Report:
    """Check the hub of `source`; see the module for the cut. Raises ConfigurationError when it has no `hub.events`.

    Where the beginning of a topic is removed before it was read, the check starts again with what is there then; OffsetOutOfRange
    when that happens ATTEMPTS_MAX times.
    """
    options = Options(
        require_all_ended=require_all_ended, wake_seconds=0.0 if require_all_ended else BUSY_WAKE_SECONDS, earlier=earlier or {}
    )
    given: dict[str, Any] = {
        "acknowledged": None if acknowledged is None else list(acknowledged),
        "executions": None if executions is None else list(executions),
        "journals": journals,
    }
    for _ in range(ATTEMPTS_MAX - 1):
        with suppress(OffsetOutOfRange):
            return await _verify_once(source, options, given, progress, settle_seconds)
    return await _verify_once(source, options, given, progress, settle_seconds)


async def _verify_once(
    source: Source, options: Options, given: dict[str, Any], progress: Progress | None, settle_seconds: float
) -> Report:
    topics = await source.topics()
    if not topics.get(EVENTS):
        raise ConfigurationError(f"There is no topic {EVENTS} at this address: is it the hub's broker, and has the hub run?")
    starts = {
        topic: {partition: span.start for partition, span in (await source.spans(topic)).items()}
        for topic in topics
        if topic in (EVENTS, INTAKE) or topic.startswith(COMMANDS_PREFIX)
    }
    checker = Checker(topics[EVENTS], options, starts=starts, **given)
    reading = _Reading(source, starts, progress)
    exact = await _settle(checker, reading, topics, settle_seconds)
    if REPLIES in topics:
        await reading.on(REPLIES, lambda partition, record: checker.reply(partition, record, exact=exact))
    if options.require_all_ended:
        for topic, partition in sorted(reading.open_transactions):
            checker.found.add("I33", f"{topic} has a transaction that is still open", partition=partition)
    return checker.finish(exact=exact)


async def _settle(checker: Checker, reading: _Reading, topics: dict[str, int], settle_seconds: float) -> bool:
    """Read round after round; True when one found nothing new and no open transaction."""
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
    """An empty topic is read, too: its invariants are checked."""
    checker.inputs |= {name for name, topic in (("state", STATE), ("intake", INTAKE), ("replies", REPLIES)) if topic in topics}
    if any(topic.startswith(COMMANDS_PREFIX) for topic in topics):
        checker.inputs.add("commands")


def _taker(checker: Checker, topic: str) -> Callable[[int, LogRecord], None]:
    return lambda partition, record: checker.command(topic, partition, record)


def _take_row(checker: Checker, partition: int, record: LogRecord) -> None:
    if record.key is not None:
        checker.row(partition, record.key, record.value)
