"""Quantiles, averages and rates from the buckets of histograms."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.metrics import Histogram, MetricsSnapshot, Registry
from hub.metrics.quantiles import DistributionFigures, figures, quantile, window

SECOND_NS = 1_000_000_000
RUN = "hub.task.run.duration"


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, [10, 0, 0, 0], 0.5),  # half of the first bucket, from 0 to 1
        (0.5, [5, 5, 0, 0], 1.0),
        (0.9, [0, 10, 0, 0], 1.9),
        (0.75, [4, 0, 4, 0], 3.0),  # the empty bucket is skipped: half of the one from 2 to 4
        (0.99, [1, 0, 0, 9], 4.0),  # above the last bound
        (1.0, [3, 0, 0, 0], 1.0),
        (0.0, [0, 3, 0, 0], 1.0),
    ],
)
def test_quantiles_are_interpolated_within_a_bucket(share: float, counts: list[int], expected: float) -> None:
    assert quantile(share, (1, 2, 4), counts) == pytest.approx(expected)


def test_no_quantile_is_above_the_highest_value() -> None:
    assert quantile(0.99, (1, 2), [0, 10, 0], highest=1.2) == 1.2
    assert quantile(0.99, (1, 2), [0, 0, 10], highest=70.0) == 70.0


def test_an_empty_histogram_has_no_quantile_and_a_share_is_between_0_and_1() -> None:
    assert quantile(0.5, (1, 2), [0, 0, 0]) is None
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            quantile(share, (1,), [1, 0])


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_quantile_is_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    histogram = Histogram([1, 5, 10, 50])
    for value in values:
        histogram.record(value)
    estimate = quantile(share, histogram.bounds, histogram.counts, histogram.highest)
    rank = share * len(values)
    true = next(value for number, value in enumerate(sorted(values), 1) if number >= rank)
    edges = [0.0, *histogram.bounds, float("inf")]
    lower, upper = next((low, high) for low, high in pairwise(edges) if true <= high)
    assert estimate is not None
    assert lower <= estimate <= min(upper, histogram.highest)


def snapshot(registry: Registry, seconds: float, constant: dict[str, str] | None = None, started: float = 0) -> MetricsSnapshot:
    taken = registry.collect()
    return MetricsSnapshot(round(started * SECOND_NS), round(seconds * SECOND_NS), taken.instruments, constant or {})


def record(registry: Registry, task: str, queue: str, *values: float, result: str = "success") -> None:
    for value in values:
        registry.histogram(RUN, namespace="", task=task, queue=queue, result=result, error_type="").record(value)


def test_figures_are_by_task_and_queue_over_results_and_processes() -> None:
    first, second = Registry(), Registry()
    record(first, "charge", "mail", 1, 3)
    record(first, "charge", "mail", 8, result="failure")
    record(second, "charge", "mail", 4)
    record(second, "pack", "default", 0.02)
    found = figures([snapshot(first, 10), snapshot(second, 20)], RUN, ("task", "queue"))
    assert found.keys() == {("charge", "mail"), ("pack", "default")}
    charge = found["charge", "mail"]
    assert (charge.count, charge.rate, charge.mean, charge.highest) == (4, 0.2, 4.0, 8)
    assert 2.5 <= charge.p50 <= 5
    assert charge.p50 <= charge.p95 <= charge.p99 <= 8
    assert found["pack", "default"] == DistributionFigures(1, 0.05, 0.02, 0.0175, 0.02, 0.02, 0.02)


def test_figures_of_nothing_are_empty_and_an_unknown_label_is_an_error() -> None:
    registry = Registry()
    assert figures([], RUN, ("task",)) == figures([snapshot(registry, 1)], RUN, ("task",)) == {}
    record(registry, "charge", "mail")
    registry.histogram(RUN, namespace="", task="charge", queue="", result="", error_type="")
    assert figures([snapshot(registry, 1)], RUN, ("task",)) == {}
    with pytest.raises(ValueError, match="by: hub.task.run.duration has the labels .*, not worker"):
        figures([snapshot(registry, 1)], RUN, ("worker",))


def test_a_window_has_what_happened_between_two_snapshots() -> None:
    registry = Registry()
    record(registry, "charge", "mail", 100, 100)
    registry.counter("hub.worker.losses", pool="a").add(5)
    registry.gauge("hub.queue.depth", queue="mail").set(3)
    earlier = snapshot(registry, 60)
    record(registry, "charge", "mail", 1, 2, 3)
    record(registry, "pack", "mail", 7)
    registry.counter("hub.worker.losses", pool="a").add(2)
    between = window(earlier, snapshot(registry, 70))
    assert between.value("hub.worker.losses", pool="a") == 2
    assert between.value("hub.queue.depth", queue="mail") == 3
    found = figures([between], RUN, ("task",))
    assert (found["charge",].count, found["charge",].rate, found["charge",].mean) == (3, 0.3, 2.0)
    assert found["charge",].highest is None, "100 s were before"
    assert found["charge",].p99 <= 5
    assert found["pack",].highest == 7
    record(registry, "charge", "mail", 200)
    assert figures([window(earlier, snapshot(registry, 80))], RUN, ("task",))["charge",].highest == 200


def test_a_series_without_news_has_no_figures_in_the_window() -> None:
    registry = Registry()
    record(registry, "charge", "mail", 1)
    assert figures([window(snapshot(registry, 1), snapshot(registry, 2))], RUN, ("task",)) == {}


def test_the_window_of_a_restarted_process_begins_with_its_start() -> None:
    before, after = Registry(), Registry()
    record(before, "charge", "mail", 1, 1, 1)
    record(after, "charge", "mail", 2)
    restarted = snapshot(after, 70, started=65)
    assert window(snapshot(before, 60), restarted) == restarted
    assert figures([window(snapshot(before, 60), restarted)], RUN, ("task",))["charge",].rate == 0.2
