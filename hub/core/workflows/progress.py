"""The progress of workflows: counters and end."""

from msgspec import Raw

from schemas import TaskError
from schemas import events as e

from ..changes import Changes
from ..state import Task
from ..tasks.endings import workflow_cancelled, workflow_completed, workflow_failed
from .dependencies import NAMED_MAX

#: Terminal states, which are also the names of the counters of a workflow.
_COUNTERS = ("completed", "failed", "cancelled", "skipped", "expired")


def count_steps(changes: Changes, root_id: str) -> None:
    """Add the steps that ended in this batch to the counters of their workflow, and end the workflow if all have ended."""
    ended = changes.counted.pop(root_id)
    root = changes.state.tasks.get(root_id)
    if root is None or root.ended:
        return
    row = root.row
    counts = {name: getattr(row.steps, name) + ended.get(name, 0) for name in _COUNTERS}
    over = sum(counts.values())
    if over == (row.steps.total if row.cancel is None else len(root.children or ())):
        _end_workflow(changes, root, counts)
    elif ended:
        changes.apply(root, e.WorkflowProgressed(steps_total=row.steps.total, planned=row.steps.planned, **counts))


def _end_workflow(changes: Changes, root: Task, counts: dict[str, int]) -> None:
    row = root.row
    steps = [changes.state.tasks[child] for child in root.children or ()]
    if row.cancel is not None and row.cancel.timed_out:
        error = TaskError(type="TimedOut", message=row.cancel.reason, retryable=False)
        changes.apply(root, workflow_failed(row, changes.now, counts, error, []))
        return
    if row.cancel is not None:
        changes.apply(root, workflow_cancelled(row, changes.now, counts))
        return
    handled = {entry.task for step in steps for entry in step.row.depends_on if entry.on == "failure"}
    failures = [step for step in steps if step.row.state in ("failed", "expired", "cancelled") and step.id not in handled]
    if not failures:
        inner = {entry.task for step in steps for entry in step.row.depends_on}
        results = (
            (step.row.key or step.id, step.result or Raw(b"null"))
            for step in steps
            if step.id not in inner and step.row.state == "completed"
        )
        changes.apply(root, workflow_completed(row, changes.now, counts, results))
        return
    first = [step for step in failures if not (step.row.error and step.row.error.type == "DependencyFailed")] or failures
    names = [step.row.key or step.id for step in first]
    error = first[0].row.error or TaskError(type="StepNotCompleted", message=f"{names[0]} ended {first[0].row.state}")
    message = f"step {names[0]}: {error.message}"
    error = TaskError(type=error.type, message=message, retryable=False, fingerprint=error.fingerprint)
    changes.apply(root, workflow_failed(row, changes.now, counts, error, names[:NAMED_MAX]))
