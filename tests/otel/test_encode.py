"""Encoded messages: golden bytes, and what a collector reads from them."""

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from hub.testing import make_event
from schemas.tracing import span_id_of, trace_id_of
from subscribers.otel.encode import encode_logs, encode_spans, rejected_records, rejected_spans
from subscribers.otel.records import record_of
from subscribers.otel.spans import TaskSpan, spans_of

RESOURCE = {"service.name": "hub", "deployment.environment.name": "test"}
SPAN = TaskSpan(
    trace="0af7651916cd43dd8448eb211c80319c",
    id="b7ad6b7169203331",
    parent="00f067aa0ba902b7",
    flags=1,
    name="attempt charge",
    kind=5,
    start=1_767_259_800_000_001_000,
    end=1_767_259_800_250_000_000,
    attributes=(("a.bool", True), ("a.float", 0.5), ("a.int", 2), ("a.text", "ü")),
    links=(("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b8"),),
    error="the bank is busy",
)
GOLDEN = (
    "0af7020a3e0a250a1b6465706c6f796d656e742e656e7669726f6e6d656e742e6e616d6512060a04746573740a150a0c736572766963652e"
    "6e616d6512050a03687562128b020a130a0e7461736b6875622e6576656e747312013112ca010a100af7651916cd43dd8448eb211c80319c"
    "1208b7ad6b7169203331220800f067aa0ba902b72a0e617474656d707420636861726765300539e8f3d3bc6c9186184180a2bacb6c918618"
    "4a0c0a06612e626f6f6c120210014a140a07612e666c6f6174120921000000000000e03f4a0b0a05612e696e74120218024a0e0a06612e74"
    "65787412040a02c3bc6a210a100af7651916cd43dd8448eb211c80319c120800f067aa0ba902b835010000007a1412107468652062616e6b"
    "206973206275737918028501010000001a2768747470733a2f2f6f70656e74656c656d657472792e696f2f736368656d61732f312e34342e"
    "301a2768747470733a2f2f6f70656e74656c656d657472792e696f2f736368656d61732f312e34342e30"
)


def test_a_span_has_golden_bytes() -> None:
    assert encode_spans([SPAN], RESOURCE).hex() == GOLDEN


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def test_a_collector_reads_the_fields_of_a_span() -> None:
    request = ExportTraceServiceRequest.FromString(
        encode_spans([SPAN, SPAN._replace(parent=None, links=(), error=None)], RESOURCE)
    )
    (of_resource,) = request.resource_spans
    (scoped,) = of_resource.scope_spans
    assert plain(of_resource.resource.attributes) == RESOURCE
    first, second = scoped.spans
    assert (first.trace_id.hex(), first.span_id.hex(), first.parent_span_id.hex()) == (SPAN.trace, SPAN.id, SPAN.parent)
    assert (first.name, first.kind, first.flags) == ("attempt charge", 5, 1)
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (SPAN.start, SPAN.end)
    assert plain(first.attributes) == dict(SPAN.attributes)
    assert (first.status.code, first.status.message) == (2, "the bank is busy")
    assert tuple((link.trace_id.hex(), link.span_id.hex()) for link in first.links) == SPAN.links
    assert (second.parent_span_id, list(second.links), second.status.code) == (b"", [], 0)


def test_the_order_of_the_settings_of_the_resource_does_not_matter() -> None:
    backwards = dict(reversed(RESOURCE.items()))
    assert encode_spans([SPAN], backwards) == encode_spans([SPAN], RESOURCE)


def test_a_collector_reads_the_fields_of_a_log_record() -> None:
    event = make_event("attempt.failed", envelope={"run": 5}, attempt=2)
    worker = make_event("worker.lost")
    request = ExportLogsServiceRequest.FromString(encode_logs([record_of(event), record_of(worker)], RESOURCE))
    (scoped,) = request.resource_logs[0].scope_logs
    record, other = scoped.log_records
    assert plain(request.resource_logs[0].resource.attributes) == RESOURCE
    assert (record.event_name, record.severity_number, record.severity_text) == ("hub.attempt.failed", 13, "WARN")
    assert record.time_unix_nano == record.observed_time_unix_nano == 1_767_259_800_250_000_000
    assert (record.trace_id.hex(), record.span_id.hex()) == (trace_id_of("order-7", 5), span_id_of("attempt", "order-7", 5, 2))
    assert record.flags == 1
    assert plain(record.attributes)["hub.task.id"] == "order-7"
    assert record.body.string_value
    assert (other.event_name, other.trace_id, other.span_id) == ("hub.worker.lost", b"", b"")


def test_a_message_of_nothing_is_valid() -> None:
    assert not ExportTraceServiceRequest.FromString(encode_spans([], RESOURCE)).resource_spans[0].scope_spans[0].spans


def test_the_rejected_items_of_an_answer_are_read() -> None:
    spans, records = ExportTraceServiceResponse(), ExportLogsServiceResponse()
    assert rejected_spans(spans.SerializeToString()) == (0, "")
    spans.partial_success.rejected_spans, spans.partial_success.error_message = 3, "too old"
    records.partial_success.rejected_log_records = 2
    assert rejected_spans(spans.SerializeToString()) == (3, "too old")
    assert rejected_records(records.SerializeToString()) == (2, "")


@pytest.mark.parametrize("read", [rejected_spans, rejected_records])
def test_an_answer_in_another_format_is_an_error(read: Any) -> None:
    with pytest.raises(ValueError, match="the answer is not an Export"):
        read(b"<html>")


def test_the_spans_of_an_event_are_encoded_as_they_are() -> None:
    spans = spans_of(make_event("task.completed", envelope={"from_state": "running"}))
    found = ExportTraceServiceRequest.FromString(encode_spans(spans, RESOURCE)).resource_spans[0].scope_spans[0].spans
    assert [(one.name, one.span_id.hex(), plain(one.attributes)) for one in found] == [
        (span.name, span.id, dict(span.attributes)) for span in spans
    ]
