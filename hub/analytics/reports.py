"""Reports on a window: figures per task and queue, failures by type of error, and where the time goes."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from typing import NamedTuple

from msgspec import Struct

from schemas import Event

from .facts import TaskFact, facts_of
from .moments import SECOND
from .spread import DurationFigures
from .windows import Series, Tally

SLOWEST_MAX = 10


class SeriesReport(Struct, kw_only=True):
    """Figures of the tasks of one name in one queue. Rates are per second. `success_ratio`: without cancelled and skipped tasks.

    `wait`: from ready to the start of the body; `run`: of the body, per attempt; `total`: from creation to end. `wasted_seconds`:
    run time of attempts without success."""

    task: str
    queue: str
    created: int
    created_rate: float
    ended: int
    ended_rate: float
    success_ratio: float | None
    results: dict[str, int]
    attempts: dict[str, int]
    wasted_attempts: int
    wasted_seconds: float
    wait: DurationFigures | None
    run: DurationFigures | None
    total: DurationFigures | None


class FailureReport(Struct, kw_only=True):
    """Ends of the tasks of one name with one type of error. `share`: of all failures in the window."""

    task: str
    error: str
    count: int
    share: float


class BottleneckReport(Struct, kw_only=True):
    """Where the time of the tasks of one name goes. `seconds`: spent waiting and running; `share`: of that of all tasks; `cause`:
    wait if tasks wait longer than they run (more workers help), else run (faster handlers help)."""

    task: str
    queue: str
    seconds: float
    share: float
    wait_seconds: float
    run_seconds: float
    wait_share: float
    cause: str


class SlowReport(Struct, kw_only=True):
    """One of the slowest attempts. `seconds`: run time of the body; `key`: of a step of a workflow."""

    task: str
    id: str
    root: str | None
    key: str | None
    attempt: int
    seconds: float
    result: str


class StatsReport(Struct, kw_only=True):
    """Figures of a window of `seconds`; lists are sorted, the most important first."""

    seconds: float
    events: int
    tasks: list[SeriesReport]
    workflows: list[SeriesReport]
    failures: list[FailureReport]
    bottlenecks: list[BottleneckReport]
    slowest: list[SlowReport] = []


class StatsSelection(NamedTuple):
    """Which tasks are counted: patterns in which `*` matches any text. Workflows have no queue."""

    task: str = "*"
    queue: str = "*"

    def fits(self, fact: TaskFact) -> bool:
        """Whether a fact is counted."""
        return fnmatchcase(fact.name, self.task) and fnmatchcase(fact.queue, self.queue)


class Statistics:
    """Counts events of one window."""

    def __init__(self, selection: StatsSelection = StatsSelection()) -> None:  # noqa: B008
        self._selection = selection
        self._tallies: dict[Series, Tally] = {}
        self._slowest: list[tuple[float, str, int, SlowReport]] = []
        self.events = 0

    def take(self, event: Event) -> None:
        """Count an event."""
        self.events += 1
        for fact in facts_of(event):
            if self._selection.fits(fact):
                self._tallies.setdefault((fact.name, fact.queue), Tally()).add(fact)
                if fact.kind == "attempt" and fact.run_seconds:
                    self._note_slow(event, fact, fact.run_seconds)

    def _note_slow(self, event: Event, fact: TaskFact, seconds: float) -> None:
        if len(self._slowest) >= SLOWEST_MAX and seconds <= self._slowest[0][0]:
            return
        report = SlowReport(
            task=fact.name,
            id=event.subject,
            root=event.rootid,
            key=getattr(event.data, "key", None),
            attempt=event.data.attempt,
            seconds=seconds,
            result=fact.result,
        )
        heappush(self._slowest, (seconds, event.subject, self.events, report))
        if len(self._slowest) > SLOWEST_MAX:
            heappop(self._slowest)

    def report(self, seconds: float) -> StatsReport:
        """The report on a window of this length."""
        report = report_of(self._tallies, seconds, self.events)
        report.slowest = [one[-1] for one in sorted(self._slowest, key=lambda one: (-one[0], one[1]))]
        return report


def report_of(tallies: Mapping[Series, Tally], seconds: float, events: int = 0) -> StatsReport:
    """The report on a window of this length with `events` events."""
    series = [_series(key, tally, seconds) for key, tally in tallies.items()]
    series.sort(key=lambda one: (-one.ended, -one.created, one.task, one.queue))
    return StatsReport(
        seconds=seconds,
        events=events,
        tasks=[one for one in series if one.queue],
        workflows=[one for one in series if not one.queue],
        failures=_failures(tallies),
        bottlenecks=_bottlenecks(tallies),
    )


def _series(key: Series, tally: Tally, seconds: float) -> SeriesReport:
    return SeriesReport(
        task=key[0],
        queue=key[1],
        created=tally.created,
        created_rate=tally.created / seconds,
        ended=tally.ended,
        ended_rate=tally.ended / seconds,
        success_ratio=tally.success_ratio,
        results=dict(sorted(tally.results.items())),
        attempts=dict(sorted(tally.attempts.items())),
        wasted_attempts=tally.wasted,
        wasted_seconds=tally.wasted_us / SECOND,
        wait=tally.wait.figures(),
        run=tally.run.figures(),
        total=tally.total.figures(),
    )


def _failures(tallies: Mapping[Series, Tally]) -> list[FailureReport]:
    counts: dict[tuple[str, str], int] = {}
    for (name, _), tally in tallies.items():
        for error, count in tally.errors.items():
            counts[name, error] = counts.get((name, error), 0) + count
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [FailureReport(task=name, error=error, count=count, share=count / total) for (name, error), count in ordered]


def _bottlenecks(tallies: Mapping[Series, Tally]) -> list[BottleneckReport]:
    spent = {key: (tally.wait.sum_us, tally.run.sum_us) for key, tally in tallies.items() if tally.wait.count or tally.run.count}
    total = sum(wait + run for wait, run in spent.values())
    found = [
        BottleneckReport(
            task=name,
            queue=queue,
            seconds=(wait + run) / SECOND,
            share=(wait + run) / total if total else 0.0,
            wait_seconds=wait / SECOND,
            run_seconds=run / SECOND,
            wait_share=wait / (wait + run) if wait + run else 0.0,
            cause="wait" if wait > run else "run",
        )
        for (name, queue), (wait, run) in spent.items()
    ]
    return sorted(found, key=lambda one: (-one.seconds, one.task, one.queue))
