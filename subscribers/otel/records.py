"""Log records as a pure function of single events: one per event, with the trace context of the span that owns it."""

from typing import NamedTuple

from schemas import CATALOGUE, Event
from schemas.events.attempt import AttemptEvent, AttemptFailedEvent
from schemas.events.task import TaskDispatched, TaskProgressed, TaskStarted
from schemas.tracing import attempt_trace_of, context_of_event, span_id_of

from ..text import summary_of
from .attributes import Attributes, Value, error_attributes, event_attributes, sorted_attributes, task_attributes
from .times import ns_of

_TEXTS = ((17, "ERROR"), (13, "WARN"), (9, "INFO"), (5, "DEBUG"), (1, "TRACE"))
_OF_AN_ATTEMPT = (AttemptEvent, TaskDispatched, TaskProgressed, TaskStarted)


class OtlpRecord(NamedTuple):
    """A log record. `time`: nanoseconds since the epoch. `trace`, `span`: hexadecimal digits, None for workers and engines."""

    time: int
    event_name: str
    severity: int
    severity_text: str
    body: str
    attributes: Attributes
    trace: str | None = None
    span: str | None = None
    flags: int = 0


def record_of(event: Event) -> OtlpRecord:
    """The log record of an event. Raises ValueError if the time of the event is invalid."""
    severity = event.severitynumber
    text = next(name for least, name in _TEXTS if severity >= least)
    body = summary_of(event.data) or CATALOGUE[event.type].when
    record = OtlpRecord(ns_of(event.time), f"hub.{event.type}", severity, text, body, _attributes(event))
    if CATALOGUE[event.type].entity != "task":
        return record
    context = context_of_event(event)
    owner = isinstance(event.data, _OF_AN_ATTEMPT)
    number = event.data.attempt if owner else 0
    span = span_id_of("attempt" if owner else "task", event.subject, event.run, number)
    return record._replace(trace=attempt_trace_of(event) if owner else context.trace, span=span, flags=int(context.flags, 16))


def _attributes(event: Event) -> Attributes:
    data = event.data
    values: dict[str, Value | None] = event_attributes(event)
    if CATALOGUE[event.type].entity == "task":
        values |= task_attributes(event)
    values |= {
        "hub.attempt": getattr(data, "attempt", 0) or None,
        "hub.worker.id": getattr(data, "worker", None) or None,
        "hub.state": event.to_state,
    }
    values["error.type"], message = error_attributes(event)
    if message is not None and CATALOGUE[event.type].entity == "task":
        values |= {"exception.type": values["error.type"], "exception.message": message}
    if isinstance(data, AttemptFailedEvent):
        values["exception.stacktrace"] = data.error.stacktrace
    return sorted_attributes(values)
