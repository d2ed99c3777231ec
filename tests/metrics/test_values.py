"""Counters, gauges and histograms as plain data."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.metrics import Counter, Exemplar, Gauge, Histogram

TRACE = "0af7651916cd43dd8448eb211c80319c"
FINITE = st.floats(-1e6, 1e6)


def test_a_counter_only_grows() -> None:
    counter = Counter()
    counter.add()
    counter.add(2.5)
    counter.add(0)
    assert counter.value == 3.5
    for amount in (-1, nan, inf):
        with pytest.raises(ValueError, match="amount"):
            counter.add(amount)
    assert counter.value == 3.5


def test_a_counter_follows_a_total_that_begins_again() -> None:
    counter = Counter()
    for total in (5, 5, 7, 2, 3):
        counter.follow(total)
    assert counter.value == 7 + 3


def test_a_gauge_grows_and_shrinks() -> None:
    gauge = Gauge()
    gauge.set(5)
    gauge.add(-7)
    assert gauge.value == -2
    for value in (nan, inf, -inf):
        with pytest.raises(ValueError, match="value"):
            gauge.set(value)
    with pytest.raises(ValueError, match="value"):
        gauge.add(inf)
    assert gauge.value == -2


def test_a_value_that_equals_a_bound_is_in_its_bucket() -> None:
    histogram = Histogram([1, 2])
    for value in (0.5, 1, 1.5, 2, 2.5):
        histogram.record(value)
    assert (histogram.counts, histogram.count, histogram.sum) == ([2, 2, 1], 5, 7.5)
    assert (histogram.lowest, histogram.highest) == (0.5, 2.5)


@pytest.mark.parametrize("bounds", [[], [2, 1], [1, 1], [1, inf], [nan]])
def test_bounds_are_finite_and_ascend(bounds: list[float]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        Histogram(bounds)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_not_finite_is_not_recorded(value: float) -> None:
    histogram = Histogram([1])
    with pytest.raises(ValueError, match="value"):
        histogram.record(value)
    assert histogram.count == 0


def test_the_latest_exemplar_of_each_bucket_is_kept() -> None:
    histogram = Histogram([1], iter([10, 20, 30]).__next__)
    other = TRACE[::-1]
    histogram.record(0.1, TRACE)
    histogram.record(0.2, other)
    histogram.record(0.3)
    histogram.record(5, TRACE)
    assert histogram.exemplars == {0: Exemplar(0.2, other, 20), 1: Exemplar(5, TRACE, 30)}


@pytest.mark.parametrize("trace", ["", "0af7", TRACE.upper(), TRACE + "\n", f"{TRACE}00"])
def test_an_exemplar_needs_a_trace_id(trace: str) -> None:
    histogram = Histogram([1])
    with pytest.raises(ValueError, match="exemplar_trace_id"):
        histogram.record(0.1, trace)
    assert histogram.count == 0


@given(st.lists(FINITE), st.lists(FINITE))
def test_merged_histograms_are_that_of_all_values(left: list[float], right: list[float]) -> None:
    bounds = [-10, 0, 1, 100]
    one, two, both = Histogram(bounds), Histogram(bounds), Histogram(bounds)
    for histogram, values in ((one, left), (two, right), (both, left + right)):
        for value in values:
            histogram.record(value)
    one.merge(two)
    assert (one.counts, one.count, one.lowest, one.highest) == (both.counts, both.count, both.lowest, both.highest)
    assert one.sum == pytest.approx(both.sum)


def test_merging_keeps_the_newer_exemplar_of_a_bucket() -> None:
    older, newer = Histogram([1], lambda: 1), Histogram([1], lambda: 2)
    older.record(0.1, TRACE)
    older.record(5, TRACE)
    newer.record(0.2, TRACE)
    expected = {0: Exemplar(0.2, TRACE, 2), 1: Exemplar(5, TRACE, 1)}
    merged = Histogram([1])
    merged.merge(older)
    merged.merge(newer)
    assert merged.exemplars == expected
    newer.merge(older)
    assert newer.exemplars == expected


def test_histograms_with_other_bounds_are_not_merged() -> None:
    with pytest.raises(ValueError, match="bounds"):
        Histogram([1]).merge(Histogram([2]))
