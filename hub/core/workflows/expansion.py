"""Creates the steps of a workflow in slices."""

from collections.abc import Callable
from functools import lru_cache

from schemas import Dependency, TaskSpec, step_id
from schemas import events as e

from ..changes import Changes, NewTask
from ..graph import Plan, dependency_of
from ..state import KnownDefinition, Task
from ..tasks.creation import created_data
from ..tasks.tracing import step_traceparent
from .dependencies import place

#: Steps that are created or cancelled in one slice, so that a transaction has less than about 1,000 events.
SLICE = 200


SLICE_BYTES = 1024 * 1024

#: `step_id`, which each step that depends on another one needs again.
_id_of = lru_cache(maxsize=4096)(step_id)


def create_steps(changes: Changes, root: Task) -> int:
    """Create the next slice of the root's plan. Returns the number of created steps so far."""
    plan = root.plan
    assert plan is not None
    first = root.row.steps.planned if root.row.state == "running" else 0
    keys = _slice(plan, first)
    planned = first + len(keys)
    changes.state.planned += (len(plan.order) if not first else 0) - len(keys)
    if first:
        counts = {name: getattr(root.row.steps, name) for name in ("completed", "failed", "cancelled", "skipped", "expired")}
        changes.apply(root, e.WorkflowProgressed(steps_total=root.row.steps.total, planned=planned, **counts))
    else:
        changes.apply(root, e.WorkflowStarted(steps_total=root.row.steps.total, planned=planned))
    correlation = root.row.correlation or root.id
    trace = step_traceparent(root, root.row.run)
    for key in keys:
        step = plan.steps[key]
        known = changes.state.definitions.find(root.row.namespace, step.name, step.version)
        data = step_data(step, root, key, known, now_us=changes.now_us, log_offset=root.row.log_offset)
        new = NewTask(_id_of(root.id, key), root.id, root.row.namespace, correlation, data)
        place(changes, changes.create(new, run=root.row.run, traceparent=trace))
    if planned < len(plan.order):
        changes.state.agenda.add(changes.now_us, "plan", root.id, planned)
    return planned


def _slice(plan: Plan, first: int) -> tuple[str, ...]:
    """The keys of the next slice: at least one step, at most SLICE steps and about SLICE_BYTES of arguments."""
    size = 0
    for count, key in enumerate(plan.order[first : first + SLICE]):
        size += len(bytes(plan.steps[key].args))
        if size > SLICE_BYTES and count > 0:
            return plan.order[first : first + count]
    return plan.order[first : first + SLICE]


def step_data(
    step: TaskSpec,
    root: Task,
    key: str,
    known: KnownDefinition | None,
    *,
    now_us: int,
    log_offset: int,
    resolve: Callable[[str], str] | None = None,
) -> e.TaskCreated:
    """`TaskCreated` of the step `key`, whose definition is `known`; `resolve` gives the id of a dependency (default: a key of the
    same plan)."""
    data = created_data(step, known, now_us=now_us, log_offset=log_offset, queue=root.row.queue, priority=root.row.priority)
    data.key = key
    data.parent_id = root.id
    data.depends_on = [
        Dependency(task=_id_of(root.id, long.task) if resolve is None else resolve(long.task), on=long.on)
        for long in map(dependency_of, step.depends_on)
    ]
    return data
