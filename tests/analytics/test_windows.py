"""Windows of figures: counts and durations are exact, percentiles close, and the order of events does not matter."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.analytics import TaskFact, Windows, facts_of, report_of
from hub.analytics.moments import SECOND
from hub.analytics.reports import Statistics, StatsSelection
from hub.analytics.spread import Spread

from .logs import completed, event

FACTS = st.builds(
    TaskFact,
    st.sampled_from(["created", "ended", "attempt", "workflow"]),
    st.sampled_from(["charge", "mail"]),
    st.sampled_from(["", "default"]),
    st.sampled_from(["success", "failure", "timeout"]),
    st.sampled_from(["", "ValueError"]),
    *[st.none() | st.floats(0, 1e5)] * 3,
)
MOMENTS = st.integers(0, 200).map(lambda second: second * SECOND)


@given(st.lists(st.tuples(FACTS, MOMENTS), max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_facts_does_not_matter(facts: list[tuple[TaskFact, int]], random: Any) -> None:
    shuffled = list(facts)
    random.shuffle(shuffled)
    made = []
    for order in (facts, shuffled):
        windows, latest = Windows(10, 60), 0
        for fact, moment in order:
            windows.add(fact, moment)
            latest = max(latest, moment)
            windows.advance(latest)
        made.append(windows.panes)
    assert made[0] == made[1]


@given(st.lists(st.floats(0.0002, 1e5), min_size=1, max_size=50), st.lists(st.floats(0.0002, 1e5), max_size=50))
@settings(max_examples=60, deadline=None)
def test_merged_distributions_are_that_of_all_values(first: list[float], second: list[float]) -> None:
    one, other, both = Spread(), Spread(), Spread()
    for spread, values in ((one, first), (other, second), (both, [*first, *second])):
        for value in values:
            spread.add(value)
    one.merge(other)
    assert one == both
    figures, ordered = one.figures(), sorted([*first, *second])
    assert figures is not None
    assert (figures.count, figures.least, figures.most) == (len(ordered), round(ordered[0], 6), round(ordered[-1], 6))
    assert figures.mean == pytest.approx(sum(ordered) / len(ordered), abs=1e-6)
    middle = ordered[(len(ordered) - 1) // 2]
    assert middle / 1.29 <= figures.p50 <= max(middle * 1.29, figures.most)
    assert figures.least <= figures.p50 <= figures.p95 <= figures.p99 <= figures.most


def test_windows_tumble_and_hop() -> None:
    windows = Windows(10, 600)
    for second in (5, 15, 25, 35, 65):
        windows.add(TaskFact("created", "charge", "default"), second * SECOND)
    counts = {window.start // SECOND: window.tallies["charge", "default"].created for window in windows.tumbling(20)}
    assert counts == {0: 2, 20: 2, 60: 1}
    hopping = [(window.start // SECOND, window.tallies["charge", "default"].created) for window in windows.hopping(30, 10)]
    assert hopping == [(-20, 1), (-10, 2), (0, 3), (10, 3), (20, 2), (30, 1), (40, 1), (50, 1), (60, 1)]
    with pytest.raises(ValueError, match="length_seconds: must be a multiple of 10 s, got 25"):
        list(windows.tumbling(25))


def test_panes_are_kept_for_a_time() -> None:
    windows = Windows(10, 60)
    for second in (0, 50, 100):
        windows.add(TaskFact("created", "charge", "default"), second * SECOND)
        windows.advance(second * SECOND)
    assert sorted(windows.panes) == [5, 10]
    windows.add(TaskFact("created", "charge", "default"), 0)
    assert sorted(windows.panes) == [5, 10]


def test_an_attempt_counts_once_with_its_wait_and_run_time() -> None:
    end, attempt = facts_of(completed(10, run=2, wait=3))
    assert (end.kind, end.result, end.total_seconds) == ("ended", "success", 5)
    assert (attempt.kind, attempt.result, attempt.wait_seconds, attempt.run_seconds) == ("attempt", "success", 3, 2)


def test_a_start_that_was_reported_with_the_end_was_earlier() -> None:
    late = completed(10, run=2, wait=3)
    data = {"ready_at": late.data.ready_at, "started_at": late.data.finished_at, "finished_at": late.data.finished_at}
    _, attempt = facts_of(event(10, "task.completed", **data, created_at=late.data.created_at, ran_seconds=2.0))
    assert (attempt.wait_seconds, attempt.run_seconds) == (3, 2)


def test_the_report_names_failures_bottlenecks_and_the_slowest() -> None:
    statistics = Statistics()
    log = [
        *[completed(10 + number, run=0.1, wait=2, id=f"c{number}") for number in range(4)],
        *[completed(20 + number, "render", run=5 + number, wait=0.1, id=f"v{number}") for number in range(2)],
        event(30, "task.failed", id="c9", kind="permanent", error={"type": "BankError"}),
        event(30, "attempt.failed", id="c9", error={"type": "BankError"}, ran_seconds=0.5),
        event(31, "task.created", id="c10", queue="default"),
    ]
    for one in log:
        statistics.take(one)
    report = statistics.report(60)
    series = {(one.task, one.queue): one for one in report.tasks}
    assert (report.events, series["charge", "default"].created, series["render", "mail"].ended) == (9, 1, 2)
    charge = series["charge", "mail"]
    assert (charge.results, charge.wasted_attempts, charge.wasted_seconds) == ({"failure": 1, "success": 4}, 1, 0.5)
    assert (charge.success_ratio, charge.ended_rate) == (0.8, 5 / 60)
    assert [(one.task, one.error, one.count, one.share) for one in report.failures] == [("charge", "BankError", 1, 1.0)]
    assert [(one.task, one.cause) for one in report.bottlenecks] == [("render", "run"), ("charge", "wait")]
    assert [one.id for one in report.slowest][:3] == ["v1", "v0", "c9"]


def test_statistics_of_a_selection() -> None:
    statistics = Statistics(StatsSelection(task="re*"))
    for one in (completed(1), completed(2, "render"), completed(3, "report")):
        statistics.take(one)
    assert sorted(one.task for one in statistics.report(60).tasks) == ["render", "report"]
    assert not report_of({}, 1.0).tasks


def test_results_are_those_of_the_metrics() -> None:
    ends = {
        "task.completed": "success",
        "task.cancelled": "cancellation",
        "task.expired": "timeout",
        "task.skipped": "skip",
        "workflow.completed": "success",
        "workflow.failed": "failure",
        "workflow.cancelled": "cancellation",
    }
    assert {one: facts_of(event(1, one))[0].result for one in ends} == ends
    kinds = {"permanent": "failure", "exhausted": "failure", "timed_out": "timeout", "lost": "error", "dependency_failed": "skip"}
    assert {kind: facts_of(event(1, "task.failed", kind=kind))[0].result for kind in kinds} == kinds
