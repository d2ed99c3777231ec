"""Tumbling and hopping windows of counts and durations, per task name and queue.

Facts are added to panes: tumbling windows of one length, aligned to the epoch. A longer window is the sum of its panes. Adding is
commutative, and panes expire by the latest event that was added, never by a clock: the same events give the same windows in any
order.
"""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct, field

from .facts import WASTED, TaskFact
from .moments import micros
from .spread import Spread

SERIES_MAX = 10_000
"""Most series (name and queue) per pane; further ones are counted as OTHER."""
OTHER = ("(other)", "")

Series = tuple[str, str]
"""Name and queue of tasks; of workflows the queue is empty."""


class Tally(Struct, omit_defaults=True):
    """Counts of one series in one window. `wasted_us`: run time of attempts without success."""

    created: int = 0
    results: dict[str, int] = {}
    attempts: dict[str, int] = {}
    errors: dict[str, int] = {}
    wasted_us: int = 0
    wait: Spread = field(default_factory=Spread)
    run: Spread = field(default_factory=Spread)
    total: Spread = field(default_factory=Spread)

    def add(self, fact: TaskFact) -> None:
        """Count one fact."""
        match fact.kind:
            case "created":
                self.created += 1
            case "attempt":
                _count(self.attempts, fact.result)
                if fact.result in WASTED and fact.run_seconds is not None:
                    self.wasted_us += micros(fact.run_seconds)
            case _:
                _count(self.results, fact.result)
                if fact.error:
                    _count(self.errors, fact.error)
        for spread, seconds in ((self.wait, fact.wait_seconds), (self.run, fact.run_seconds), (self.total, fact.total_seconds)):
            if seconds is not None:
                spread.add(seconds)

    def merge(self, other: "Tally") -> None:
        """Add the counts of `other`."""
        self.created += other.created
        self.wasted_us += other.wasted_us
        for mine, theirs in (
            (self.results, other.results),
            (self.attempts, other.attempts),
            (self.errors, other.errors),
        ):
            for name, count in theirs.items():
                _count(mine, name, count)
        for spread, more in ((self.wait, other.wait), (self.run, other.run), (self.total, other.total)):
            spread.merge(more)

    @property
    def ended(self) -> int:
        """Number of ended tasks."""
        return sum(self.results.values())

    @property
    def success_ratio(self) -> float | None:
        """Share of successes among ended tasks, without cancelled and skipped ones; None if there are none."""
        judged = self.ended - self.results.get("cancellation", 0) - self.results.get("skip", 0)
        return self.results.get("success", 0) / judged if judged else None

    @property
    def wasted(self) -> int:
        """Number of attempts that did not succeed."""
        return sum(self.attempts.get(outcome, 0) for outcome in WASTED)


def _count(counts: dict[str, int], name: str, amount: int = 1) -> None:
    counts[name] = counts.get(name, 0) + amount


Panes = dict[int, dict[Series, Tally]]


class TallyWindow(NamedTuple):
    """A window from `start` up to, but not including, `end` (microseconds since the epoch), and its counts by series."""

    start: int
    end: int
    tallies: dict[Series, Tally]


class Windows:
    """The panes of the last `keep_seconds` before the latest event. `panes`: by number (start divided by the length)."""

    def __init__(self, pane_seconds: float, keep_seconds: float) -> None:
        if not 0 < pane_seconds <= keep_seconds:
            raise ValueError(f"pane_seconds: must be above 0 and at most {keep_seconds:g}, got {pane_seconds:g}")
        self.pane = micros(pane_seconds)
        self.keep = micros(keep_seconds)
        self.panes: Panes = {}
        self._first = 0

    def add(self, fact: TaskFact, at: int) -> None:
        """Count a fact. A fact before the panes that are kept is ignored."""
        number = at // self.pane
        if number < self._first:
            return
        series = self.panes.get(number)
        if series is None:
            series = self.panes[number] = {}
        key = (fact.name, fact.queue)
        tally = series.get(key)
        if tally is None:
            key = key if len(series) < SERIES_MAX else OTHER
            tally = series.setdefault(key, Tally())
        tally.add(fact)

    def advance(self, latest: int) -> None:
        """Remove the panes that end more than `keep_seconds` before the latest event."""
        first = (latest - self.keep) // self.pane
        if first > self._first:
            self._first = first
            for number in [number for number in self.panes if number < first]:
                del self.panes[number]

    def between(self, start: int, end: int) -> dict[Series, Tally]:
        """The sum of the panes that begin at or after `start` and before `end`."""
        found: dict[Series, Tally] = {}
        for number, series in self.panes.items():
            if start <= number * self.pane < end:
                for key, tally in series.items():
                    found.setdefault(key, Tally()).merge(tally)
        return found

    def tumbling(self, length_seconds: float) -> Iterator[TallyWindow]:
        """Consecutive windows, aligned to the epoch, the earliest first. Raises ValueError if the length is not a multiple of
        that of a pane."""
        return self.hopping(length_seconds, length_seconds)

    def hopping(self, length_seconds: float, hop_seconds: float) -> Iterator[TallyWindow]:
        """Windows of one length that begin every `hop_seconds`, aligned to the epoch; those with events. Raises ValueError if one
        is not a multiple of the length of a pane."""
        length, hop = self._panes_in("length_seconds", length_seconds), self._panes_in("hop_seconds", hop_seconds)
        starts = {
            start for number in self.panes for start in range((number - length) // hop * hop + hop, number // hop * hop + 1, hop)
        }
        for start in sorted(starts):
            begin, end = start * self.pane, (start + length) * self.pane
            yield TallyWindow(begin, end, self.between(begin, end))

    def _panes_in(self, name: str, seconds: float) -> int:
        number, rest = divmod(micros(seconds), self.pane)
        if rest or not number:
            raise ValueError(f"{name}: must be a multiple of {self.pane / 1e6:g} s, got {seconds:g}")
        return number
