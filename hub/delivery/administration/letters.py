"""Reads the dead letters of a subscriber, and marks them as handled.

Kafka cannot delete single records, so a handled dead letter gets a mark in `hub.subscribers`, which hides it. When the first
records of a partition are all handled, they are deleted, and their marks with them.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Literal, NamedTuple

from msgspec import json

from schemas import header_map
from subscribers import type_matches

from ...kafka import (
    Cluster,
    OffsetRange,
    StoredRecord,
    TopicMissing,
    TopicRefused,
    delete_records,
    describe_offsets,
    dlq_topic,
)
from ..selection import Headers
from ..times import utc_now
from .control_records import Mark, Place, mark_key, marks_in
from .control_topic import ControlWriter, read_latest
from .instance import LoggedRecord
from .reading import read_range

FIRST_REASON = "dlq_subscriber"
"""The first of the headers that delivery adds (see `hub.delivery.dead_letters`)."""


AT_ONCE = 100
"""Dead letters that are marked as handled together: after a crash, at most this many are delivered again."""

_log = logging.getLogger(__name__)


class StoredLetter(NamedTuple):
    """A dead letter. `place`: its partition and offset in its topic. `original`: the event's record, with its position on
    `hub.events`; `reasons`: the added headers."""

    place: Place
    timestamp_ms: int
    original: LoggedRecord
    reasons: dict[str, str]

    @property
    def type(self) -> str:
        """The event type; empty if the record has none."""
        return self._header("ce_type")

    @property
    def subject(self) -> str:
        """The id of the entity; empty if the record has none."""
        return self._header("ce_subject")

    @property
    def cut_bytes(self) -> int | None:
        """The original size in bytes of a truncated dead letter; None if it is complete."""
        size = self.reasons.get("dlq_cut_from")
        return int(size) if size is not None and size.isdecimal() else None

    def _header(self, name: str) -> str:
        return header_map(self.original.headers).get(name, b"").decode(errors="replace")


class Choice(NamedTuple):
    """Which dead letters a command is about: one `place`, or all; of these, those whose type matches `pattern`."""

    place: Place | None = None
    pattern: str | None = None

    def has(self, letter: StoredLetter) -> bool:
        """Whether a dead letter is chosen."""
        if self.place is not None and letter.place != self.place:
            return False
        return self.pattern is None or type_matches(self.pattern, letter.type)


ALL = Choice()


class LetterBox:
    """The dead letters of one subscriber. Close it after `mark`."""

    def __init__(self, cluster: Cluster, subscriber: str) -> None:
        self._cluster, self._subscriber = cluster, subscriber
        self._topic = dlq_topic(subscriber)
        self._writer = ControlWriter(cluster)

    async def letters(self, choice: Choice = ALL) -> AsyncGenerator[StoredLetter, None]:
        """The chosen dead letters that were not handled, by partition and offset. Raises Unreachable, OffsetOutOfRange."""
        marks = await self._marks()
        for partition, offsets in (await self._ranges()).items():
            async with aclosing(self._unhandled(partition, offsets, marks)) as letters:
                async for letter in letters:
                    if choice.has(letter):
                        yield letter

    async def count(self, latest: dict[bytes, bytes]) -> int:
        """The number of dead letters that were not handled; `latest`: the records of `hub.subscribers`. Raises as `letters`
        does."""
        ranges, marks = await self._ranges(), marks_in(latest, self._subscriber)
        if any(partition in ranges and offset in range(*ranges[partition]) for partition, offset in marks):
            return sum([1 async for _ in self.letters()])
        return sum(one.length for one in ranges.values())

    async def mark(self, letters: Iterable[StoredLetter], outcome: Literal["retried", "dropped"]) -> None:
        """Mark dead letters as handled; returns when that is stored. Raises Unreachable, TopicRefused."""
        now = utc_now()
        marks = {mark_key(self._subscriber, one.place): json.encode(Mark(outcome, now, one.timestamp_ms)) for one in letters}
        if marks:
            await self._writer.put_all(marks)

    async def shorten(self) -> None:
        """Delete the records of each partition before the first that is not handled, then the marks of deleted records. Raises
        Unreachable."""
        marks, gone = await self._marks(), []
        for partition, (start, end) in (await self._ranges()).items():
            first = end
            async with aclosing(self._unhandled(partition, OffsetRange(start, end), marks)) as letters:
                async for letter in letters:
                    first = letter.place[1]
                    break
            if first > start and not await self._delete(partition, first):
                first = start
            gone += [(number, offset) for number, offset in marks if number == partition and offset < first]
        if gone:
            await self._writer.put_all({mark_key(self._subscriber, place): None for place in gone})

    async def _delete(self, partition: int, before: int) -> bool:
        """Whether the records could be deleted: the user may not be authorized. Their marks hide them otherwise."""
        try:
            await delete_records(self._cluster, self._topic, partition, before)
        except TopicRefused as error:
            _log.info("cannot shorten %s: %s", self._topic, error, extra={"action": "dead_letters_kept"})
            return False
        return True

    async def _unhandled(
        self, partition: int, offsets: OffsetRange, marks: dict[Place, Mark]
    ) -> AsyncGenerator[StoredLetter, None]:
        async with aclosing(read_range(self._cluster, self._topic, partition, offsets)) as records:
            async for record in records:
                mark = marks.get((partition, record.offset))
                if mark is None or mark.timestamp_ms != record.timestamp_ms:
                    yield letter_of(partition, record)

    async def _marks(self) -> dict[Place, Mark]:
        return marks_in(await read_latest(self._cluster), self._subscriber)

    async def _ranges(self) -> dict[int, OffsetRange]:
        try:
            return await describe_offsets(self._cluster, self._topic)
        except TopicMissing:
            return {}

    async def close(self) -> None:
        """Disconnect."""
        await self._writer.close()


async def drop_letters(cluster: Cluster, subscriber: str, choice: Choice) -> int:
    """Mark the chosen dead letters as dropped. Returns their number. Raises Unreachable, TopicRefused."""
    box, number = LetterBox(cluster, subscriber), 0
    try:
        async with aclosing(box.letters(choice)) as letters:
            async for part in in_parts(letters):
                await box.mark(part, "dropped")
                number += len(part)
        await box.shorten()
    finally:
        await box.close()
    return number


async def in_parts(letters: AsyncIterator[StoredLetter]) -> AsyncIterator[list[StoredLetter]]:
    """Lists of up to AT_ONCE dead letters."""
    part: list[StoredLetter] = []
    async for letter in letters:
        part.append(letter)
        if len(part) == AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def letter_of(partition: int, record: StoredRecord) -> StoredLetter:
    """The dead letter in a record of its topic."""
    headers: Headers = tuple(record.headers)
    added = [index for index, (name, _) in enumerate(headers) if name == FIRST_REASON]
    split = added[-1] if added else len(headers)
    reasons = _texts(headers[split:])
    value = None if "dlq_value_was_null" in reasons else record.value
    at = [reasons.get(name, "") for name in ("dlq_partition", "dlq_offset", "dlq_timestamp")]
    number, offset, timestamp_ms = (int(text) if text.isdecimal() else -1 for text in at)
    original = LoggedRecord(number, offset, timestamp_ms, record.key, value, headers[:split])
    return StoredLetter((partition, record.offset), record.timestamp_ms, original, reasons)


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in header_map(headers).items()}
