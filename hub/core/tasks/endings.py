"""The data of terminal events, built from the row of the task: everything that a stateless subscriber needs. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from msgspec import Raw, json

from schemas import TaskError
from schemas import events as e
from schemas import reports as r
from schemas.tasks import INLINE_RESULTS_BYTES_MAX

from ..rows import TaskRow
from ..rows.task import Cancel
from .policy import policy_of

FailedKind = Literal["permanent", "exhausted", "timed_out", "lost", "dependency_failed"]


Ended = TypeVar("Ended", bound=e.Ended)


def waited_since(row: TaskRow) -> str | None:
    """When the task began to wait for its start time, its dependencies or its next attempt; None if it does not."""
    match row.state:
        case "scheduled":
            return row.scheduled_at
        case "blocked":
            return row.created_at
        case "retrying":
            return row.retrying_at
    return None


def _described(data: Ended, row: TaskRow) -> Ended:
    """Add to a terminal event what all of them say of the task; few tasks have the fields with a condition."""
    data.ready_at, data.dispatched_at, data.started_at = row.ready_at, row.dispatched_at, row.started_at
    data.attempt, data.max_attempts, data.queue = row.attempt, policy_of(row).max_attempts, row.queue
    if row.lease is not None:
        data.worker = row.lease.worker
    if row.scheduled_at is not None:
        data.scheduled_at = row.scheduled_at
    if row.parent is not None:
        data.parent_id = row.parent
    if row.trace_link is not None:
        data.trace_link = row.trace_link
    if row.key is not None:
        data.key = row.key
    if row.tags:
        data.tags = row.tags
    if row.lease is None:
        data.waited_since = waited_since(row)
    return data


def completed(row: TaskRow, now: str, report: r.AttemptCompleted) -> e.TaskCompleted:
    """`task.completed`. `started_at` is now if the start was not reported before the end (the task was shorter than the
    worker's linger)."""
    data = e.TaskCompleted(
        result=report.result, ran_seconds=report.ran_seconds, created_at=row.created_at, finished_at=now, number=report.number
    )
    _described(data, row)
    if row.state == "dispatched":
        data.started_at = now
    return data


def failed(row: TaskRow, now: str, kind: FailedKind, error: TaskError, *, began: bool = False, number: int = 0) -> e.TaskFailed:
    """The end without success. `began`: a report says that the body ran; `started_at` is then as in `completed`. `number`: of the
    report that caused it."""
    data = e.TaskFailed(kind=kind, error=error, created_at=row.created_at, finished_at=now, number=number)
    _described(data, row)
    if began and row.state == "dispatched":
        data.started_at = now
    return data


def cancelled(row: TaskRow, now: str, *, reason: str | None = None, by: str | None = None) -> e.TaskCancelled:
    """`task.cancelled`. `reason` and `by` default to those of the cancel request."""
    asked = row.cancel or Cancel()
    if reason is None:
        reason, by = asked.reason, asked.by
    return _described(e.TaskCancelled(reason=reason, by=by, created_at=row.created_at, finished_at=now), row)


def expired(row: TaskRow, now: str, reason: str) -> e.TaskExpired:
    """`task.expired`: not started before the deadline."""
    return _described(e.TaskExpired(reason=reason, created_at=row.created_at, finished_at=now), row)


def skipped(row: TaskRow, now: str, reason: str, dependency: str) -> e.TaskSkipped:
    """`task.skipped`: the task can never run."""
    data = e.TaskSkipped(reason=reason, dependency=dependency, created_at=row.created_at, finished_at=now)
    return _described(data, row)


def _counts(row: TaskRow, now: str, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"created_at": row.created_at, "finished_at": now, "steps_total": row.steps.total, **counts}


def workflow_completed(
    row: TaskRow, now: str, counts: Mapping[str, int], results: Iterable[tuple[str, Raw]]
) -> e.WorkflowCompleted:
    """`workflow.completed`. `results`: (key, result) of the last steps; null if they are too large together."""
    gathered: dict[str, Raw] = {}
    size = 0
    for key, result in results:
        size += len(bytes(result)) + len(key) + 4
        if size > INLINE_RESULTS_BYTES_MAX:
            gathered = {}
            break
        gathered[key] = result
    result = Raw(json.encode(gathered)) if gathered else Raw(b"null")
    return _described(e.WorkflowCompleted(result=result, **_counts(row, now, counts)), row)


def workflow_failed(
    row: TaskRow, now: str, counts: Mapping[str, int], error: TaskError, failed_steps: list[str]
) -> e.WorkflowFailed:
    """`workflow.failed`: at least one step failed, and no other step handles the failure."""
    return _described(e.WorkflowFailed(error=error, failed_steps=failed_steps, **_counts(row, now, counts)), row)


def workflow_cancelled(row: TaskRow, now: str, counts: Mapping[str, int]) -> e.WorkflowCancelled:
    """`workflow.cancelled`: cancelled, and no step is running."""
    asked = row.cancel or Cancel()
    return _described(e.WorkflowCancelled(reason=asked.reason, by=asked.by, **_counts(row, now, counts)), row)
