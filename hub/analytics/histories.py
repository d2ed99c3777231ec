"""The conditions of rules over single events: absence, and sequence."""

from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct

from schemas import Event

from .conditions import PANE_SECONDS_MIN, PANES_PER_WINDOW, Keys, next_pane
from .keyed import KEYS_MAX, Cause, KeyedPanes, KeyState, RuleFinding
from .matching import FIELDS
from .moments import SECOND, micros
from .rule_kinds import Absence, Succession, seconds

REMEMBERED_WINDOWS = 4
"""For how many windows an absent key is remembered."""
PENDING_MAX = 100_000
"""Most first events of a rule that wait for a second one, per partition; beyond it the oldest are forgotten."""
CLOCKS_DIFFER = micros(60)
"""How much the times of successive events of a partition may decrease: the clocks of two owners differ."""


class LastSeen(Struct):
    """When each key occurred last."""

    keys: dict[str, KeyState] = {}


class AbsenceCondition:
    """No event has matched for a time."""

    def __init__(self, rule: Absence) -> None:
        self._rule = rule
        self._window = micros(seconds(rule.window, "window"))
        self.state = LastSeen()
        self._matches, self._keys = rule.match.predicate(), Keys(rule)
        self._expected = tuple(rule.keys) if rule.for_each else ("",)

    def take(self, event: Event, cause: Cause) -> None:
        """See Condition."""
        if not self._matches(event) or (values := self._keys(event)) is None:
            return
        key = ",".join(values)
        if key in self.state.keys or len(self.state.keys) < KEYS_MAX:
            state = self.state.keys.setdefault(key, KeyState(tuple(values)))
            state.last = max(state.last, cause.at)

    def findings(self, now: int, since: int, firing: Collection[str]) -> Mapping[str, RuleFinding]:
        """See Condition."""
        found, limit = {}, self._window / SECOND
        for key in sorted({*self.state.keys, *self._expected, *firing}):
            state = self.state.keys.get(key)
            missing_since = since if state is None else state.last
            if now - missing_since >= self._window:
                values = state.values if state is not None else (key,) if key else ()
                found[key] = RuleFinding((now - missing_since) / SECOND, limit, now, values)
        return found

    def next_change(self, now: int, since: int) -> int | None:
        """See Condition."""
        seen = [state.last for state in self.state.keys.values()]
        seen += [since for key in self._expected if key not in self.state.keys]
        return min((moment + self._window for moment in seen if moment + self._window > now), default=None)

    def advance(self, latest: int) -> None:
        """See Condition."""
        before = latest - REMEMBERED_WINDOWS * self._window
        for key in [key for key, state in self.state.keys.items() if state.last < before and key not in self._expected]:
            del self.state.keys[key]


class FirstEvent(Struct):
    """A first event that waits for a second one. `values`: of the fields in `for_each`."""

    cause: Cause
    values: tuple[str, ...] = ()


class Pairs(Struct):
    """The pairs that were found, and first events that wait: by partition, and by what the events of a pair have in common, in
    the order of the log."""

    found: KeyedPanes
    waiting: dict[int, dict[str, FirstEvent]] = {}

    def get(self, common: str) -> FirstEvent | None:
        """The first event that waits for one with this in common."""
        return next((one[common] for one in self.waiting.values() if common in one), None)

    def pop(self, common: str) -> FirstEvent | None:
        """Remove the first event that waits for one with this in common."""
        return next((found for one in self.waiting.values() if (found := one.pop(common, None)) is not None), None)

    def put(self, common: str, first: FirstEvent) -> None:
        """Add a first event; of too many the oldest of its partition is removed."""
        waiting = self.waiting.setdefault(first.cause.partition, {})
        waiting[common] = first
        if len(waiting) > PENDING_MAX:
            del waiting[next(iter(waiting))]

    def until(self, at: int) -> Iterator[FirstEvent]:
        """The first events that happened before or at a moment, and perhaps some that happened soon after it."""
        for waiting in self.waiting.values():
            for first in waiting.values():
                if first.cause.at > at + CLOCKS_DIFFER:
                    break
                yield first


class SequenceCondition:
    """Events followed, or with `missing` not followed, by another one."""

    def __init__(self, rule: Succession) -> None:
        self._rule = rule
        self._window = micros(seconds(rule.window, "window"))
        self._within = micros(seconds(rule.within, "within"))
        self.state = Pairs(KeyedPanes(max(micros(PANE_SECONDS_MIN), self._window // PANES_PER_WINDOW)))
        self._is_first, self._is_second = rule.match.predicate(), rule.then.predicate()
        self._in_common, self._keys = FIELDS[rule.by], Keys(rule)

    def take(self, event: Event, cause: Cause) -> None:
        """See Condition."""
        if (common := self._in_common(event)) is None:
            return
        if self._is_second(event) and (first := self.state.pop(common)) is not None:
            self._end(first, cause)
        if self._is_first(event) and (values := self._keys(event)) is not None:
            self._begin(common, FirstEvent(cause, tuple(values)))

    def _begin(self, common: str, first: FirstEvent) -> None:
        earlier = self.state.get(common)
        if self._rule.missing and earlier is not None:
            if first.cause.at - earlier.cause.at <= self._within:
                return  # the time of the earlier one runs
            self._miss(earlier)
        self.state.pop(common)
        self.state.put(common, first)

    def _end(self, first: FirstEvent, second: Cause) -> None:
        in_time = second.at - first.cause.at <= self._within
        if self._rule.missing and not in_time:
            self._miss(first)
        elif not self._rule.missing and in_time:
            self.state.found.add(first.values, second)

    def _miss(self, first: FirstEvent) -> None:
        self.state.found.add(first.values, first.cause._replace(at=first.cause.at + self._within))

    def findings(self, now: int, since: int, firing: Collection[str]) -> Mapping[str, RuleFinding]:
        """See Condition."""
        found: dict[str, tuple[int, KeyState]] = {}
        for key, state in self.state.found.keys.items():
            found[key] = self.state.found.total(state, now - self._window).count, state
        for first in self._overdue(now):
            key = ",".join(first.values)
            count, state = found.get(key) or (0, KeyState(first.values))
            shown = KeyState(state.values, {}, list(state.causes), state.last)
            shown.note(first.cause._replace(at=first.cause.at + self._within))
            found[key] = count + 1, shown
        limit = self._rule.at_least
        return {
            key: RuleFinding(float(count), float(limit), state.last, state.values, tuple(state.causes))
            for key, (count, state) in found.items()
            if count >= limit
        }

    def _overdue(self, now: int) -> list[FirstEvent]:
        """First events whose second one is missing at `now`, in the window."""
        if not self._rule.missing:
            return []
        begin, end = now - self._window - self._within, now - self._within
        return [one for one in self.state.until(end) if begin <= one.cause.at < end]

    def next_change(self, now: int, since: int) -> int | None:
        """See Condition."""
        due = [next_pane(self.state.found, self._window, now)]
        if self._rule.missing:
            for first in self.state.until(now):
                late = first.cause.at + self._within
                due += [moment for moment in (late + 1, late + self._window + 1) if moment > now]
        return min((moment for moment in due if moment is not None), default=None)

    def advance(self, latest: int) -> None:
        """See Condition."""
        self.state.found.expire(latest - self._window)
        before = latest - self._within - (self._window if self._rule.missing else 0)
        for waiting in self.state.waiting.values():
            for common in [common for common, first in waiting.items() if first.cause.at < before]:
                del waiting[common]
