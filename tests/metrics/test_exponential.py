"""Exponential histograms, compared with those of OpenTelemetry's SDK."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from hub.metrics import Histogram, Registry, decode_snapshot, encode_snapshot, merged
from hub.metrics.exponential import BUCKETS_MAX, SCALE_MAX, ExponentialBuckets, ExponentialPoint, index_of, merged_points
from hub.metrics.merging import of_subscriber
from hub.metrics.otlp import encode_request
from hub.metrics.snapshot import InstrumentSamples, MetricsSnapshot, Point

VALUES: dict[str, list[float]] = {
    "one": [0.25],
    "the same": [3.0] * 5,
    "zeros": [0.0, 0.0, 1.0],
    "powers of two": [2.0**exponent for exponent in range(-20, 21)],
    "durations": [random.Random(7).lognormvariate(-3, 2) for _ in range(500)],
    "close together": [1.0 + number / 1000 for number in range(300)],
    "far apart": [5e-324, 1e-300, 1e-9, 1.0, 1e9, 1e300],
}


def counted(values: list[float]) -> ExponentialPoint:
    buckets = ExponentialBuckets()
    for value in values:
        buckets.record(value)
    return buckets.point()


def by_the_sdk(values: list[float]) -> Any:
    reader = InMemoryMetricReader()
    aggregation = ExponentialBucketHistogramAggregation(max_size=BUCKETS_MAX, max_scale=SCALE_MAX)
    provider = MeterProvider([reader], views=[View(instrument_name="*", aggregation=aggregation)])
    histogram = provider.get_meter("test").create_histogram("values")
    for value in values:
        histogram.record(value)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]


def sparse(offset: int, counts: Any) -> dict[int, int]:
    return {offset + at: count for at, count in enumerate(counts) if count}


@pytest.mark.parametrize("case", [case for case in VALUES if case != "far apart"])
def test_buckets_are_those_of_the_sdk(case: str) -> None:
    mine, theirs = counted(VALUES[case]), by_the_sdk(VALUES[case])
    assert (mine.scale, mine.zeros, mine.count) == (theirs.scale, theirs.zero_count, theirs.count)
    assert sparse(mine.offset, mine.counts) == sparse(theirs.positive.offset, theirs.positive.bucket_counts)


@pytest.mark.parametrize("case", VALUES)
def test_every_value_is_in_a_bucket_whose_bounds_enclose_it(case: str) -> None:
    point = counted([value for value in VALUES[case] if value])
    assert len(point.counts) <= BUCKETS_MAX
    assert point.count == len([value for value in VALUES[case] if value])
    if point.scale < 0 or case == "powers of two":
        return  # the bounds are not floats
    base = 2.0 ** (2.0**-point.scale)
    for value in filter(None, VALUES[case]):
        index = index_of(value, point.scale)
        assert base**index * (1 - 1e-9) < value <= base ** (index + 1) * (1 + 1e-9)


@pytest.mark.parametrize("scale", range(-10, SCALE_MAX + 1))
def test_indexes_ascend_and_a_power_of_two_is_the_upper_bound_of_its_bucket(scale: int) -> None:
    values = sorted(2.0**exponent * factor for exponent in range(-30, 31) for factor in (1.0, 1.3, 1.9))
    indexes = [index_of(value, scale) for value in values]
    assert all(lower <= higher for lower, higher in pairwise(indexes))
    if scale >= 0:
        assert all(index_of(2.0**exponent, scale) == (exponent << scale) - 1 for exponent in range(-30, 31))


def test_merged_buckets_are_those_of_all_values() -> None:
    cases = list(VALUES.values())
    for first, second in pairwise(cases):
        both, one = merged_points(counted(first), counted(second)), counted([*first, *second])
        assert both.count == one.count
        assert both.scale <= one.scale
        assert len(both.counts) <= BUCKETS_MAX
        shift = one.scale - both.scale
        joined: dict[int, int] = {}
        for index, count in sparse(one.offset, one.counts).items():
            joined[index >> shift] = joined.get(index >> shift, 0) + count
        assert sparse(both.offset, both.counts) == joined


def test_negative_values_have_buckets_of_their_own() -> None:
    point = counted([-1.5, -3.0, 0.0, 1.5])
    assert (sum(point.counts), sum(point.negative_counts), point.zeros) == (1, 2, 1)
    assert counted([1.5, 3.0]).counts == point.negative_counts


@pytest.fixture
def exponential() -> Iterator[None]:
    Histogram.with_exponential = True
    yield
    Histogram.with_exponential = False


def registry_with(values: list[float]) -> Registry:
    registry = Registry({"role": "engine"}, wall_clock_ns=lambda: 1_000)
    for value in values:
        registry.histogram("hub.engine.commit.duration", partition=0).record(value, "0af7651916cd43dd8448eb211c80319c")
    return registry


def pushed(snapshot: MetricsSnapshot) -> Any:
    """The metric of a snapshot, as a receiver decodes it."""
    request = ExportMetricsServiceRequest.FromString(encode_request([snapshot], {}))
    return request.resource_metrics[0].scope_metrics[0].metrics[0]


@pytest.mark.usefixtures("exponential")
def test_a_push_has_exponential_histograms_also_of_several_processes() -> None:
    values = [*VALUES["durations"], 0.0]
    snapshots = [decode_snapshot(encode_snapshot(registry_with(part).collect())) for part in (values[:200], values[200:])]
    metric = pushed(merged(snapshots[0], snapshots[1:]))
    assert metric.WhichOneof("data") == "exponential_histogram"
    assert metric.exponential_histogram.aggregation_temporality == 2
    (point,) = metric.exponential_histogram.data_points
    theirs = by_the_sdk(values)
    assert (point.count, point.zero_count, point.scale) == (501, 1, theirs.scale)
    found = sparse(point.positive.offset, point.positive.bucket_counts)
    assert found == sparse(theirs.positive.offset, theirs.positive.bucket_counts)
    assert (point.sum, point.min, point.max) == pytest.approx((sum(values), 0.0, max(values)))
    assert not point.HasField("negative")
    assert point.exemplars[0].trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.usefixtures("exponential")
def test_histograms_are_merged_with_their_exponential_buckets() -> None:
    first, second = Histogram((1.0,)), Histogram((1.0,))
    first.record(0.5)
    second.record(4.0)
    first.merge(second)
    assert first.exponential is not None
    assert first.exponential.point() == counted([0.5, 4.0])


def test_without_the_setting_histograms_have_their_declared_bounds() -> None:
    assert pushed(registry_with([1.0]).collect()).WhichOneof("data") == "histogram"


@pytest.mark.usefixtures("exponential")
def test_if_one_process_does_not_count_them_the_metric_has_its_declared_bounds() -> None:
    with_them = registry_with([1.0]).collect()
    Histogram.with_exponential = False
    metric = pushed(merged(with_them, [registry_with([2.0]).collect()]))
    assert [point.count for point in metric.histogram.data_points] == [2]


@pytest.mark.parametrize(
    "point", [ExponentialPoint(scale=10**9), ExponentialPoint(counts=(1,) * 161), ExponentialPoint(offset=1 << 40, counts=(1,))]
)
def test_buckets_without_measure_from_the_process_of_a_subscriber_are_left_out(point: ExponentialPoint) -> None:
    samples = InstrumentSamples(
        "orders.value", "histogram", "", ("subscriber",), "", (Point(("mine",), 1.0, (1, 0), 1.0, 1.0, (), point),), (1.0,)
    )
    assert of_subscriber(MetricsSnapshot(0, 0, (samples,)), "mine").instruments == ()
