"""Cancels one task: at once if it is waiting, with a command if it is running."""

from schemas import events as e

from ..changes import Changes
from ..state import Task
from ..transitions import ACTIVE
from .endings import cancelled


def cancel_task(changes: Changes, task: Task, reason: str, by: str | None) -> None:
    """Cancel a task that is not a workflow."""
    row = task.row
    if row.state in ACTIVE:
        changes.apply(task, e.TaskCancelRequested(reason=reason, by=by, attempt=row.attempt))
        changes.cancel_command(task, reason)
    else:
        changes.apply(task, cancelled(row, changes.now, reason=reason, by=by))
