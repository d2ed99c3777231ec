"""Attributes of spans and log records, by name. Only facts of the event: no clock, host or process, so that they are the same at
each export. Arguments and results are never exported.

Sources: OpenTelemetry semantic conventions 1.44 for `messaging.*`, `cloudevents.*`, `error.type` and `exception.*`; `hub.result`
has the values of `cicd.pipeline.result`.
"""

from typing import Any

from schemas import Event, TaskError
from schemas import events as e

Value = str | int | float | bool
Attributes = tuple[tuple[str, Value], ...]

MESSAGE_CHARACTERS_MAX = 1024
"""Length of error messages and reasons in characters; longer ones are cut."""

_FAILED = {"timed_out": "timeout", "lost": "error"}
_RESULTS: dict[type, str] = {
    e.TaskCompleted: "success",
    e.WorkflowCompleted: "success",
    e.TaskCancelled: "cancellation",
    e.WorkflowCancelled: "cancellation",
    e.TaskExpired: "timeout",
    e.TaskSkipped: "skip",
}


def sorted_attributes(values: dict[str, Value | None]) -> Attributes:
    """The attributes that have a value, sorted by name."""
    return tuple(sorted((name, value) for name, value in values.items() if value is not None))


def task_attributes(event: Event) -> dict[str, Value | None]:
    """What all spans of a task have in common."""
    return {
        "hub.namespace": event.namespace,
        "hub.root_run.id": event.rootid or event.subject,
        "hub.run.id": event.run,
        "hub.task.id": event.subject,
        "hub.task.name": event.taskname,
    }


def event_attributes(event: Event) -> dict[str, Value | None]:
    """The event from which a span or log record was made."""
    return {
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_spec_version": "1.0",
        "cloudevents.event_subject": event.subject,
        "cloudevents.event_type": event.type,
    }


def process_attributes(event: Event, queue: str) -> dict[str, Value | None]:
    """An attempt as the processing of a message: the queue of the hub is its destination, the task the message."""
    return {
        "messaging.destination.name": queue,
        "messaging.message.conversation_id": event.correlationid or event.rootid or event.subject,
        "messaging.message.id": event.subject,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "hub",
    }


def result_of(data: Any) -> str:
    """The result of a task, from its terminal event: success, failure, error (of the system, not of the task), timeout,
    cancellation or skip."""
    found = _RESULTS.get(type(data))
    if found is not None:
        return found
    if type(data) is e.WorkflowFailed:
        return "timeout" if data.error.type == "TimedOut" else "failure"
    return _FAILED.get(data.kind, "failure")


def error_of(data: Any) -> tuple[str, str] | None:
    """The type and the message of the error in an event; None if it is not a failure."""
    error = getattr(data, "error", None)
    if isinstance(error, TaskError):
        return error.type, cut(error.message)
    match data:
        case e.AttemptTimedOut():
            return "AttemptTimedOut", f"the attempt exceeded its timeout of {data.timeout_seconds:g} s"
        case e.AttemptLeaseExpired():
            return "WorkerLost", f"no heartbeat for {data.lease_seconds:g} s"
        case e.AttemptLost():
            return "WorkerLost", cut(data.reason)
        case e.TaskExpired():
            return "TaskExpired", cut(data.reason)
    return None


def cut(text: str) -> str:
    """The beginning of a text, of at most MESSAGE_CHARACTERS_MAX characters."""
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
