"""OTLP messages (opentelemetry-proto), encoded. The only module that knows the format; importing it loads protobuf.

Equal values give equal bytes: attributes are sorted, the resource is constant, and there are no maps in the messages.
Source: opentelemetry-proto 1.9, `trace.proto`, `logs.proto`, and the collector's services.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Status

from .attributes import Value
from .records import OtlpRecord
from .spans import TaskSpan

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
_SCOPE = InstrumentationScope(name="taskhub.events", version="1")
_FLAGS_MAX = 0xFF


def encode_spans(spans: Iterable[TaskSpan], resource: Mapping[str, str]) -> bytes:
    """An ExportTraceServiceRequest."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add(schema_url=SCHEMA_URL)
    _set_attributes(of_resource.resource.attributes, sorted(resource.items()))
    scoped = of_resource.scope_spans.add(scope=_SCOPE, schema_url=SCHEMA_URL)
    for span in spans:
        _add_span(scoped, span)
    content: bytes = request.SerializeToString()
    return content


def encode_logs(records: Iterable[OtlpRecord], resource: Mapping[str, str]) -> bytes:
    """An ExportLogsServiceRequest."""
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add(schema_url=SCHEMA_URL)
    _set_attributes(of_resource.resource.attributes, sorted(resource.items()))
    scoped = of_resource.scope_logs.add(scope=_SCOPE, schema_url=SCHEMA_URL)
    for record in records:
        _add_record(scoped, record)
    content: bytes = request.SerializeToString()
    return content


def rejected_spans(body: bytes) -> tuple[int, str]:
    """The number of rejected spans in the answer of a collector, and its message. Raises ValueError for another format."""
    partial = _partial_success(ExportTraceServiceResponse, body)
    return partial.rejected_spans, partial.error_message


def rejected_records(body: bytes) -> tuple[int, str]:
    """The number of rejected log records in the answer of a collector, and its message. Raises ValueError for another format."""
    partial = _partial_success(ExportLogsServiceResponse, body)
    return partial.rejected_log_records, partial.error_message


def _partial_success(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body).partial_success
    except Exception:  # protobuf's DecodeError
        raise ValueError(f"the answer is not an {kind.DESCRIPTOR.name}") from None


def _add_span(scoped: ScopeSpans, span: TaskSpan) -> None:
    """Messages are created in place: a message that is assigned or appended is copied, which takes three times as long."""
    message = scoped.spans.add(
        trace_id=bytes.fromhex(span.trace),
        span_id=bytes.fromhex(span.id),
        flags=span.flags & _FLAGS_MAX,
        name=span.name,
        kind=span.kind,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
    )
    if span.parent is not None:
        message.parent_span_id = bytes.fromhex(span.parent)
    for other, linked in span.links:
        message.links.add(trace_id=bytes.fromhex(other), span_id=bytes.fromhex(linked), flags=span.flags & _FLAGS_MAX)
    if span.error is not None:
        message.status.code, message.status.message = Status.STATUS_CODE_ERROR, span.error
    _set_attributes(message.attributes, span.attributes)


def _add_record(scoped: ScopeLogs, record: OtlpRecord) -> None:
    message = scoped.log_records.add(
        time_unix_nano=record.time,
        observed_time_unix_nano=record.time,
        severity_number=record.severity,
        severity_text=record.severity_text,
        event_name=record.event_name,
    )
    message.body.string_value = record.body
    if record.trace is not None and record.span is not None:
        message.trace_id, message.span_id = bytes.fromhex(record.trace), bytes.fromhex(record.span)
        message.flags = record.flags & _FLAGS_MAX
    _set_attributes(message.attributes, record.attributes)


def _set_attributes(target: Any, attributes: Iterable[tuple[str, Value]]) -> None:
    """Add attributes to `target`, a repeated field of KeyValue."""
    for name, value in attributes:
        added = target.add(key=name).value
        if isinstance(value, str):
            added.string_value = value
        elif isinstance(value, bool):
            added.bool_value = value
        elif isinstance(value, int):
            added.int_value = value
        else:
            added.double_value = value
