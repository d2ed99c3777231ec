"""What an event says about the instruments of the catalogue: a pure function of one event.

Every event counts by its type. Ends of attempts and terminal events have all their times, so no earlier event is needed:
durations are right however late the subscriber is, and each attempt is measured once, by the event of its end (an attempt that is
cut off by the total timeout of its task: by `task.failed`).
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from schemas import Event

from ..api import TOTAL_TIMEOUT, error_of, result_of

#: Results that every known task has from its creation on, with the value 0, so that rates can be computed before the first one.
INITIAL_RESULTS = ("success", "failure", "error", "timeout")


class Measurement(NamedTuple):
    """A value for an instrument: an amount for a counter, a value for a histogram. `labels`: values in the order of the
    instrument's labels; empty: absent."""

    name: str
    labels: tuple[str, ...]
    value: float = 1


Measurements = Sequence[Measurement]


def measurements_of(event: Event) -> Measurements:
    """The measurements of an event of any type. Times that are missing or malformed are not measured; a duration below 0, which
    clocks that were set back can cause, is 0."""
    published = Measurement("hub.events.published", (event.type,))
    rule = _RULES.get(event.type)
    return (published,) if rule is None else (published, *rule(event, event.data))


def initial_measurements(first: Measurement) -> Measurements:
    """Measurements of 0 that follow from the first measurement of a series."""
    if first.name != "hub.task.created":
        return ()
    return [Measurement("hub.task.results", (*first.labels, result), 0) for result in INITIAL_RESULTS]


def seconds_between(start: str | None, end: str | None) -> float | None:
    """The duration between two RFC 3339 times, in seconds, at least 0; None if one is missing or malformed."""
    if start is None or end is None:
        return None
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except (ValueError, TypeError):  # TypeError: only one has a time zone
        return None


# Tasks and workflows


def _task(event: Event) -> tuple[str, str]:
    return event.namespace or "", event.taskname or ""


def _created(event: Event, data: Any) -> Measurements:
    return () if data.steps_total else (Measurement("hub.task.created", (*_task(event), data.queue)),)


def _error_type(event: Event) -> str:
    error = error_of(event)
    return "" if error is None else error.type


def _end(event: Event, data: Any) -> Measurements:
    """The end of a task."""
    task = (*_task(event), data.queue, result_of(event) or "")
    error_type = _error_type(event)
    seconds = seconds_between(data.created_at, data.finished_at)
    results = Measurement("hub.task.results", task)
    return (results,) if seconds is None else (results, Measurement("hub.task.run.duration", (*task, error_type), seconds))


def _completed(event: Event, data: Any) -> Measurements:
    attempt = _attempt(event, data, "success", ended=data.finished_at, ran_seconds=data.ran_seconds)
    return *_end(event, data), *attempt


def _failed(event: Event, data: Any) -> Measurements:
    end = _end(event, data)
    if data.kind != "timed_out" or data.error.type != TOTAL_TIMEOUT:
        return end
    timeout = Measurement("hub.task.timeouts", (*_task(event), "total"))
    if event.from_state != "running":
        return *end, timeout
    return *end, timeout, *_attempt(event, data, "timeout", ended=data.finished_at)


def _cancelled(event: Event, data: Any) -> Measurements:
    return *_end(event, data), Measurement("hub.task.cancellations", _task(event))


def _expired(event: Event, data: Any) -> Measurements:
    return *_end(event, data), Measurement("hub.task.timeouts", (*_task(event), "start"))


def _workflow_end(event: Event, data: Any) -> Measurements:
    seconds = seconds_between(data.created_at, data.finished_at)
    labels = (*_task(event), result_of(event) or "", _error_type(event))
    return () if seconds is None else (Measurement("hub.workflow.run.duration", labels, seconds),)


def _workflow_failed(event: Event, data: Any) -> Measurements:
    if data.error.type != TOTAL_TIMEOUT:
        return _workflow_end(event, data)
    timeout = Measurement("hub.task.timeouts", (*_task(event), "total"))
    return *_workflow_end(event, data), timeout


def _workflow_cancelled(event: Event, data: Any) -> Measurements:
    return *_workflow_end(event, data), Measurement("hub.task.cancellations", _task(event))


def _retry(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.task.retries", (*_task(event), data.cause)),)


# Attempts


def _attempt(event: Event, data: Any, outcome: str, *, ended: str, ran_seconds: float | None = None) -> Measurements:
    """The end of an attempt whose body ran: its outcome, run time, and wait before it."""
    task = (*_task(event), data.queue, outcome)
    found = [Measurement("hub.attempts", task)]
    between = seconds_between(data.started_at, ended)
    seconds = between if ran_seconds is None else max(0.0, ran_seconds)
    if seconds is not None and outcome != "lost":
        found.append(Measurement("hub.task.attempt.duration", (*task, _error_type(event)), seconds))
    wait = seconds_between(data.ready_at, data.started_at)
    if wait is not None:
        if not between and ran_seconds is not None:  # the start was not reported before the end: it was earlier by the run time
            wait = max(0.0, wait - ran_seconds)
        found.append(Measurement("hub.queue.wait.duration", (task[0], data.queue), wait))
    return found


def _attempt_failed(event: Event, data: Any) -> Measurements:
    return _attempt(event, data, "failure", ended=event.time, ran_seconds=data.ran_seconds)


def _attempt_timed_out(event: Event, data: Any) -> Measurements:
    attempt = _attempt(event, data, "timeout", ended=event.time, ran_seconds=data.timeout_seconds)
    return *attempt, Measurement("hub.task.timeouts", (*_task(event), "attempt"))


def _attempt_cancelled(event: Event, data: Any) -> Measurements:
    return _attempt(event, data, "cancellation", ended=event.time)


def _attempt_lost(event: Event, data: Any) -> Measurements:
    return _attempt(event, data, "lost", ended=event.time)


def _attempt_released(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.attempts", (*_task(event), data.queue, "released")),)


def _attempt_superseded(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.attempts", (*_task(event), data.queue, "superseded")),)


# Rejections, workers, the engine, alerts


def _rejected(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.task.rejections", (data.report, data.code)),)


def _deduplicated(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.task.deduplications", ()),)


def _report_rejected(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.attempt.rejections", (data.report, data.code)),)


def _worker_lost(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.worker.losses", (data.pool,)),)


def _report_dead_lettered(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.engine.dead_letters", ("report",)),)


def _timer_dead_lettered(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.engine.dead_letters", ("timer",)),)


def _alert(event: Event, data: Any) -> Measurements:
    return (Measurement("hub.alert.transitions", (data.rule, data.severity, event.type.removeprefix("alert."))),)


_RULES: dict[str, Callable[[Event, Any], Measurements]] = {
    "task.created": _created,
    "task.rejected": _rejected,
    "task.deduplicated": _deduplicated,
    "task.retry_scheduled": _retry,
    "task.completed": _completed,
    "task.failed": _failed,
    "task.cancelled": _cancelled,
    "task.expired": _expired,
    "task.skipped": _end,
    "attempt.failed": _attempt_failed,
    "attempt.timed_out": _attempt_timed_out,
    "attempt.lease_expired": _attempt_lost,
    "attempt.lost": _attempt_lost,
    "attempt.cancelled": _attempt_cancelled,
    "attempt.released": _attempt_released,
    "attempt.superseded": _attempt_superseded,
    "attempt.report_rejected": _report_rejected,
    "workflow.completed": _workflow_end,
    "workflow.failed": _workflow_failed,
    "workflow.cancelled": _workflow_cancelled,
    "worker.lost": _worker_lost,
    "engine.report_dead_lettered": _report_dead_lettered,
    "engine.timer_dead_lettered": _timer_dead_lettered,
    "alert.fired": _alert,
    "alert.resolved": _alert,
    "alert.silenced": _alert,
}
"""The rules by event type. Other types are only counted."""
