"""Snapshots as OTLP messages: cumulative, with start times, explicit buckets and exemplars."""

import subprocess
import sys
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from hub.metrics import Registry
from hub.metrics.otlp import encode_request, rejected_points
from schemas.instruments import INSTRUMENTS

TRACE = "0af7651916cd43dd8448eb211c80319c"
START, NOW = 1_000, 2_000
CUMULATIVE = 2


def registry_of(process: str) -> Registry:
    times = iter([START])
    return Registry({"role": "worker", "process": process}, wall_clock_ns=lambda: next(times, NOW))


def decoded(*registries: Registry) -> Any:
    body = encode_request([one.collect() for one in registries], {"service.name": "hub", "deployment.environment.name": ""})
    return ExportMetricsServiceRequest.FromString(body).resource_metrics


def attributes(message: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in message.attributes}


def metrics(resource: Any) -> dict[str, Any]:
    return {one.name: one for one in resource.scope_metrics[0].metrics}


def test_each_process_is_a_resource() -> None:
    first, second = registry_of("worker-1"), registry_of("worker-2")
    first.gauge("hub.process.up").set(1)
    found = decoded(first, second)
    assert [attributes(one.resource) for one in found] == [
        {"service.name": "hub", "service.instance.id": f"worker-{number}", "hub.role": "worker"} for number in (1, 2)
    ]
    assert [len(metrics(one)) for one in found] == [1, 0]
    assert found[0].scope_metrics[0].scope.name == "taskhub"


def test_counters_are_cumulative_and_monotonic_and_updowns_are_sums_that_are_not() -> None:
    registry = registry_of("worker-1")
    registry.counter("hub.worker.losses", pool="a").add(3)
    registry.gauge("hub.worker.slots", pool="a", state="used").set(5)
    registry.gauge("hub.engine.lag", partition=0).set(7)
    found = metrics(decoded(registry)[0])
    losses, slots, lag = (found[name] for name in ("hub.worker.losses", "hub.worker.slots", "hub.engine.lag"))
    assert (losses.sum.aggregation_temporality, losses.sum.is_monotonic, losses.unit) == (CUMULATIVE, True, "{worker}")
    assert (slots.sum.aggregation_temporality, slots.sum.is_monotonic) == (CUMULATIVE, False)
    assert losses.description == INSTRUMENTS["hub.worker.losses"].description
    (point,) = losses.sum.data_points
    assert (point.as_double, point.start_time_unix_nano, point.time_unix_nano) == (3, START, NOW)
    assert attributes(point) == {"role": "worker", "process": "worker-1", "pool": "a"}
    (point,) = lag.gauge.data_points
    assert (point.as_double, point.start_time_unix_nano, point.time_unix_nano) == (7, 0, NOW)


def test_histograms_have_buckets_sums_extremes_and_exemplars() -> None:
    registry = registry_of("worker-1")
    duration = registry.histogram("hub.workflow.run.duration", namespace="", task="order", result="failure", error_type="E")
    duration.record(0.02)
    duration.record(40, TRACE)
    metric = metrics(decoded(registry)[0])["hub.workflow.run.duration"]
    (point,) = metric.histogram.data_points
    assert metric.histogram.aggregation_temporality == CUMULATIVE
    assert attributes(point) == {
        "role": "worker",
        "process": "worker-1",
        "task": "order",
        "result": "failure",
        "error.type": "E",
    }
    assert (point.count, point.sum, point.min, point.max) == (2, 40.02, 0.02, 40)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (START, NOW)
    bounds = INSTRUMENTS["hub.workflow.run.duration"].bounds
    assert tuple(point.explicit_bounds) == bounds
    assert list(point.bucket_counts) == [int(index in (1, bounds.index(60))) for index in range(len(bounds) + 1)]
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id.hex(), exemplar.as_double, exemplar.time_unix_nano) == (TRACE, 40, NOW)


def test_a_histogram_with_negative_values_has_no_sum_and_an_empty_one_no_extremes() -> None:
    registry = registry_of("worker-1")
    registry.histogram("hub.engine.commit.duration", partition=0).record(-1)
    registry.histogram("hub.engine.commit.duration", partition=1)
    negative, empty = metrics(decoded(registry)[0])["hub.engine.commit.duration"].histogram.data_points
    assert (negative.HasField("sum"), negative.HasField("min")) == (False, True)
    assert (empty.sum, empty.count, empty.HasField("min"), empty.HasField("max")) == (0, 0, False, False)


def test_rejected_points_are_read_from_the_response() -> None:
    partial = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")
    assert rejected_points(ExportMetricsServiceResponse(partial_success=partial).SerializeToString()) == (3, "too old")
    assert rejected_points(b"") == (0, "")
    assert rejected_points(b"\xff\xff{}") == (0, "")


def test_the_values_load_nothing_and_the_exports_no_protobuf() -> None:
    code = """if True:
        import sys
        import hub.metrics
        print(sorted({'httpx2', 'psutil', 'pydantic', 'structlog', 'google.protobuf'} & set(sys.modules)))
        import hub.metrics.push, hub.metrics.prometheus, hub.metrics.quantiles
        print('google.protobuf' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["[]", "False"]
