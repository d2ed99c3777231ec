"""Dependencies: where a new task goes, and what the end of a task means for those that depend on it."""

from schemas import Dependency, TaskError
from schemas import events as e

from ..changes import Changes
from ..state import Task
from ..tasks.endings import failed, skipped
from ..times import text_of, us_of_seconds

#: How many ids an event names at most; the count is exact.
NAMED_MAX = 100


SATISFIED_BY: dict[str, frozenset[str]] = {
    "success": frozenset({"completed"}),
    "failure": frozenset({"failed", "expired"}),
    "ended": frozenset({"completed", "failed", "cancelled", "expired", "skipped"}),
}


def place(changes: Changes, task: Task) -> None:
    """Where a task that was just created goes: blocked, scheduled, ready, or (if it can never run) its end."""
    unmet = 0
    for dependency in task.row.depends_on:
        before = changes.state.tasks.get(dependency.task)
        if before is None or not before.ended:
            unmet += 1
        elif before.row.state not in SATISFIED_BY[dependency.on]:
            can_never_run(changes, task, before, dependency)
            return
    if unmet:
        changes.apply(task, e.TaskBlocked(unmet=unmet))
    else:
        make_ready(changes, task)


def make_ready(changes: Changes, task: Task) -> None:
    """Nothing but time may still be missing."""
    row = task.row
    start = row.start_after
    if start is not None and row.scheduled_at is None:
        at = text_of(changes.now_us + us_of_seconds(start)) if isinstance(start, int | float) else start
        changes.apply(task, e.TaskScheduled(start_after=at))
        return
    changes.apply(task, e.TaskReady(queue=row.queue, priority=row.priority))
    if row.root is not None:
        changes.steps_ready.setdefault(row.root, []).append(row.key or task.id)


def can_never_run(changes: Changes, task: Task, before: Task, dependency: Dependency) -> None:
    """End `task`: `before` has ended in a way that its dependency does not accept."""
    name, state = before.row.key or before.id, before.row.state
    if dependency.on == "success" and state in ("failed", "expired"):
        error = TaskError(type="DependencyFailed", message=f"{name} ended {state}", retryable=False)
        changes.apply(task, failed(task.row, changes.now, "dependency_failed", error))
    else:
        reason = f"{name} ended {state}; needed: {dependency.on}"
        changes.apply(task, skipped(task.row, changes.now, reason, before.id))


def dependencies_met(changes: Changes, task_id: str, satisfied: list[str]) -> None:
    """The dependencies `satisfied` of a blocked task have been met: it is ready when none is left."""
    task = changes.state.tasks.get(task_id)
    if task is None or task.row.state != "blocked":
        return
    unmet = task.row.unmet - len(satisfied)
    assert unmet >= 0, f"{task_id} has {task.row.unmet} unmet dependencies and {len(satisfied)} were met"
    if unmet:
        data = e.TaskDependencySatisfied(unmet=unmet, count=len(satisfied), satisfied=satisfied[:NAMED_MAX])
        changes.apply(task, data)
    else:
        make_ready(changes, task)
