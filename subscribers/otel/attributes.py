"""Attributes of spans and log records, by name. Only facts of the event: no clock, host or process, so that they are the same at
each export. Arguments and results are never exported.

Sources: OpenTelemetry semantic conventions 1.44 for `messaging.*`, `cloudevents.*`, `error.type` and `exception.*`; `hub.result`
has the values of `cicd.pipeline.result`.
"""

from schemas import Event

from ..api import error_of

Value = str | int | float | bool
Attributes = tuple[tuple[str, Value], ...]

MESSAGE_CHARACTERS_MAX = 1024
"""Length of error messages and reasons in characters; longer ones are cut."""


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


def error_attributes(event: Event) -> tuple[str | None, str | None]:
    """The type of the event's error, and its message; None if it is about no error."""
    found = error_of(event)
    return (None, None) if found is None else (found.type, cut(found.message))


def cut(text: str) -> str:
    """The beginning of a text, of at most MESSAGE_CHARACTERS_MAX characters."""
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
