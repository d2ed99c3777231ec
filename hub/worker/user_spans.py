"""Spans that handlers create, with the OpenTelemetry SDK: their attributes, and their export. Importing it loads the SDK."""

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from opentelemetry import context, trace
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from .settings import SpanExport

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource

SERVICE_NAME = "hub-worker"
"""`service.name` of the spans, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has another."""

_described: "WeakSet[Any]" = WeakSet()
_exporting: list[TracerProvider] = []


class _AttemptAttributes(SpanProcessor):
    """Copies the attributes of the current attempt, which the context has under `key`, to every span that begins in it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def on_start(self, span: Span, parent_context: "Context | None" = None) -> None:
        attributes = context.get_value(self._key, parent_context)
        if isinstance(attributes, dict):
            span.set_attributes(attributes)


def describe_spans_of(provider: Any, key: str) -> None:
    """Let all spans of this provider of the SDK that begin in an attempt have its attributes, which the context has under `key`.
    May be called repeatedly."""
    if provider not in _described:
        _described.add(provider)
        provider.add_span_processor(_AttemptAttributes(key))


def export_spans(export: SpanExport) -> None:
    """Export the spans of handlers to a collector, unless the process has a tracer provider already: then it exports its spans
    itself. Spans follow the sampling decision of their task, which is in its trace context."""
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
    from opentelemetry.util.re import parse_env_headers

    exporter = OTLPSpanExporter(
        endpoint=f"{export.endpoint}/v1/traces",
        headers=parse_env_headers(export.headers.get_secret_value(), liberal=True),
        timeout=export.timeout_seconds,
        compression=Compression.Gzip if export.gzip else Compression.NoCompression,
    )
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _exporting.append(provider)


def flush_spans() -> bool:
    """Export the spans that are in memory, if `export_spans` exports them; blocks. False if some could not be exported."""
    return all(provider.force_flush() for provider in _exporting)


def _resource() -> "Resource":
    from opentelemetry.sdk.resources import Resource

    found = Resource.create()
    if str(found.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        return found.merge(Resource({"service.name": SERVICE_NAME}))
    return found
