"""Adds steps to a live workflow."""

from schemas import Submission, TaskSpec, step_id
from schemas import events as e

from ..changes import Changes, NewTask
from ..envelope import Envelope
from ..graph import check_plan, dependency_of
from ..indexes import root_of
from ..rejection import Rejection, TaskRejection
from ..state import PartitionState, Task
from ..workflows.expansion import step_data
from .outcomes import Admitted
from .resolve import resolve, warning_of
from .validity import added_steps, check_added


def admit_into(
    changes: Changes, submission: Submission, task: str, envelope: Envelope, fingerprint: str
) -> Admitted | TaskRejection:
    """Admit steps into a live workflow: one (the submission itself) or several (`tasks`)."""
    state, now_us, log_offset = changes.state, changes.now_us, changes.known.events_offset
    assert submission.root_id is not None
    root = state.tasks.get(submission.root_id)
    if root is None:
        if submission.root_id in state.ended:
            return Rejection("already_ended", f"root_id: workflow {submission.root_id!r} has ended")
        return Rejection("unknown_root", f"root_id: workflow {submission.root_id!r} does not exist")
    if root.children is None:
        return Rejection("unknown_root", f"root_id: {submission.root_id!r} is not a workflow")
    if root.ended or root.row.cancel is not None:
        return Rejection("already_ended", f"root_id: workflow {submission.root_id!r} is ending and accepts no more steps")
    steps = added_steps(submission, task)
    if isinstance(steps, Rejection):
        return steps
    checked = check_plan(steps, lambda name: _resolve(state, root, name) is not None)
    if isinstance(checked, Rejection):
        return checked
    if (problem := check_added(submission, checked.steps)) is not None:
        return problem
    added, found = [], []
    for key in checked.order:
        step = checked.steps[key]
        known = resolve(changes, root.row.namespace, step, f"tasks.{key}." if submission.tasks is not None else "")
        if isinstance(known, Rejection):
            return known
        found.append((step, known))
        child = step_id(root.id, key) if submission.tasks is not None else task
        if child in state.tasks or _resolve(state, root, key) is not None:
            return Rejection("id_conflict", f"tasks.{key}: the workflow already has a step with this key")
        data = step_data(
            step,
            root,
            key,
            known,
            now_us=now_us,
            log_offset=log_offset,
            resolve=lambda name: step_id(root.id, name) if name in steps else _resolve(state, root, name) or name,
        )
        if (twice := _named_twice(step, data)) is not None:
            return Rejection("invalid_input", f"tasks.{key}.depends_on: {twice!r} is listed twice, by its key and by its id")
        data.source, data.origin, data.created_by = envelope.source, envelope.forwarded_from, submission.created_by
        data.payload_hash = fingerprint
        if submission.idempotency_key is not None:
            data.idempotency_key, data.idempotency_window = submission.idempotency_key, submission.idempotency_window
        added.append(NewTask(child, root.id, root.row.namespace, root.row.correlation or root.id, data))
    return Admitted(added, root, warning_of(found))


def _named_twice(step: TaskSpec, data: e.TaskCreated) -> str | None:
    """The second name of a dependency of `step` with two names, or None. `data` has its dependencies as ids."""
    seen: set[str] = set()
    for entry, dependency in zip(step.depends_on, data.depends_on, strict=True):
        if dependency.task in seen:
            return dependency_of(entry).task
        seen.add(dependency.task)
    return None


def _resolve(state: PartitionState, root: Task, name: str) -> str | None:
    """The id of the task that `name` (a key or an id) refers to in a workflow, or None."""
    by_key = step_id(root.id, name)
    if _is_step(state, root, by_key) or (root.plan is not None and name in root.plan.steps):
        return by_key
    return name if _is_step(state, root, name) else None


def _is_step(state: PartitionState, root: Task, task_id: str) -> bool:
    """Whether it is a step of this run of the workflow, and not of an earlier one whose steps are still being removed."""
    task = state.tasks.get(task_id)
    return task is not None and root_of(state, task.row) is root
