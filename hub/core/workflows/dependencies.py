"""Dependencies: the first state of a new task, and the effect of an ended task on its dependents."""

from schemas import Dependency, TaskError
from schemas import events as e

from ..changes import Changes
from ..state import Task
from ..tasks.endings import failed, skipped, waited_since
from ..times import text_of, us_of_seconds

#: Most ids in an event; its count is always exact.
NAMED_MAX = 100


SATISFIED_BY: dict[str, frozenset[str]] = {
    "success": frozenset({"completed"}),
    "failure": frozenset({"failed", "expired"}),
    "ended": frozenset({"completed", "failed", "cancelled", "expired", "skipped"}),
}


def place(changes: Changes, task: Task) -> None:
    """Set the first state of a new task: blocked, scheduled, ready, or ended if it can never run."""
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
    """Make a task ready, or scheduled if its start time is in the future."""
    row = task.row
    start = row.start_after
    if start is not None and row.scheduled_at is None:
        at = text_of(changes.now_us + us_of_seconds(start)) if isinstance(start, int | float) else start
        changes.apply(task, e.TaskScheduled(start_after=at, waited_since=waited_since(row)))
        return
    changes.apply(task, e.TaskReady(queue=row.queue, priority=row.priority, waited_since=waited_since(row)))
    if row.root is not None:
        changes.steps_ready.setdefault(row.root, []).append(row.key or task.id)


def can_never_run(changes: Changes, task: Task, before: Task, dependency: Dependency) -> None:
    """End `task`, because the end of `before` does not satisfy its dependency."""
    name, state = before.row.key or before.id, before.row.state
    if dependency.on == "success" and state in ("failed", "expired"):
        error = TaskError(type="DependencyFailed", message=f"{name} ended {state}", retryable=False)
        changes.apply(task, failed(task.row, changes.now, "dependency_failed", error))
    else:
        reason = f"{name} ended {state}; needed: {dependency.on}"
        changes.apply(task, skipped(task.row, changes.now, reason, before.id))


def dependencies_met(changes: Changes, task_id: str, satisfied: list[str]) -> None:
    """Process met dependencies of a blocked task; it becomes ready when none is left."""
    task = changes.state.tasks[task_id]
    unmet = task.row.unmet - len(satisfied)
    assert unmet >= 0, f"{task_id} has {task.row.unmet} unmet dependencies and {len(satisfied)} were met"
    if unmet:
        data = e.TaskDependencySatisfied(unmet=unmet, count=len(satisfied), satisfied=satisfied[:NAMED_MAX])
        changes.apply(task, data)
    else:
        make_ready(changes, task)
