"""What the code of a handler inherits from its attempt: the trace context, which is the parent of submissions and of spans that
the handler creates, and the fields of log records.

OpenTelemetry is used only if the program has loaded it, or if the worker exports spans (`user_spans.py`).
"""

import asyncio
import sys
from functools import partial
from types import TracebackType
from typing import Any

from schemas import ExecuteAttempt
from schemas.tracing import parse_traceparent

from ..client.tracing import ATTEMPT_TRACEPARENT
from ..logs import LOG_SCOPE, Logger
from .settings import SpanExport
from .threads import DaemonThreads

log = Logger(__name__)

ATTRIBUTES_KEY = "hub.attempt"
"""The key of the attempt's attributes in the OpenTelemetry context."""

#: Time for spans to be exported when the worker stops (seconds).
FLUSH_SECONDS = 5.0


class AttemptScope:
    """A context manager: inside it, the attempt of `command` is the current one. For the task or thread in which the handler
    runs; the span of the attempt itself is exported by the hub, so that here it is only a parent."""

    __slots__ = ("_command", "_log_token", "_otel_token", "_token")

    def __init__(self, command: ExecuteAttempt) -> None:
        self._command = command
        self._otel_token: Any = None

    def __enter__(self) -> None:
        self._token = ATTEMPT_TRACEPARENT.set(self._command.traceparent)
        self._log_token = LOG_SCOPE.set(partial(_log_fields, self._command))
        if "opentelemetry.trace" in sys.modules:
            self._otel_token = _attach(self._command)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if kind is GeneratorExit:
            return  # The event loop is being discarded: this is another context, in which nothing was set.
        ATTEMPT_TRACEPARENT.reset(self._token)
        LOG_SCOPE.reset(self._log_token)
        if self._otel_token is not None:
            from opentelemetry import context

            context.detach(self._otel_token)


def _attach(command: ExecuteAttempt) -> Any:
    """Make the attempt the current span. Returns the token to detach it; None if the command has no trace context."""
    from opentelemetry import context, trace

    found = parse_traceparent(command.traceparent)
    if found is None or found.parent is None:
        return None
    provider = trace.get_tracer_provider()
    if hasattr(provider, "add_span_processor"):
        from .user_spans import describe_spans_of

        describe_spans_of(provider, ATTRIBUTES_KEY)
    flags = trace.TraceFlags(int(found.flags, 16))
    span = trace.SpanContext(int(found.trace, 16), int(found.parent, 16), is_remote=True, trace_flags=flags)
    attempt = trace.set_span_in_context(trace.NonRecordingSpan(span))
    return context.attach(context.set_value(ATTRIBUTES_KEY, _attributes(command), attempt))


def _log_fields(command: ExecuteAttempt) -> dict[str, object]:
    """The fields of log records (`hub.logs.LOG_SCOPE`)."""
    trace = parse_traceparent(command.traceparent)
    return {
        "task": command.task,
        "root": command.root,
        "attempt": command.attempt,
        "correlation_id": command.correlation_id or command.root,
        "trace_id": None if trace is None else trace.trace,
        "span_id": None if trace is None else trace.parent,
    }


def _attributes(command: ExecuteAttempt) -> dict[str, str | int]:
    """The attributes of spans that the handler creates, with the names of those of the attempt's own span."""
    values: dict[str, str | int | None] = {
        "hub.attempt": command.attempt,
        "hub.namespace": command.namespace,
        "hub.queue": command.queue,
        "hub.root_run.id": command.root,
        "hub.step.name": command.key,
        "hub.task.id": command.task,
        "hub.task.name": command.name,
        "hub.task.version": command.version,
    }
    return {name: value for name, value in values.items() if value is not None}


def begin_export(export: SpanExport | None) -> None:
    """Begin to export spans of handlers as configured; None: nothing is exported."""
    if export is not None:
        from .user_spans import export_spans

        export_spans(export)


async def flush_export(export: SpanExport | None) -> None:
    """Export the spans that are still in memory when the worker stops. Waits for at most FLUSH_SECONDS."""
    if export is None:
        return
    from .user_spans import flush_spans

    threads = DaemonThreads(1, name="spans")  # the SDK blocks
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            exported = await asyncio.wrap_future(threads.submit(flush_spans))
    except TimeoutError:
        exported = False
    finally:
        threads.shutdown()
    if not exported:
        log.warning("spans of handlers were not exported in time", action="worker_spans_not_exported", seconds=FLUSH_SECONDS)
