"""Admission: what a `task.created` report becomes. Decides only; changes nothing.

Everything that is used later is checked and copied into `TaskCreated` here, with the names of fields in every refusal.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from schemas import (
    Dependency,
    NodeSpec,
    Submission,
    TaskSpec,
    check_id,
    node_id,
    payload_hash,
    task_id_of_cloudevent,
    task_id_of_key,
)
from schemas import events as e
from schemas.tasks import ARGS_BYTES_MAX

from .graph import Plan, Refused, check_plan, dependency_of
from .limits import SECONDS_MAX, check_texts
from .plans import NewTask
from .retry import problem_of
from .rows import EndedRow, TaskRow
from .state import PartitionState, Task
from .times import text_of, us_of, us_of_seconds

#: Nodes that may be added to a live workflow in one report, so that one transaction stays small.
ADDED_NODES_MAX = 300


class Admitted(NamedTuple):
    """`tasks` are to be created in this order; `root` is the live workflow they are added to, if any."""

    tasks: list[NewTask]
    root: Task | None = None


class Duplicate(NamedTuple):
    """The submission is known: the task `task` stands as it is (`live`, or its entry in the ended index)."""

    task: str
    live: Task | None
    ended: EndedRow | None


class Origin(NamedTuple):
    """Where a submission came from: the CloudEvents source and id of its record (None where it has none), and the place it was
    forwarded from."""

    source: str | None
    event_id: str | None
    forwarded_from: str | None = None


def identify(submission: Submission, origin: Origin) -> tuple[str, str] | Refused:
    """The task's id and its root's id. Several nodes added at once are named by their keys: the id is then the root's."""
    named = [field for field in ("id", "idempotency_key") if getattr(submission, field) is not None]
    if submission.root_id is not None:
        named += [field for field in ("key", "tasks") if getattr(submission, field) is not None]
    if len(named) > 1:
        return Refused("invalid_input", f"{named[0]}: give either {named[0]} or {named[1]}, not both")
    for field in ("root_id", "id"):
        value = getattr(submission, field)
        if value is not None and (problem := check_id(value, field)) is not None:
            return Refused("malformed", problem)
    if submission.root_id is not None and submission.tasks is not None:
        return submission.root_id, submission.root_id
    if submission.root_id is not None and submission.key is not None:
        return node_id(submission.root_id, submission.key), submission.root_id
    if submission.id is not None:
        task = submission.id
    elif submission.idempotency_key is not None:
        task = task_id_of_key(submission.root_id or submission.namespace, submission.idempotency_key)
    else:
        if origin.source is None or origin.event_id is None:
            missing = "ce_source" if origin.source is None else "ce_id"
            return Refused("malformed", f"{missing}: is missing; it names a task that gives neither id nor idempotency_key")
        task = task_id_of_cloudevent(origin.source, origin.event_id)
    return task, submission.root_id or task


def admit(
    state: PartitionState,
    submission: Submission,
    task: str,
    origin: Origin,
    *,
    now_us: int,
    log_offset: int,
    waiting_max: int,
    storage_low: bool = False,
) -> Admitted | Duplicate | Refused:
    """What becomes of a submission whose task is `task` (see `identify`). `waiting_max` and `storage_low` bound new work; what is
    known already is answered all the same."""
    try:
        fingerprint = _fingerprint(submission)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Refused("invalid_input", f"args: no JSON that can be kept: {error}")
    if not 0 < submission.idempotency_window <= SECONDS_MAX:
        return Refused("invalid_input", f"idempotency_window: seconds must be above 0 and at most {SECONDS_MAX:.0f}")
    known = _known(state, submission, task, fingerprint)
    if known is not None:
        return known
    if (problem := _no_room(state, submission, waiting_max, storage_low)) is not None:
        return problem
    if submission.idempotency_key is not None and state.ended.full:
        return Refused("limit_exceeded", "idempotency_key: too many keys are remembered on this partition; try again later")
    if submission.root_id is not None:
        return _admit_into(state, submission, task, origin, fingerprint, now_us=now_us, log_offset=log_offset)
    if submission.depends_on and submission.tasks is None:
        return Refused("unknown_dependency", "depends_on: a task outside a graph has no other tasks to depend on")
    if submission.depends_on:
        return Refused("invalid_input", "depends_on: belongs to the nodes in tasks, not to their root")
    plan: Plan | None = None
    if submission.tasks is not None:
        checked = check_plan(submission.tasks)
        if isinstance(checked, Refused):
            return checked
        for key, node in checked.nodes.items():
            problem = check_spec(node, f"tasks.{key}.", now_us)
            if problem is not None:
                return problem
        problem = _check_root(submission)
        if problem is not None:
            return problem
        plan = checked
    problem = check_spec(submission, "", now_us)
    if problem is not None:
        return problem
    data = created_data(submission, now_us=now_us, log_offset=log_offset)
    data.payload_hash = fingerprint
    data.parent_id = submission.parent_id
    data.created_by = submission.created_by
    data.source = origin.source
    data.origin = origin.forwarded_from
    if submission.idempotency_key is not None:
        data.idempotency_key, data.idempotency_window = submission.idempotency_key, submission.idempotency_window
    if plan is not None:
        data.tasks, data.nodes = msgspec.Raw(msgspec.json.encode(submission.tasks)), len(plan.nodes)
    new = NewTask(task, None, submission.namespace, submission.correlation_id or task, data, plan)
    return Admitted([new])


def _no_room(state: PartitionState, submission: Submission, waiting_max: int, storage_low: bool) -> Refused | None:
    """Why the partition takes no more work. A graph counts as all of its steps, also while they are still to be created."""
    if storage_low and submission.root_id is None:  # Steps that a running workflow adds belong to it.
        return Refused("storage_low", "the broker's disk is almost full; new tasks are refused until there is room")
    waiting, added = state.live + state.planned, 1 + len(submission.tasks or ())
    if waiting + added > waiting_max:
        reason = f"{waiting} tasks are waiting on this partition; its limit is {waiting_max}; try again later"
        return Refused("limit_exceeded", reason)
    return None


def _check_root(submission: Submission) -> Refused | None:
    """A workflow's root has no body: what would be about one belongs to its steps, and is not silently ignored."""
    given = {
        "start_after": submission.start_after is not None,
        "not_start_after": submission.not_start_after is not None,
        "retry": submission.retry is not None,
        "delivery": submission.delivery is not None,
        "timeouts.start": submission.timeouts is not None and submission.timeouts.start is not None,
        "timeouts.attempt": submission.timeouts is not None and submission.timeouts.attempt is not None,
    }
    for field, is_given in given.items():
        if is_given:
            return Refused("invalid_input", f"{field}: a workflow runs nothing itself; say it on its steps, in tasks")
    return None


def _fingerprint(submission: Submission) -> str:
    canonical = _canonical(submission.args)
    if submission.tasks is not None:
        canonical += _canonical(msgspec.json.encode(submission.tasks))
    return payload_hash(submission.name, submission.version, canonical)


def _canonical(value: bytes | msgspec.Raw) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(value), order="sorted")


def _known(state: PartitionState, submission: Submission, task: str, fingerprint: str) -> Duplicate | Refused | None:
    if submission.root_id is not None and submission.tasks is not None:
        return _known_steps(state, submission.root_id, submission.tasks, fingerprint)
    live = state.tasks.get(task)
    ended = state.ended.get(task) if live is None else None
    known = live.row if live is not None else ended
    if known is None:
        return None
    if known.payload_hash != fingerprint:
        if submission.idempotency_key is not None:
            reason = f"idempotency_key: {submission.idempotency_key!r} was used with another name or other arguments"
            return Refused("idempotency_conflict", reason)
        return Refused("id_conflict", f"id: {task!r} belongs to a task with another name or other arguments")
    return Duplicate(task, live, ended)


def _known_steps(state: PartitionState, root_id: str, steps: Mapping[str, TaskSpec], fingerprint: str) -> Duplicate | None:
    """Several steps are added in one transaction: where the first of them is known with this fingerprint, all were."""
    root = state.tasks.get(root_id)
    first = state.tasks.get(node_id(root_id, next(iter(steps)))) if steps else None
    if root is None or first is None or first.row.payload_hash != fingerprint:
        return None
    return Duplicate(root_id, root, None)


def _admit_into(
    state: PartitionState, submission: Submission, task: str, origin: Origin, fingerprint: str, *, now_us: int, log_offset: int
) -> Admitted | Refused:
    """Nodes for a live workflow: one (the submission itself), or several (`tasks`)."""
    assert submission.root_id is not None
    root = state.tasks.get(submission.root_id)
    if root is None:
        if submission.root_id in state.ended:
            return Refused("already_ended", f"root_id: the workflow {submission.root_id!r} has ended")
        return Refused("unknown_root", f"root_id: there is no workflow {submission.root_id!r}")
    if root.children is None:
        return Refused("unknown_root", f"root_id: {submission.root_id!r} is not a workflow")
    if root.ended or root.row.cancelling:
        return Refused("already_ended", f"root_id: the workflow {submission.root_id!r} takes no more tasks")
    nodes: Mapping[str, TaskSpec]
    if submission.tasks is not None:
        nodes = submission.tasks
        if len(nodes) > ADDED_NODES_MAX:
            return Refused(
                "limit_exceeded", f"tasks: {len(nodes)} nodes, more than the {ADDED_NODES_MAX} that can be added at once"
            )
    else:
        nodes = {submission.key or task: submission}
    checked = check_plan(nodes, lambda name: _resolve(state, root, name) is not None)
    if isinstance(checked, Refused):
        return checked
    added = []
    for key in checked.order:
        node = checked.nodes[key]
        problem = check_spec(node, f"tasks.{key}." if submission.tasks is not None else "", now_us)
        if problem is not None:
            return problem
        child = node_id(root.id, key) if submission.tasks is not None else task
        if child in state.tasks or _resolve(state, root, key) is not None:
            return Refused("id_conflict", f"tasks.{key}: the workflow has a task of that key")
        data = node_data(
            node,
            root,
            key,
            now_us=now_us,
            log_offset=log_offset,
            resolve=lambda name: node_id(root.id, name) if name in nodes else _resolve(state, root, name) or name,
        )
        data.source, data.origin, data.created_by = origin.source, origin.forwarded_from, submission.created_by
        data.payload_hash = fingerprint
        if submission.idempotency_key is not None:
            data.idempotency_key, data.idempotency_window = submission.idempotency_key, submission.idempotency_window
        added.append(NewTask(child, root.id, root.row.namespace, root.row.correlation or root.id, data))
    return Admitted(added, root)


def _resolve(state: PartitionState, root: Task, name: str) -> str | None:
    """The task id that `name` (a key or an id) means inside a workflow."""
    by_key = node_id(root.id, name)
    if by_key in state.tasks or (root.plan is not None and name in root.plan.nodes):
        return by_key
    by_id = state.tasks.get(name)
    return name if by_id is not None and by_id.row.root == root.id else None


def node_data(
    node: TaskSpec, root: Task, key: str, *, now_us: int, log_offset: int, resolve: Callable[[str], str] | None = None
) -> e.TaskCreated:
    """`TaskCreated` of the node `key`; `resolve` gives the id of a dependency (default: a key of the same plan)."""
    data = created_data(node, now_us=now_us, log_offset=log_offset, queue=root.row.queue, priority=root.row.priority)
    data.key = key
    data.parent_id = root.id
    data.depends_on = [
        Dependency(task=node_id(root.id, long.task) if resolve is None else resolve(long.task), on=long.on)
        for long in map(dependency_of, node.depends_on)
    ]
    return data


def created_data(spec: TaskSpec, *, now_us: int, log_offset: int, queue: str = "default", priority: int = 0) -> e.TaskCreated:
    """The part of `TaskCreated` that comes from the spec (already checked); `queue` and `priority` where the spec has none."""
    expires = spec.not_start_after
    return e.TaskCreated(
        name=spec.name,
        version=spec.version,
        args=spec.args,
        delivery=spec.delivery,
        queue=queue if spec.queue is None else spec.queue,
        priority=priority if spec.priority is None else spec.priority,
        start_after=spec.start_after,
        not_start_after=text_of(now_us + us_of_seconds(expires)) if isinstance(expires, int | float) else expires,
        timeouts=spec.timeouts,
        retry=spec.retry,
        external_id=spec.external_id,
        account_id=spec.account_id,
        user_id=spec.user_id,
        category=spec.category,
        subject=spec.subject,
        description=spec.description,
        tags=spec.tags,
        annotations=spec.annotations,
        log_offset=log_offset,
    )


def check_spec(spec: TaskSpec, at: str, now_us: int) -> Refused | None:
    """Why `spec` cannot be admitted, naming the field under `at`; None when it can."""
    if (problem := check_id(spec.name, f"{at}name")) is not None:
        return Refused("invalid_input", problem)
    args = bytes(spec.args)
    if len(args) > ARGS_BYTES_MAX:
        return Refused("limit_exceeded", f"{at}args: {len(args)} bytes, more than {ARGS_BYTES_MAX}; pass a reference instead")
    if isinstance(spec, NodeSpec) and spec.idempotency_key is not None:
        return Refused("invalid_input", f"{at}idempotency_key: a step's key in tasks is what makes it one; leave it out")
    if args.lstrip()[:1] != b"{":
        return Refused("invalid_input", f"{at}args: must be a JSON object")
    if spec.priority is not None and not -1_000_000 <= spec.priority <= 1_000_000:
        return Refused("invalid_input", f"{at}priority: must lie between -1,000,000 and 1,000,000")
    if spec.queue is not None and (problem := check_id(spec.queue, f"{at}queue")) is not None:
        return Refused("invalid_input", problem)
    if (problem := check_texts(spec, at)) is not None:
        return Refused("limit_exceeded", problem)
    if spec.retry is not None and (problem := problem_of(spec.retry)) is not None:
        return Refused("invalid_input", f"{at}retry.{problem}")
    return _check_times(spec, at)


def _check_times(spec: TaskSpec, at: str) -> Refused | None:
    for field, moment in (("start_after", spec.start_after), ("not_start_after", spec.not_start_after)):
        if isinstance(moment, str):
            try:
                us_of(moment)
            except (ValueError, OverflowError) as error:
                return Refused("invalid_input", f"{at}{field}: no RFC 3339 time: {error}")
        elif moment is not None and not 0 <= moment <= SECONDS_MAX:
            return Refused("invalid_input", f"{at}{field}: seconds must lie between 0 and {SECONDS_MAX:.0f}")
    if spec.timeouts is not None:
        for field in spec.timeouts.__struct_fields__:
            seconds = getattr(spec.timeouts, field)
            if seconds is not None and not 0 < seconds <= SECONDS_MAX:
                return Refused("invalid_input", f"{at}timeouts.{field}: seconds must be above 0 and at most {SECONDS_MAX:.0f}")
    return None


__all__ = [
    "Admitted",
    "Duplicate",
    "NewTask",
    "Origin",
    "TaskRow",
    "admit",
    "check_spec",
    "created_data",
    "identify",
    "node_data",
]
