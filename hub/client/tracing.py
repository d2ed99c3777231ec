"""The W3C trace context that a submission continues: that of the current OpenTelemetry span, or of the current attempt."""

import sys
from contextvars import ContextVar

ATTEMPT_TRACEPARENT: ContextVar[str | None] = ContextVar("attempt_traceparent", default=None)
"""The trace context of the attempt whose handler is running; set by the worker."""


def current_traceparent() -> bytes | None:
    """The header of a submission; None if there is no trace to continue. Does not load OpenTelemetry: a program that has not
    loaded it has no spans."""
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is not None:
        context = current_span().get_span_context()
        if context.is_valid:
            return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, int(context.trace_flags))
    attempt = ATTEMPT_TRACEPARENT.get()
    return None if attempt is None else attempt.encode()
