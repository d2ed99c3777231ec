"""What one event says about the performance of tasks: a pure function of the event.

Ends of tasks and of attempts have all their times, so no earlier event is needed, and each attempt counts once. The words for
results are those of the metrics (`schemas/instruments.py`).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from schemas import Event
from subscribers import TOTAL_TIMEOUT, error_of, result_of, timing_of

FactKind = Literal["created", "ended", "attempt", "workflow"]
WASTED = ("failure", "timeout", "lost", "cancellation")
"""Outcomes of attempts whose work was wasted."""

_OUTCOMES = {
    "attempt.failed": "failure",
    "attempt.timed_out": "timeout",
    "attempt.cancelled": "cancellation",
    "attempt.lease_expired": "lost",
    "attempt.lost": "lost",
    "attempt.released": "released",
    "attempt.superseded": "superseded",
}


class TaskFact(NamedTuple):
    """One thing to count. `result`: of an end or an attempt; `error`: type of the error.

    `wait_seconds`: from ready to the start of the body; `run_seconds`: of the body; `total_seconds`: from creation to
    end; None if unknown."""

    kind: FactKind
    name: str
    queue: str
    result: str = ""
    error: str = ""
    wait_seconds: float | None = None
    run_seconds: float | None = None
    total_seconds: float | None = None


def facts_of(event: Event) -> tuple[TaskFact, ...]:
    """What the event says; nothing for most types."""
    rule = _RULES.get(event.type)
    return () if rule is None else rule(event)


def _name(event: Event) -> str:
    return event.taskname or ""


def _error(event: Event) -> str:
    error = error_of(event)
    return "" if error is None else error.type


def _created(event: Event) -> tuple[TaskFact, ...]:
    return () if event.data.steps_total else (TaskFact("created", _name(event), event.data.queue),)


def _ended(event: Event) -> tuple[TaskFact, ...]:
    end = TaskFact(
        "ended",
        _name(event),
        event.data.queue,
        result_of(event) or "",
        _error(event),
        total_seconds=timing_of(event).total_seconds,
    )
    if event.type == "task.completed":
        return end, _attempt_with(event, "success")
    cut_off = event.type == "task.failed" and event.data.error.type == TOTAL_TIMEOUT and event.from_state == "running"
    return (end, _attempt_with(event, "timeout")) if cut_off else (end,)


def _attempt(event: Event) -> tuple[TaskFact, ...]:
    return (_attempt_with(event, _OUTCOMES[event.type]),)


def _attempt_with(event: Event, outcome: str) -> TaskFact:
    name, queue = _name(event), event.data.queue
    if outcome in ("released", "superseded"):  # its body did not run
        return TaskFact("attempt", name, queue, outcome)
    timing = timing_of(event)
    if timing.finished_at is None:
        timing = timing._replace(finished_at=timing.at)
    wait, run = timing.waited_seconds, timing.ran_seconds
    unreported = timing.ran_by_worker_seconds is not None and timing.started_at == timing.finished_at
    if wait is not None and run is not None and unreported:  # the start arrived with the end: it was earlier by the run time
        wait = max(0.0, wait - run)
    return TaskFact("attempt", name, queue, outcome, _error(event), wait, None if outcome == "lost" else run)


def _workflow(event: Event) -> tuple[TaskFact, ...]:
    total = timing_of(event).total_seconds
    return (TaskFact("workflow", _name(event), "", result_of(event) or "", _error(event), total_seconds=total),)


_RULES: dict[str, Callable[[Event], tuple[TaskFact, ...]]] = {
    "task.created": _created,
    **dict.fromkeys(("task.completed", "task.failed", "task.cancelled", "task.expired", "task.skipped"), _ended),
    **dict.fromkeys(_OUTCOMES, _attempt),
    **dict.fromkeys(("workflow.completed", "workflow.failed", "workflow.cancelled"), _workflow),
}
