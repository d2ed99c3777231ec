"""Snapshots as messages of OTLP 1.x (opentelemetry-proto, `ExportMetricsServiceRequest`). Importing this module loads protobuf.

Sums and histograms are cumulative since the start of the process. Constant labels are attributes of the resource and of every
data point, so that queries for Prometheus work with both ways of export.
"""

from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from schemas.instruments import attribute_name

from .exponential import ExponentialPoint
from .snapshot import InstrumentSamples, MetricsSnapshot, Point

#: The path of the metrics service below an OTLP endpoint over HTTP.
METRICS_PATH = "/v1/metrics"
SCOPE = "taskhub"

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def encode_request(snapshots: Iterable[MetricsSnapshot], resource: Mapping[str, str]) -> bytes:
    """The snapshots of one or several processes as one request. `resource`: attributes of each process, for example
    `service.name`; the constant labels of the process are added, `process` as `service.instance.id`."""
    request = ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=Resource(attributes=list(_attributes(_resource_of(one, resource).items()))),
                scope_metrics=[ScopeMetrics(scope=InstrumentationScope(name=SCOPE), metrics=list(_metrics(one)))],
            )
            for one in snapshots
        ]
    )
    encoded: bytes = request.SerializeToString()
    return encoded


def rejected_points(body: bytes) -> tuple[int, str]:
    """How many data points a receiver rejected, and its message, from the body of its response. A body that is not an
    `ExportMetricsServiceResponse` rejects nothing."""
    try:
        partial = ExportMetricsServiceResponse.FromString(body).partial_success
    except Exception:  # protobuf's DecodeError; protobuf is not a dependency of its own
        return 0, ""
    return partial.rejected_data_points, partial.error_message


def _resource_of(snapshot: MetricsSnapshot, resource: Mapping[str, str]) -> dict[str, str]:
    constant = {"service.instance.id" if name == "process" else f"hub.{name}": value for name, value in snapshot.constant.items()}
    return {**constant, **resource}


def _attributes(labels: Iterable[tuple[str, str]]) -> Iterator[KeyValue]:
    for name, value in labels:
        if value:
            yield KeyValue(key=name, value=AnyValue(string_value=value))


def _metrics(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    for samples in snapshot.instruments:
        if not samples.points:
            continue
        metric = Metric(name=samples.name, unit=samples.unit, description=samples.description)
        if samples.kind == "histogram" and all(point.exponential is not None for point in samples.points):
            exponential = [_exponential_point(snapshot, samples, point) for point in samples.points]
            metric.exponential_histogram.CopyFrom(
                ExponentialHistogram(data_points=exponential, aggregation_temporality=_CUMULATIVE)
            )
        elif samples.kind == "histogram":
            points = [_histogram_point(snapshot, samples, point) for point in samples.points]
            metric.histogram.CopyFrom(Histogram(data_points=points, aggregation_temporality=_CUMULATIVE))
        elif samples.kind == "gauge":
            metric.gauge.CopyFrom(Gauge(data_points=_number_points(snapshot, samples)))
        else:
            metric.sum.CopyFrom(
                Sum(
                    data_points=_number_points(snapshot, samples),
                    aggregation_temporality=_CUMULATIVE,
                    is_monotonic=samples.kind == "counter",
                )
            )
        yield metric


def _labels(snapshot: MetricsSnapshot, samples: InstrumentSamples, point: Point) -> list[KeyValue]:
    own = zip(map(attribute_name, samples.labels), point.labels, strict=True)
    return list(_attributes([*snapshot.constant.items(), *own]))


def _number_points(snapshot: MetricsSnapshot, samples: InstrumentSamples) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(
            attributes=_labels(snapshot, samples, point),
            start_time_unix_nano=0 if samples.kind == "gauge" else snapshot.started_ns,
            time_unix_nano=snapshot.taken_ns,
            as_double=point.value,
        )
        for point in samples.points
    ]


def _histogram_point(snapshot: MetricsSnapshot, samples: InstrumentSamples, point: Point) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=_labels(snapshot, samples, point),
        start_time_unix_nano=snapshot.started_ns,
        time_unix_nano=snapshot.taken_ns,
        count=point.count,
        sum=_sum(point),
        min=point.lowest,
        max=point.highest,
        bucket_counts=point.counts,
        explicit_bounds=samples.bounds,
        exemplars=_exemplars(point),
    )


def _exponential_point(snapshot: MetricsSnapshot, samples: InstrumentSamples, point: Point) -> ExponentialHistogramDataPoint:
    buckets = point.exponential or ExponentialPoint()
    sides = ((buckets.offset, buckets.counts), (buckets.negative_offset, buckets.negative_counts))
    positive, negative = (
        ExponentialHistogramDataPoint.Buckets(offset=offset, bucket_counts=counts) if counts else None for offset, counts in sides
    )
    return ExponentialHistogramDataPoint(
        attributes=_labels(snapshot, samples, point),
        start_time_unix_nano=snapshot.started_ns,
        time_unix_nano=snapshot.taken_ns,
        count=buckets.count,
        sum=_sum(point),
        min=point.lowest,
        max=point.highest,
        scale=buckets.scale,
        zero_count=buckets.zeros,
        positive=positive,
        negative=negative,
        exemplars=_exemplars(point),
    )


def _sum(point: Point) -> float | None:
    """A sum is of values that are not negative."""
    return None if point.lowest is not None and point.lowest < 0 else point.value


def _exemplars(point: Point) -> list[Exemplar]:
    return [
        Exemplar(as_double=one.value, time_unix_nano=one.at_ns, trace_id=bytes.fromhex(one.trace_id)) for one in point.exemplars
    ]
