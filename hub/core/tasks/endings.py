"""The data of terminal events, built from the row of the task: everything that a stateless subscriber needs. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Raw, json

from schemas import TaskError
from schemas import events as e
from schemas import reports as r
from schemas.tasks import INLINE_RESULTS_BYTES_MAX

from ..rows import TaskRow
from ..rows.task import Cancel
from .policy import policy_of

FailedKind = Literal["permanent", "exhausted", "timed_out", "lost", "dependency_failed"]


def _ended(row: TaskRow, now: str, *, number: int = 0) -> dict[str, Any]:
    return {
        "created_at": row.created_at,
        "finished_at": now,
        "scheduled_at": row.scheduled_at,
        "ready_at": row.ready_at,
        "dispatched_at": row.dispatched_at,
        "started_at": row.started_at,
        "attempt": row.attempt,
        "max_attempts": policy_of(row).max_attempts,
        "queue": row.queue,
        "worker": row.lease.worker if row.lease is not None else None,
        "parent_id": row.parent,
        "key": row.key,
        "tags": row.tags,
        "number": number,
    }


def completed(row: TaskRow, now: str, report: r.AttemptCompleted) -> e.TaskCompleted:
    """`task.completed`. `started_at` is now if the start was not reported before the end (the task was shorter than the
    worker's linger)."""
    data = e.TaskCompleted(result=report.result, ran_seconds=report.ran_seconds, **_ended(row, now, number=report.number))
    if row.state == "dispatched":
        data.started_at = now
    return data


def failed(row: TaskRow, now: str, kind: FailedKind, error: TaskError, *, began: bool = False, number: int = 0) -> e.TaskFailed:
    """The end without success. `began`: a report says that the body ran; `started_at` is then as in `completed`. `number`: of the
    report that caused it."""
    data = e.TaskFailed(kind=kind, error=error, **_ended(row, now, number=number))
    if began and row.state == "dispatched":
        data.started_at = now
    return data


def cancelled(row: TaskRow, now: str, *, reason: str | None = None, by: str | None = None) -> e.TaskCancelled:
    """`task.cancelled`. `reason` and `by` default to those of the cancel request."""
    asked = row.cancel or Cancel()
    return e.TaskCancelled(
        reason=asked.reason if reason is None else reason, by=by if reason is not None else asked.by, **_ended(row, now)
    )


def expired(row: TaskRow, now: str, reason: str) -> e.TaskExpired:
    """`task.expired`: not started before the deadline."""
    return e.TaskExpired(reason=reason, **_ended(row, now))


def skipped(row: TaskRow, now: str, reason: str, dependency: str) -> e.TaskSkipped:
    """`task.skipped`: the task can never run."""
    return e.TaskSkipped(reason=reason, dependency=dependency, **_ended(row, now))


def _counts(row: TaskRow, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"steps_total": row.steps.total, **counts}


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
    return e.WorkflowCompleted(result=result, **_ended(row, now), **_counts(row, counts))


def workflow_failed(
    row: TaskRow, now: str, counts: Mapping[str, int], error: TaskError, failed_steps: list[str]
) -> e.WorkflowFailed:
    """`workflow.failed`: at least one step failed, and no other step handles the failure."""
    return e.WorkflowFailed(error=error, failed_steps=failed_steps, **_ended(row, now), **_counts(row, counts))


def workflow_cancelled(row: TaskRow, now: str, counts: Mapping[str, int]) -> e.WorkflowCancelled:
    """`workflow.cancelled`: cancelled, and no step is running."""
    asked = row.cancel or Cancel()
    return e.WorkflowCancelled(reason=asked.reason, by=asked.by, **_ended(row, now), **_counts(row, counts))
