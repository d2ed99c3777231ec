"""A notice: an event in the form that readers and alerting services need, independent of the service.

Rules: pure. `notice_of` gives a sensible notice for every event, also of a type that this release does not know.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from schemas import Event, one_line
from schemas.tasks import TaskError
from schemas.tracing import SpanKind, attempt_trace_of, span_id_of

from ..api import exception_of
from ..text import summary_of
from .cutting import cut_characters
from .identity import field, group_of, is_only_a_recovery, key_of, kind_of
from .links import link_of

Severity = Literal["critical", "error", "warning", "info"]
Status = Literal["firing", "resolved"]

TITLE_CHARACTERS_MAX = 2000
LABEL_CHARACTERS_MAX = 255

_RULE_SEVERITIES: Mapping[str, Severity] = {
    "critical": "critical",
    "page": "critical",
    "fatal": "critical",
    "error": "error",
    "warning": "warning",
    "warn": "warning",
    "ticket": "warning",
    "info": "info",
}
_SEVERITY_NUMBERS: tuple[tuple[int, Severity], ...] = ((21, "critical"), (17, "error"), (13, "warning"), (0, "info"))
_ALERT_TYPES = frozenset({"alert.fired", "alert.resolved"})
_CRITICAL_TYPES = frozenset({"engine.timer_dead_lettered"})
"""Faults of the hub itself, which affect more than one task."""


class LinkTemplates(NamedTuple):
    """The templates of the links in a notice; empty: no link."""

    task: str = ""
    trace: str = ""


class Link(Struct, frozen=True):
    """A link with its text."""

    text: str
    href: str


class EventId(Struct, frozen=True):
    """What identifies an event: its CloudEvents source and id."""

    source: str
    id: str


class TraceIds(Struct, frozen=True):
    """The trace and the span of an event, as lower-case hexadecimal digits."""

    trace: str
    span: str


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`key`: the deduplication key; `group`: what a later event resolves, None if nothing does. `labels`: what all repetitions
    have in common; `details`: what they do not have in common, such as ids. `event_type`: of the failing event, also in a
    resolved notice. `event`: the event that fired or resolved it. Times are RFC 3339; all texts but `text`
    and `error` are on one line."""

    status: Status
    severity: Severity
    title: str
    text: str = ""
    key: str
    group: str | None = None
    labels: dict[str, str] = {}
    details: dict[str, str] = {}
    links: tuple[Link, ...] = ()
    started_at: str
    ended_at: str | None = None
    event_type: str
    event: EventId
    error: TaskError | None = None
    trace: TraceIds | None = None


def notice_of(event: Event, templates: LinkTemplates = LinkTemplates()) -> Notice:  # noqa: B008 (immutable)
    """The notice of an event: resolved if it resolves an alert and is not the end of a task or workflow, otherwise firing."""
    trace = trace_of(event)
    resolved = is_only_a_recovery(event)
    return Notice(
        status="resolved" if resolved else "firing",
        severity=severity_of(event),
        title=title_of(event),
        text=text_of(event),
        key=key_of(event),
        group=group_of(event),
        labels=labels_of(event),
        details=details_of(event),
        links=links_of(event, templates, trace),
        started_at=event.time,
        ended_at=event.time if resolved else None,
        event_type=event.type,
        event=EventId(event.source, event.id),
        error=exception_of(event.data),
        trace=trace,
    )


def resolution_of(fired: Notice, recovery: Event, templates: LinkTemplates = LinkTemplates()) -> Notice:  # noqa: B008 (immutable)
    """The notice that `recovery` resolved an alert: key, labels, title and severity of the alert, ids and links of `recovery`."""
    trace = trace_of(recovery)
    return replace(
        fired,
        status="resolved",
        text=f"Resolved by {recovery.type} of {one_line(recovery.subject)}.",
        details=details_of(recovery),
        links=links_of(recovery, templates, trace),
        ended_at=recovery.time,
        event=EventId(recovery.source, recovery.id),
        error=None,
        trace=trace,
    )


def severity_of(event: Event) -> Severity:
    """The severity: of the rule for alerts, else from the event's type and severity number (OpenTelemetry's)."""
    if event.type in _ALERT_TYPES and (named := _RULE_SEVERITIES.get(str(field(event, "severity")).lower())):
        return named
    if event.type in _CRITICAL_TYPES or (event.type == "engine.storage_changed" and field(event, "level") == "low"):
        return "critical"
    return next(severity for least, severity in _SEVERITY_NUMBERS if event.severitynumber >= least)


def title_of(event: Event) -> str:
    """What happened to what, without ids: "Task charge failed: CardError"."""
    kind, _, verb = event.type.partition(".")
    if kind == "alert":
        rule = f"Rule {field(event, 'rule') or event.subject} {verb}"
        return _line(str(field(event, "summary") or rule) if event.type in _ALERT_TYPES else rule)
    words = verb.replace("_", " ")
    if event.taskname is not None:
        error = exception_of(event.data)
        subject = f"Attempt of {event.taskname}" if kind == "attempt" else f"{kind.capitalize()} {event.taskname}"
        return _line(f"{subject} {words}" + (f": {error.type}" if error else ""))
    if kind == "worker":
        return _line(f"Worker of pool {field(event, 'pool') or '-'} {words}")
    if kind == "subscriber":
        return _line(f"Subscriber {event.subject} {words}")
    level = field(event, "level") if event.type == "engine.storage_changed" else None
    return _line(f"{kind.capitalize()}: {words}" + (f": {level}" if level else ""))


def text_of(event: Event) -> str:
    """The most important data of the event; empty if there is nothing to say."""
    if isinstance(event.data, Mapping):
        return one_line(
            ", ".join(f"{name}: {value}" for name, value in event.data.items() if isinstance(value, str | int | float))
        )
    return summary_of(event.data, characters_max=None)


def labels_of(event: Event) -> dict[str, str]:
    """What is common to all repetitions, by name; absent values are omitted."""
    error = exception_of(event.data)
    values = {
        **(field(event, "labels") or {}),
        "namespace": event.namespace,
        "task": event.taskname,
        "queue": field(event, "queue"),
        "error_type": error.type if error else None,
        "pool": field(event, "pool"),
        "level": field(event, "level"),
        "subscriber": event.subject if kind_of(event) == "subscriber" else None,
        "rule": field(event, "rule"),
        "key": field(event, "key") if kind_of(event) == "alert" else None,
    }
    return {name: cut_characters(one_line(str(value)), LABEL_CHARACTERS_MAX) for name, value in values.items() if value}


def details_of(event: Event) -> dict[str, str]:
    """Ids and numbers of this event, by name; absent values are omitted. The names differ from those of labels."""
    attempt, attempts_max = field(event, "attempt"), field(event, "max_attempts")
    values = {
        f"{event.entity.partition('/')[0]}_id": event.subject,
        "root_id": event.rootid,
        "correlation_id": event.correlationid,
        "attempt": f"{attempt} of {attempts_max}" if attempt and attempts_max else attempt,
        "worker": field(event, "worker"),
        "host": field(event, "host"),
        "tasks": ", ".join(field(event, "tasks") or ()),
        "event": f"{event.source} {event.id}",
    }
    return {name: _line(str(value)) for name, value in values.items() if value}


def links_of(event: Event, templates: LinkTemplates, trace: TraceIds | None) -> tuple[Link, ...]:
    """Links to the task and to its trace, as far as their templates are set and their values known."""
    values = {
        "task": event.subject
        if event.taskname is not None
        else field(event, "task") or next(iter(field(event, "tasks") or ()), None),
        "root": event.rootid or (event.subject if event.taskname is not None else None),
        "namespace": event.namespace,
        "name": event.taskname,
        "trace": trace.trace if trace else None,
    }
    found = (("Task", link_of(templates.task, values)), ("Trace", link_of(templates.trace, values)))
    return tuple(Link(text, href) for text, href in found if href)


def trace_of(event: Event) -> TraceIds | None:
    """The trace and the span that an event of a task belongs to, by the ids of exported spans; None for other events."""
    if event.taskname is None:
        return None
    attempt = field(event, "attempt")
    kind: SpanKind = "attempt" if isinstance(attempt, int) and attempt > 0 else "task"
    span = span_id_of(kind, event.subject, event.run, attempt if kind == "attempt" else 0)
    return TraceIds(attempt_trace_of(event), span)


def _line(text: str) -> str:
    return cut_characters(one_line(text), TITLE_CHARACTERS_MAX)
