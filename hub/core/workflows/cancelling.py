"""Cancels workflows, step by step in slices."""

from schemas import events as e

from ..changes import Changes
from ..state import Task
from ..tasks.cancelling import cancel_task
from .expansion import SLICE


def request_cancel(changes: Changes, task: Task, reason: str, by: str | None, *, timed_out: bool = False) -> None:
    """Cancel a task, or a workflow with all its steps. `timed_out`: its total timeout expired, so it ends as failed."""
    if task.children is None:
        cancel_task(changes, task, reason, by)
        return
    if task.plan is not None:
        changes.state.planned -= len(task.plan.order) - task.row.steps.planned  # no more steps are created
    changes.apply(task, e.TaskCancelRequested(reason=reason, by=by, timed_out=timed_out))
    changes.state.agenda.add(changes.now_us, "cancel", task.id)


def cancel_steps(changes: Changes, root: Task, mark: int) -> None:
    """Cancel the next slice of the steps of a workflow, in order of creation; `mark` is the position."""
    children, asked = root.children or [], root.row.cancel
    assert asked is not None, "the workflow must have a cancel request"
    for child in children[mark : mark + SLICE]:
        step = changes.state.tasks[child]
        if not step.ended and step.row.cancel is None:
            cancel_task(changes, step, asked.reason, asked.by)
    if mark + SLICE < len(children):
        changes.state.agenda.add(changes.now_us, "cancel", root.id, mark + SLICE)
    changes.counted.setdefault(root.id, {})  # if all steps have already ended, nothing else triggers the end of the workflow
