"""Facts about an event in the same terms for every type: its times, its error, the result of its task, tags and the name of a
metric for it. The only place where errors and results are derived: spans, metrics, figures and texts use it.

Pure functions of one event, so that handlers of all events need no table of types.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from schemas import Event, TaskError

ErrorCategory = Literal["failure", "timeout", "system", "dependency", "rejection"]
"""failure: the task's own code failed; timeout: it took too long, or started too late; system: a worker, the engine or a
subscriber failed; dependency: a step that it depends on failed; rejection: a submission or report was rejected."""

TaskResult = Literal["success", "failure", "error", "timeout", "cancellation", "skip"]
"""The result of a task or workflow, in the terms of OpenTelemetry's CI/CD conventions: failure is the task's fault, error that of
the system; skip: it did not run because of a step that it depends on, also if it is therefore `failed`."""

TOTAL_TIMEOUT = "TimedOut"
"""The type of the error of a task or workflow that exceeded its total timeout."""

METRIC_PREFIX = "hub."
_TIMES = ("created_at", "scheduled_at", "ready_at", "dispatched_at", "started_at", "finished_at")


class Timing(NamedTuple):
    """The times of a task up to an event; None where the event does not say it. `at`: when the event happened.

    Times are in UTC, durations in seconds and at least 0. `waited_seconds`: from ready to the start of the attempt;
    `ran_seconds`: of the attempt, by the worker's clock if it is known; `total_seconds`: from the creation to the end."""

    at: datetime | None
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    ready_at: datetime | None = None
    dispatched_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ran_by_worker_seconds: float | None = None

    @property
    def waited_seconds(self) -> float | None:
        """From ready to the start of the attempt."""
        return _seconds(self.ready_at, self.started_at)

    @property
    def ran_seconds(self) -> float | None:
        """From the start of the attempt to its end."""
        if self.ran_by_worker_seconds is not None:
            return self.ran_by_worker_seconds
        return _seconds(self.started_at, self.finished_at)

    @property
    def total_seconds(self) -> float | None:
        """From the creation of the task to its end."""
        return _seconds(self.created_at, self.finished_at)


def timing_of(event: Event) -> Timing:
    """The times in an event."""
    data = event.data
    times = {name: _time(getattr(data, name, None)) for name in _TIMES}
    return Timing(_time(event.time), **times, ran_by_worker_seconds=getattr(data, "ran_seconds", None))


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    try:
        return None if start is None or end is None else max(0.0, (end - start).total_seconds())
    except TypeError:  # only one has a time zone
        return None


class EventError(NamedTuple):
    """The error in an event. `type`: of low cardinality, such as the name of an exception's class."""

    type: str
    message: str
    category: ErrorCategory


def error_of(event: Event) -> EventError | None:
    """The error that an event is about; None if it is about none (a cancelled or skipped task is not an error)."""
    rule = _ERRORS.get(event.type)
    return None if rule is None else rule(event.data)


def exception_of(data: Any) -> TaskError | None:
    """The exception that the data of an event has as its field `error`, or None."""
    error = data.get("error") if isinstance(data, Mapping) else getattr(data, "error", None)
    return error if isinstance(error, TaskError) else None


def result_of(event: Event) -> TaskResult | None:
    """The result of a terminal event; None for other events."""
    if event.type == "task.failed":
        return _FAILED.get(event.data.kind, "failure")
    if event.type == "workflow.failed":
        return "timeout" if event.data.error.type == TOTAL_TIMEOUT else "failure"
    return _RESULTS.get(event.type)


_FAILED: dict[str, TaskResult] = {"timed_out": "timeout", "lost": "error", "dependency_failed": "skip"}
_RESULTS: dict[str, TaskResult] = {
    "task.completed": "success",
    "task.cancelled": "cancellation",
    "task.expired": "timeout",
    "task.skipped": "skip",
    "workflow.completed": "success",
    "workflow.cancelled": "cancellation",
}

_FAILURES: dict[str, ErrorCategory] = {"timed_out": "timeout", "lost": "system", "dependency_failed": "dependency"}
_CAUSES: dict[str, ErrorCategory] = {"timeout": "timeout", "lost": "system"}


def _with_error(error: TaskError | None, category: ErrorCategory, type: str = "", message: str = "") -> EventError:
    return EventError(type, message, category) if error is None else EventError(error.type, error.message, category)


def _retry(data: Any) -> EventError:
    category = _CAUSES.get(data.cause, "failure")
    return _with_error(data.error, category, {"timeout": "AttemptTimedOut", "lost": "WorkerLost"}.get(data.cause, ""))


def _workflow_failed(data: Any) -> EventError:
    return _with_error(data.error, "timeout" if data.error.type == TOTAL_TIMEOUT else "failure")


_ERRORS: dict[str, Callable[[Any], EventError]] = {
    "task.failed": lambda data: _with_error(data.error, _FAILURES.get(data.kind, "failure")),
    "task.retry_scheduled": _retry,
    "task.expired": lambda data: EventError("Expired", data.reason, "timeout"),
    "task.rejected": lambda data: EventError(data.code, data.reason, "rejection"),
    "attempt.failed": lambda data: _with_error(data.error, "failure"),
    "attempt.timed_out": lambda data: EventError(
        "AttemptTimedOut", f"the attempt exceeded its timeout of {data.timeout_seconds:g} s", "timeout"
    ),
    "attempt.lease_expired": lambda data: EventError("WorkerLost", f"no heartbeat for {data.lease_seconds:g} s", "system"),
    "attempt.lost": lambda data: EventError("WorkerLost", data.reason, "system"),
    "attempt.superseded": lambda data: EventError("NotStarted", f"not started for {data.start_seconds:g} s", "system"),
    "attempt.report_rejected": lambda data: EventError(data.code, data.reason, "rejection"),
    "workflow.failed": _workflow_failed,
    "worker.lost": lambda data: EventError("WorkerLost", data.reason, "system"),
    "engine.report_dead_lettered": lambda data: EventError("ReportDeadLettered", data.reason, "system"),
    "engine.timer_dead_lettered": lambda data: EventError("TimerDeadLettered", data.reason, "system"),
    "subscriber.failing": lambda data: EventError("SubscriberFailing", data.error, "system"),
    "subscriber.unavailable": lambda data: EventError("SubscriberUnavailable", data.reason, "system"),
    "subscriber.dead_lettered": lambda data: EventError("EventsDeadLettered", data.error, "system"),
}


def tags_of(event: Event) -> dict[str, str]:
    """Tags of low cardinality for metrics and alerts: `type`, and where they are known `namespace`, `task`, `queue`,
    `result` (the state in which a task ended), `error` and `error_category`; no ids.

    The submitter's own tags and the keys of steps are in the event's data, not here: their values may be unbounded."""
    data, error = event.data, error_of(event)
    tags: dict[str, str | None] = {
        "type": event.type,
        "namespace": event.namespace,
        "task": event.taskname,
        "queue": getattr(data, "queue", None),
        "result": event.to_state if hasattr(data, "finished_at") else None,
        "error": error.type if error is not None else None,
        "error_category": error.category if error is not None else None,
    }
    return {name: value for name, value in tags.items() if value}


def metric_name_of(event: Event) -> str:
    """The name of a counter for events of this type: `hub.task.failed`."""
    return METRIC_PREFIX + event.type
