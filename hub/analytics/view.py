"""The view: all that the analytics know, as a fold of the log. Pure; offsets make it idempotent.

The view is a function of the set of records that were read, whatever the order of the partitions, so that one that was
restored from a snapshot equals one that is rebuilt from the log.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from schemas import Event

from .book import Book
from .conditions import Condition, ServiceLevelCondition, ThresholdCondition
from .deciding import Evaluation
from .facts import facts_of
from .histories import AbsenceCondition, SequenceCondition
from .keyed import RuleFinding, cause_of
from .moments import SECOND, moment_of
from .rule_kinds import Absence, Rule, ServiceLevel, Succession
from .windows import Panes, Windows

ADVANCE = SECOND
"""How often, in the time of events, what has expired is removed."""


class ReadPosition(Struct):
    """How far a partition was read: the next offset, and the offset of `hub.intake` of the latest decided report (-1: none)."""

    next: int = 0
    decided: int = -1


class ViewContents(Struct):
    """The view as plain data. `rules`: the state of each rule, encoded, by its name; `since`: when the first event that
    counts could have happened."""

    positions: dict[int, ReadPosition]
    book: Book
    panes: Panes
    rules: dict[str, msgspec.Raw]
    latest: int
    since: int


class Shape(NamedTuple):
    """What the view is configured to keep."""

    rules: Sequence[Rule] = ()
    pane_seconds: float = 10.0
    keep_seconds: float = 3_600.0


class View:
    """See the module."""

    def __init__(self, shape: Shape) -> None:
        self.rules = [rule for rule in shape.rules if rule.enabled]
        self.conditions: dict[str, Condition] = {rule.name: condition_of(rule) for rule in self.rules}
        self.windows = Windows(shape.pane_seconds, shape.keep_seconds)
        self.book = Book()
        self.positions: dict[int, ReadPosition] = {}
        self.latest = self.since = 0
        self.events = 0
        self._advanced = 0

    def position(self, partition: int) -> ReadPosition:
        """How far a partition was read."""
        return self.positions.setdefault(partition, ReadPosition())

    def begin(self, at: int) -> None:
        """Note that events before a moment exist, and those from then on are taken."""
        self.since = min(self.since, at) if self.since else at

    def skip(self, partition: int, offset: int) -> None:
        """Note a record that does not change the view."""
        position = self.position(partition)
        position.next = max(position.next, offset + 1)

    def take(self, partition: int, offset: int, event: Event, *, book_only: bool = False) -> bool:
        """Take an event; False if it was taken before. `book_only`: it is too old for windows and rules."""
        position = self.position(partition)
        if offset < position.next:
            return False
        position.next = offset + 1
        position.decided = max(position.decided, _decided_by(event, partition))
        self.book.take(event)
        if not book_only:
            self._count(partition, offset, event)
        return True

    def _count(self, partition: int, offset: int, event: Event) -> None:
        at = moment_of(event)
        self.events += 1
        self.begin(at)
        self.latest = max(self.latest, at)
        for fact in facts_of(event):
            self.windows.add(fact, at)
        cause = cause_of(event, partition, offset)
        for condition in self.conditions.values():
            condition.take(event, cause)
        if self.latest - self._advanced >= ADVANCE:
            self._advance()

    def _advance(self) -> None:
        self._advanced = self.latest
        self.windows.advance(self.latest)
        self.book.advance(self.latest)
        for condition in self.conditions.values():
            condition.advance(self.latest)

    def findings(self, now: int) -> Mapping[str, Mapping[str, RuleFinding]]:
        """By rule and key, where the conditions hold at `now`."""
        found = {}
        for rule in self.rules:
            firing = {alert.key for alert in self.book.firing(rule.name)}
            found[rule.name] = self.conditions[rule.name].findings(now, self.since or now, firing)
        return found

    def evaluation(self, now: int, waiting: Collection[str] = ()) -> Evaluation:
        """What a decision at `now` depends on."""
        return Evaluation(self.rules, self.findings(now), self.book, now, waiting)

    def next_change(self, now: int) -> int | None:
        """The next moment after `now` at which a finding may change without an event."""
        moments = [condition.next_change(now, self.since or now) for condition in self.conditions.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    # Plain data

    def contents(self) -> ViewContents:
        """All that the view knows, without what has expired."""
        self._advance()
        states = {name: msgspec.Raw(msgspec.msgpack.encode(one.state)) for name, one in self.conditions.items()}
        return ViewContents(self.positions, self.book, self.windows.panes, states, self.latest, self.since)

    def restore(self, contents: ViewContents) -> None:
        """Continue with the contents of a view of the same shape. Raises msgspec.MsgspecError if it has another one."""
        states = {
            name: msgspec.msgpack.decode(contents.rules[name], type=type(condition.state))
            for name, condition in self.conditions.items()
        }
        for name, condition in self.conditions.items():
            condition.state = states[name]
        self.positions, self.book, self.windows.panes = contents.positions, contents.book, contents.panes
        self.latest, self.since = contents.latest, contents.since
        self._advance()


def condition_of(rule: Rule) -> Condition:
    """The empty state of a rule."""
    match rule:
        case Absence():
            return AbsenceCondition(rule)
        case Succession():
            return SequenceCondition(rule)
        case ServiceLevel():
            return ServiceLevelCondition(rule)
    return ThresholdCondition(rule)


def _decided_by(event: Event, partition: int) -> int:
    """The offset of `hub.intake` of the report that caused an event; -1 if a timer or a take-over did."""
    parts = event.src.split("/")
    if len(parts) == 3 and parts[0] == str(partition) and parts[1].isascii() and parts[1].isdigit():
        return int(parts[1])
    return -1


def plain(contents: ViewContents) -> dict[str, Any]:
    """Contents as plain values that can be compared, independent of the order in which they were added."""
    found: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(contents), type=dict[str, Any], strict=False)
    return found
