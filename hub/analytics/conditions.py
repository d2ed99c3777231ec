"""The conditions of rules over windows: threshold and objective. See `histories.py` for absence and sequence.

A condition takes events in any order of partitions, and states at any moment for which keys it holds.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from schemas import Event

from .facts import facts_of
from .keyed import Cause, Cell, KeyedPanes, KeyState, RuleFinding
from .matching import value_of
from .moments import SECOND, micros
from .rule_kinds import DURATIONS, BaseRule, ServiceLevel, Threshold, seconds

PANES_PER_WINDOW = 30
"""How exact the beginning of a sliding window is: to this part of its length."""
PANE_SECONDS_MIN = 1.0


class Condition(Protocol):
    """The state of one rule. `state`: plain data, to be saved; assigning it restores the condition."""

    state: Any

    def take(self, event: Event, cause: Cause) -> None:
        """Take an event, if it matches; `cause` is its position."""

    def findings(self, now: int, since: int, firing: Collection[str]) -> Mapping[str, RuleFinding]:
        """The keys for which the condition holds at `now`; for keys that are `firing`, until it has resolved. `since`: when the
        first event that was read happened."""

    def next_change(self, now: int, since: int) -> int | None:
        """The next moment after `now` at which the findings may change without an event; None if they cannot."""

    def advance(self, latest: int) -> None:
        """Remove what no window from the latest event on needs."""


class Keys:
    """The values of `for_each` in an event."""

    def __init__(self, rule: BaseRule) -> None:
        self.fields = [value_of(name) for name in rule.for_each]

    def __call__(self, event: Event) -> list[str] | None:
        """The values; None if one is missing."""
        found = [value for field in self.fields if (value := field(event)) is not None]
        return found if len(found) == len(self.fields) else None


def next_pane(state: KeyedPanes, window: int, now: int) -> int | None:
    """When the beginning of a window next reaches another pane; None if no pane is in the window."""
    first = (now - window) // state.pane
    if not any(number >= first for key in state.keys.values() for number in key.panes):
        return None
    return (first + 1) * state.pane + window


class ThresholdCondition:
    """A measure of the events in a window is at least, or below, a value."""

    def __init__(self, rule: Threshold) -> None:
        self._rule = rule
        self._window = micros(seconds(rule.window, "window"))
        self.state = KeyedPanes(max(micros(PANE_SECONDS_MIN), self._window // PANES_PER_WINDOW))
        self._matches = rule.match.predicate()
        self._is_part: Callable[[Event], bool] = (lambda _: False) if rule.part is None else rule.part.predicate()
        self._keys = Keys(rule)

    def take(self, event: Event, cause: Cause) -> None:
        """See Condition."""
        if not self._matches(event) or (values := self._keys(event)) is None:
            return
        if self._rule.measure in DURATIONS:
            if (duration := self._duration(event)) is not None:
                self.state.add(values, cause, seconds=duration)
        else:
            part = self._is_part(event)
            self.state.add(values, cause, part=part, causes=part or self._rule.part is None)

    def _duration(self, event: Event) -> float | None:
        found = [getattr(fact, f"{self._rule.of}_seconds") for fact in facts_of(event)]
        return next((seconds for seconds in found if seconds is not None), None)

    def findings(self, now: int, since: int, firing: Collection[str]) -> Mapping[str, RuleFinding]:
        """See Condition."""
        rule, found = self._rule, {}
        if rule.below is not None and now - since < self._window:
            return {}
        for key in self._candidates(firing):
            state = self.state.keys.get(key) or KeyState()
            cell = self.state.total(state, now - self._window)
            value = self._value(cell)
            if value is None or cell.count < rule.events_min:
                continue
            limit = rule.resolve_at if key in firing and rule.resolve_at is not None else rule.limit
            if value >= limit if rule.at_least is not None else value < limit:
                latest = now if rule.below is not None else state.last
                found[key] = RuleFinding(value, rule.limit, latest, state.values, tuple(state.causes))
        return found

    def _candidates(self, firing: Collection[str]) -> list[str]:
        if self._rule.below is None or self._rule.measure not in ("count", "rate"):
            return list(self.state.keys)
        return sorted({*self.state.keys, *firing, *([] if self._rule.for_each else [""])})  # without events: 0 is below

    def _value(self, cell: Cell) -> float | None:
        match self._rule.measure:
            case "count":
                return float(cell.count)
            case "rate":
                return cell.count / (self._window / SECOND)
            case "ratio":
                return cell.part / cell.count if cell.count else None
            case measure:
                return _of_spread(cell, measure)

    def next_change(self, now: int, since: int) -> int | None:
        """See Condition."""
        if self._rule.below is not None and now < since + self._window:
            return since + self._window
        return next_pane(self.state, self._window, now)

    def advance(self, latest: int) -> None:
        """See Condition."""
        self.state.expire(latest - self._window)


def _of_spread(cell: Cell, measure: str) -> float | None:
    spread = cell.spread
    if not spread.count:
        return None
    if measure == "mean":
        return spread.sum_us / spread.count / SECOND
    return spread.most_us / SECOND if measure == "max" else spread.quantile(float(measure[1:]) / 100)


class ServiceLevelCondition:
    """The error budget of an objective is consumed too fast, in both windows of a pair."""

    def __init__(self, rule: ServiceLevel) -> None:
        self._rule = rule
        self._burns = [(micros(seconds(b.long, "long")), micros(seconds(b.short, "short")), b.factor) for b in rule.burns]
        self._longest = max(long for long, _, _ in self._burns)
        shortest = min(short for _, short, _ in self._burns)
        self.state = KeyedPanes(max(micros(PANE_SECONDS_MIN), shortest // PANES_PER_WINDOW))
        self._matches, self._is_bad = rule.match.predicate(), rule.bad.predicate()
        self._keys = Keys(rule)

    def take(self, event: Event, cause: Cause) -> None:
        """See Condition."""
        if self._matches(event) and (values := self._keys(event)) is not None:
            bad = self._is_bad(event)
            self.state.add(values, cause, part=bad, causes=bad)

    def findings(self, now: int, since: int, firing: Collection[str]) -> Mapping[str, RuleFinding]:
        """See Condition."""
        found = {}
        for key, state in self.state.keys.items():
            for long, short, factor in self._burns:
                if state.last < now - long or self._burn(self.state.total(state, now - short)) < factor:
                    continue  # no bad event, or few recent ones
                whole = self.state.total(state, now - long)
                if whole.count >= self._rule.events_min and self._burn(whole) >= factor:
                    found[key] = RuleFinding(self._burn(whole), factor, state.last, state.values, tuple(state.causes))
                    break
        return found

    def _burn(self, cell: Cell) -> float:
        """How many times faster than allowed the budget is consumed."""
        return cell.part / cell.count / (1 - self._rule.objective) if cell.count else 0.0

    def next_change(self, now: int, since: int) -> int | None:
        """See Condition."""
        due = [next_pane(self.state, window, now) for burn in self._burns for window in burn[:2]]
        return min((moment for moment in due if moment is not None), default=None)

    def advance(self, latest: int) -> None:
        """See Condition."""
        self.state.expire(latest - self._longest)
