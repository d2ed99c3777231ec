"""The consequences of ended tasks: dependent tasks become ready or are ended, workflows progress and end, waiting clients get
replies, and ended tasks leave memory. Runs at the end of a batch until no consequence is left.
"""

from schemas import events as e

from .changes import Changes
from .state import Task
from .tasks.replies import answer_waiters
from .tasks.retirement import retire, retire_later
from .workflows.dependencies import NAMED_MAX, SATISFIED_BY, can_never_run, dependencies_met
from .workflows.progress import count_steps


def settle(changes: Changes) -> None:
    """Process the consequences of tasks that ended in this batch: 1. dependents, 2. readiness, 3. workflows; repeated while
    tasks end."""
    if not (changes.ended or changes.met or changes.counted or changes.steps_ready):
        return
    while changes.ended or changes.met or changes.counted:
        while changes.ended:
            _follow_end(changes, changes.ended.pop(0))
        for task_id, satisfied in list(changes.met.items()):
            del changes.met[task_id]
            dependencies_met(changes, task_id, satisfied)
        if changes.ended:
            continue
        for root_id in list(changes.counted):
            count_steps(changes, root_id)
    for root_id, steps in changes.steps_ready.items():
        root = changes.state.tasks.get(root_id)
        if len(steps) > 1 and root is not None and root.row.state == "running":
            changes.apply(root, e.WorkflowStepsReady(count=len(steps), steps=steps[:NAMED_MAX]))
    changes.steps_ready.clear()


def _follow_end(changes: Changes, task: Task) -> None:
    answer_waiters(changes, task)
    for dependent_id, dependency in changes.state.dependents.pop(task.id, ()):
        dependent = changes.state.tasks.get(dependent_id)
        if dependent is None or dependent.row.state != "blocked":
            continue
        if task.row.state in SATISFIED_BY[dependency.on]:
            changes.met.setdefault(dependent_id, []).append(task.id)
        else:
            changes.met.pop(dependent_id, None)
            can_never_run(changes, dependent, task, dependency)
    if task.row.root is not None:
        counts = changes.counted.setdefault(task.row.root, {})
        counts[task.row.state] = counts.get(task.row.state, 0) + 1
    else:
        retire(changes, task)
        if task.children:
            retire_later(changes, task.id, task.children)
