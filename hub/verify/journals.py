"""Checks the journals of subscribers and workers against the log: I27 to I30 and I34."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from schemas import CATALOGUE

from .fold import Fold
from .history import Execution, SubscriberJournal
from .report import Findings

_TYPES = {event_type: number for number, event_type in enumerate(sorted(CATALOGUE))}


class LogIndex:
    """Offset, id (as a hash) and type of every event, in 18 bytes each; stored only if journals are checked."""

    def __init__(self) -> None:
        self._offsets: dict[int, array[int]] = {}
        self._ids: dict[int, array[int]] = {}
        self._types: dict[int, array[int]] = {}

    def add(self, partition: int, offset: int, event_id: str, event_type: str) -> None:
        """Add an event, in offset order."""
        if partition not in self._offsets:
            self._offsets[partition], self._ids[partition], self._types[partition] = array("q"), array("q"), array("h")
        self._offsets[partition].append(offset)
        self._ids[partition].append(hash(event_id))
        self._types[partition].append(_TYPES[event_type])

    def id_at(self, partition: int, offset: int) -> int | None:
        """Hash of the id of the event at this offset, or None."""
        offsets = self._offsets.get(partition, array("q"))
        at = bisect_left(offsets, offset)
        return self._ids[partition][at] if at < len(offsets) and offsets[at] == offset else None

    def end(self, partition: int) -> int:
        """The offset after the last event, without control records after it."""
        offsets = self._offsets.get(partition)
        return offsets[-1] + 1 if offsets else 0

    def wanted(self, journal: SubscriberJournal) -> Iterable[tuple[int, int]]:
        """(partition, offset) of every event that matches the filter of the subscriber."""
        numbers = None if journal.types is None else {_TYPES[name] for name in journal.types if name in _TYPES}
        for partition, offsets in self._offsets.items():
            start = journal.starts.get(partition, 0)
            for offset, number in zip(offsets, self._types[partition], strict=True):
                if offset >= start and (numbers is None or number in numbers):
                    yield partition, offset


def check_journal(journal: SubscriberJournal, log: LogIndex, found: Findings, *, exact: bool) -> None:
    """I27, I28, I29 and I30 for one subscriber."""
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    furthest: dict[str, tuple[int, int]] = {}
    for delivery in journal.deliveries:
        place = (delivery.partition, delivery.offset)
        before = seen.get(place)
        if before is not None:
            if before != (delivery.id, delivery.digest):
                _note(found, "I30", journal, place, f"{delivery.id} was redelivered with another id or other bytes")
            continue
        seen[place] = (delivery.id, delivery.digest)
        if log.id_at(*place) != hash(delivery.id) and (exact or delivery.offset < log.end(delivery.partition)):
            _note(
                found, "I30", journal, place, f"{delivery.id} was delivered, but the log has another event or none at this offset"
            )
        if place < furthest.get(delivery.entity, (-1, -1)):
            _note(
                found,
                "I28",
                journal,
                place,
                f"{delivery.entity}: delivered after the event at offset {furthest[delivery.entity][1]}",
            )
        furthest[delivery.entity] = max(place, furthest.get(delivery.entity, (-1, -1)))
    for place in log.wanted(journal):
        if place not in seen and place not in journal.dead_letters:
            _note(found, "I27", journal, place, "the event was not delivered")
    _check_positions(journal, log, found, exact=exact)


def _check_positions(journal: SubscriberJournal, log: LogIndex, found: Findings, *, exact: bool) -> None:
    last: dict[int, int] = {}
    for partition, offset, replay in journal.positions:
        if offset < last.get(partition, 0) and not replay:
            _note(found, "I29", journal, (partition, offset), f"the position decreased from {last[partition]}")
        # The position may be after the commit marker that follows the last event.
        if exact and offset > log.end(partition) + 1:
            _note(
                found,
                "I29",
                journal,
                (partition, offset),
                f"the committed position is past the end of the log ({log.end(partition)})",
            )
        last[partition] = offset


def _note(found: Findings, invariant: str, journal: SubscriberJournal, place: tuple[int, int], message: str) -> None:
    found.add(invariant, message, partition=place[0], offset=place[1], subject=journal.subscriber)


def check_executions(executions: Iterable[Execution], fold: Fold, granted: set[str], found: Findings) -> None:
    """I34: executions of at-most-once tasks. `granted`: ids of tasks with a grant."""
    counts = Counter(execution.task for execution in executions)
    for task_id, count in counts.items():
        task = fold.live.get(task_id) or fold.ended.get(task_id)
        if task is None or not task.at_most_once:
            continue
        runs = max(1, fold.ended[task_id].runs if task_id in fold.ended else 1)
        if count > runs:
            found.add("I34", f"its body ran {count} times", partition=task.partition, subject=task_id)
        if task_id not in granted:
            found.add("I34", "its body ran without a grant", partition=task.partition, subject=task_id)
