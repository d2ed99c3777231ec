"""Spans as a pure function of single events: no state, no clock. Replaying the log gives the same spans.

    task {name}               SERVER    the creation; parent of the others
    ├ wait {what}             INTERNAL  for a start time, dependencies or a retry
    ├ queue {queue}           INTERNAL  from ready to the start, per attempt, and per dispatch that did not start
    ├ attempt {name}          CONSUMER  per attempt, linked to the previous one; parent of the spans of the worker
    └ run {name}              INTERNAL  the whole run, from the creation to the end

A step's first span is a child of that of its root, which exists from the beginning; the root's run span is exported at its end.

Linked traces: attempts of a later period of a long run (`trace_period`) are first spans of the trace of that period, linked with
the task's first span; the span of their queue, in the trace of the task, is linked with them. A task that was submitted without
waiting for it (`trace_link`) has a trace of its own, whose first span is linked with `submit {name}` (PRODUCER), a child of the
submitting attempt; that is linked with the first span.
The ids are those of `schemas/tracing.py`. A span is made from the event that ends it.
"""

from typing import Any, NamedTuple

from schemas import CATALOGUE, TERMINAL_TYPES, Event
from schemas import events as e
from schemas.events.attempt import AttemptEnded
from schemas.events.base import Ended
from schemas.events.workflow import WorkflowEnded
from schemas.tracing import TraceContext, attempt_trace_of, context_of_event, parse_traceparent, span_id_of

from ..api import TOTAL_TIMEOUT, result_of
from .attributes import (
    Attributes,
    Value,
    error_attributes,
    event_attributes,
    process_attributes,
    sorted_attributes,
    task_attributes,
)
from .times import ns_of, ns_of_seconds

INTERNAL, SERVER, PRODUCER, CONSUMER = 1, 2, 4, 5
"""Kinds of spans, with their numbers in OTLP."""

_ACTIVE = ("dispatched", "running")
_WAITS = {"scheduled": "wait start", "blocked": "wait dependencies", "retrying": "wait retry"}
_ATTEMPT_RESULTS: dict[type, str] = {
    e.AttemptFailedEvent: "failure",
    e.AttemptTimedOut: "timeout",
    e.AttemptLeaseExpired: "error",
    e.AttemptLost: "error",
    e.AttemptCancelledEvent: "cancellation",
}
_NOT_STARTED: dict[type, str] = {e.AttemptReleasedEvent: "released", e.AttemptSuperseded: "superseded"}


class TaskSpan(NamedTuple):
    """A finished span. Ids are hexadecimal digits, times nanoseconds since the epoch. `links`: traces and ids of related
    spans. `error`: the message of a failure; None: the status is unset."""

    trace: str
    id: str
    parent: str | None
    flags: int
    name: str
    kind: int
    start: int
    end: int
    attributes: Attributes
    links: tuple[tuple[str, str], ...] = ()
    error: str | None = None


class _Task:
    """The task of an event, and what its spans have in common."""

    __slots__ = ("common", "context", "event", "flags")

    def __init__(self, event: Event, context: TraceContext) -> None:
        self.event = event
        self.context = context
        self.flags = int(context.flags, 16)
        self.common = task_attributes(event)

    def id_of(self, kind: Any, number: int = 0) -> str:
        return span_id_of(kind, self.event.subject, self.event.run, number)

    def child(self, span: str, name: str, kind: int, times: tuple[int, int], attributes: dict[str, Value | None]) -> TaskSpan:
        """A child of the task's first span; `attributes` are added to those of the task and of the event."""
        merged = {**self.common, **event_attributes(self.event), **attributes}
        start, end = times
        return TaskSpan(
            self.context.trace,
            span,
            self.id_of("task"),
            self.flags,
            name,
            kind,
            min(start, end),
            end,
            sorted_attributes(merged),
        )


class _Attempt(NamedTuple):
    """An attempt that has ended, from one of the events that end it."""

    number: int
    data: Any
    result: str
    end: int

    def start(self, *, started: bool) -> int:
        """When its body started. The engine learns of the start some time later: with the end at the latest, so that the run time
        measured by the worker may say more. Without a start: when it was dispatched."""
        dispatched = self.end if self.data.dispatched_at is None else ns_of(self.data.dispatched_at)
        if not started or self.data.started_at is None:
            return min(dispatched, self.end)
        start = ns_of(self.data.started_at)
        ran = getattr(self.data, "ran_seconds", None)
        if ran is not None:
            start = min(start, self.end - ns_of_seconds(ran))
        return min(max(start, dispatched), self.end)


def spans_of(event: Event) -> list[TaskSpan]:
    """The spans that end with this event; none if its trace is not sampled. Raises ValueError if a time in the event is
    invalid."""
    if event.type not in SPAN_TYPES:
        return []
    context = context_of_event(event)
    if not context.sampled:
        return []
    task, data = _Task(event, context), event.data
    if isinstance(data, e.TaskCreated):
        return _anchors(task, ns_of(event.time))
    if isinstance(data, Ended):
        return [*_waits(task), *_last_attempt(task), _run(task)]
    if isinstance(data, AttemptEnded):
        return _attempt_ended(task)
    return _waits(task)


def anchors_of(event: Event) -> list[TaskSpan]:
    """The first span of a task, and that of its submission, from its terminal event: equal to those of its `task.created`."""
    return _anchors(_Task(event, context_of_event(event)), ns_of(event.data.created_at))


def _anchors(task: _Task, at: int) -> list[TaskSpan]:
    anchor, submitter = _anchor(task, at), parse_traceparent(task.event.data.trace_link)
    if submitter is None:
        return [anchor]
    submit, name = task.id_of("submit"), f"submit {task.event.taskname}"
    submission = anchor._replace(
        trace=submitter.trace,
        id=submit,
        parent=submitter.parent,
        flags=int(submitter.flags, 16),
        name=name,
        kind=PRODUCER,
        links=((anchor.trace, anchor.id),),
    )
    return [submission, anchor._replace(links=((submitter.trace, submit),))]


def _anchor(task: _Task, at: int) -> TaskSpan:
    data, context = task.event.data, task.context
    attributes = {
        **task.common,
        "hub.queue": data.queue,
        "hub.step.name": data.key,
        "hub.parent.id": data.parent_id,
    }
    name = f"task {task.event.taskname}"
    span = task.id_of("task")
    return TaskSpan(context.trace, span, context.parent, task.flags, name, SERVER, at, at, sorted_attributes(attributes))


def _waits(task: _Task) -> list[TaskSpan]:
    event = task.event
    since = event.data.waited_since
    if since is None or event.from_state not in _WAITS:
        return []
    times = ns_of(since), ns_of(event.time)
    return [task.child(task.id_of("wait", event.sequence), _WAITS[event.from_state], INTERNAL, times, {})]


def _attempt_ended(task: _Task) -> list[TaskSpan]:
    data, end = task.event.data, ns_of(task.event.time)
    outcome = _NOT_STARTED.get(type(data))
    if outcome is not None:
        attributes: dict[str, Value | None] = {"hub.dispatch.number": data.dispatch, "hub.dispatch.outcome": outcome}
        return [_queue(task, task.id_of("dispatch", data.dispatch), data, data.attempt, end, attributes)]
    attempt = _Attempt(data.attempt, data, _ATTEMPT_RESULTS[type(data)], end)
    return _attempt(task, attempt, started=data.started_at is not None)


def _last_attempt(task: _Task) -> list[TaskSpan]:
    """The attempt or the time in the queue that a terminal event ends. Failed attempts have an event of their own, before the
    terminal one; attempts that completed, or that the total timeout of the task ended, have none."""
    event, data = task.event, task.event.data
    end = ns_of(data.finished_at)
    if event.from_state == "ready" and data.ready_at is not None:
        number = data.attempt + 1
        return [_queue(task, task.id_of("queue", number), data, number, end, {})]
    total_timeout = isinstance(data, e.TaskFailed) and data.kind == "timed_out" and data.error.type == TOTAL_TIMEOUT
    if isinstance(data, e.TaskCompleted) or (total_timeout and event.from_state in _ACTIVE):
        started = event.from_state == "running"
        return _attempt(task, _Attempt(data.attempt, data, result_of(event) or "", end), started=started)
    return []


def _attempt(task: _Task, attempt: _Attempt, *, started: bool) -> list[TaskSpan]:
    data, number, start = attempt.data, attempt.number, attempt.start(started=started)
    error_type, message = error_attributes(task.event)
    attributes: dict[str, Value | None] = {
        **process_attributes(task.event, data.queue),
        "hub.attempt": number,
        "hub.queue": data.queue,
        "hub.result": attempt.result,
        "hub.worker.id": data.worker,
        "error.type": error_type,
    }
    name = f"attempt {task.event.taskname}"
    span = task.child(task.id_of("attempt", number), name, CONSUMER, (start, attempt.end), attributes)
    span = span._replace(error=message)
    queues = [] if data.ready_at is None else [_queue(task, task.id_of("queue", number), data, number, start, {})]
    trace = attempt_trace_of(task.event)
    if trace != span.trace:
        queues = [one._replace(links=((trace, span.id),)) for one in queues]
        return [*queues, span._replace(trace=trace, parent=None, links=((span.trace, task.id_of("task")),))]
    return [*queues, span._replace(links=((span.trace, task.id_of("attempt", number - 1)),) if number > 1 else ())]


def _queue(task: _Task, span: str, data: Any, number: int, end: int, more: dict[str, Value | None]) -> TaskSpan:
    start = end if data.ready_at is None else ns_of(data.ready_at)
    attributes = {"hub.attempt": number, "hub.queue": data.queue, **more}
    return task.child(span, f"queue {data.queue}", INTERNAL, (start, end), attributes)


def _run(task: _Task) -> TaskSpan:
    data = task.event.data
    error_type, message = error_attributes(task.event)
    attributes: dict[str, Value | None] = {
        "hub.attempt": data.attempt or None,
        "hub.max_attempts": data.max_attempts,
        "hub.queue": data.queue,
        "hub.result": result_of(task.event),
        "hub.step.name": data.key,
        "error.type": error_type,
    }
    if isinstance(data, WorkflowEnded):
        attributes["hub.steps.total"] = data.steps_total
        attributes["hub.steps.completed"] = data.completed
        attributes["hub.steps.failed"] = data.failed
    times = ns_of(data.created_at), ns_of(data.finished_at)
    span = task.child(task.id_of("run"), f"run {task.event.taskname}", INTERNAL, times, attributes)
    return span._replace(error=message)


SPAN_TYPES = frozenset(
    row.type
    for row in CATALOGUE.values()
    if row.type in TERMINAL_TYPES or issubclass(row.data, AttemptEnded | e.TaskCreated | e.TaskReady | e.TaskScheduled)
)
"""The event types from which spans are made."""
