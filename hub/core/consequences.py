"""What follows when tasks end: dependents become ready or can never run, workflows progress and end, waiters are answered,
and lives that are over leave memory. Runs at the end of a turn until nothing is left to follow.
"""

from msgspec import Raw, json

from schemas import ABSENT, Dependency, TaskError, TaskReply
from schemas import events as e

from .ending import failed, skipped, workflow_cancelled, workflow_completed, workflow_failed
from .limits import KEPT_ERROR_MAX, cut_error
from .rows import INLINE_RESULT_BYTES_MAX, EndedRow, TaskRow
from .state import Task
from .times import text_of, us_of, us_of_seconds
from .turn import Reply, Turn

#: How many ids an event names at most; the count is exact.
NAMED_MAX = 100

#: Ended nodes of an ended workflow that leave memory in one turn.
RETIRED_PER_TURN = 500

#: Terminal states; each is also the name of a workflow's counter.
_COUNTERS = ("completed", "failed", "cancelled", "skipped", "expired")
_SATISFIED_BY: dict[str, frozenset[str]] = {
    "success": frozenset({"completed"}),
    "failure": frozenset({"failed", "expired"}),
    "ended": frozenset({"completed", "failed", "cancelled", "expired", "skipped"}),
}


def settle(turn: Turn, *, retention_seconds: float) -> None:
    """Follow up on everything that ended in this turn: 1 dependents, 2 readiness, 3 workflows; repeated while tasks end."""
    while turn.ended or turn.met or turn.counted:
        while turn.ended:
            _follow_end(turn, turn.ended.pop(0), retention_seconds)
        for task_id, satisfied in list(turn.met.items()):
            del turn.met[task_id]
            _dependencies_met(turn, task_id, satisfied)
        if turn.ended:
            continue
        for root_id in list(turn.counted):
            _count_steps(turn, root_id)
    for root_id, steps in turn.steps_ready.items():
        root = turn.state.tasks.get(root_id)
        if len(steps) > 1 and root is not None and root.row.state == "running":
            turn.apply(root, e.WorkflowStepsReady(count=len(steps), steps=steps[:NAMED_MAX]))
    turn.steps_ready.clear()


def place(turn: Turn, task: Task) -> None:
    """Where a task that was just created goes: blocked, scheduled, ready, or (if it can never run) its end."""
    unmet = 0
    for dependency in task.row.depends_on:
        before = turn.state.tasks.get(dependency.task)
        if before is None or not before.ended:
            unmet += 1
        elif before.row.state not in _SATISFIED_BY[dependency.on]:
            _can_never_run(turn, task, before, dependency)
            return
    if unmet:
        turn.apply(task, e.TaskBlocked(unmet=unmet))
    else:
        make_ready(turn, task)


def make_ready(turn: Turn, task: Task) -> None:
    """Nothing but time may still be missing."""
    row = task.row
    start = row.start_after
    if start is not None and row.scheduled_at is None:
        at = text_of(turn.now_us + us_of_seconds(start)) if isinstance(start, int | float) else start
        turn.apply(task, e.TaskScheduled(start_after=at))
        return
    turn.apply(task, e.TaskReady(queue=row.queue, priority=row.priority))
    if row.root is not None:
        turn.steps_ready.setdefault(row.root, []).append(row.key or task.id)


def _follow_end(turn: Turn, task: Task, retention_seconds: float) -> None:
    answer_waiters(turn, task)
    for dependent_id in turn.state.dependents.pop(task.id, ()):
        dependent = turn.state.tasks.get(dependent_id)
        if dependent is None or dependent.row.state != "blocked":
            continue
        dependency = next(entry for entry in dependent.row.depends_on if entry.task == task.id)
        if task.row.state in _SATISFIED_BY[dependency.on]:
            turn.met.setdefault(dependent_id, []).append(task.id)
        else:
            turn.met.pop(dependent_id, None)
            _can_never_run(turn, dependent, task, dependency)
    if task.row.root is not None:
        counts = turn.counted.setdefault(task.row.root, {})
        counts[task.row.state] = counts.get(task.row.state, 0) + 1
    else:
        retire(turn, task, retention_seconds)
        if task.children:
            turn.state.agenda.add(turn.now_us, "retire", task.id)
            turn.state.retiring[task.id] = task.children


def _can_never_run(turn: Turn, task: Task, before: Task, dependency: Dependency) -> None:
    name, state = before.row.key or before.id, before.row.state
    if dependency.on == "success" and state in ("failed", "expired"):
        error = TaskError(type="DependencyFailed", message=f"{name} ended {state}", retryable=False)
        turn.apply(task, failed(task.row, turn.now, "dependency_failed", error))
    else:
        reason = f"{name} ended {state}; needed: {dependency.on}"
        turn.apply(task, skipped(task.row, turn.now, reason, before.id))


def _dependencies_met(turn: Turn, task_id: str, satisfied: list[str]) -> None:
    task = turn.state.tasks.get(task_id)
    if task is None or task.row.state != "blocked":
        return
    unmet = task.row.unmet - len(satisfied)
    assert unmet >= 0, f"{task_id} has {task.row.unmet} unmet dependencies and {len(satisfied)} were met"
    if unmet:
        data = e.TaskDependencySatisfied(unmet=unmet, count=len(satisfied), satisfied=satisfied[:NAMED_MAX])
        turn.apply(task, data)
    else:
        make_ready(turn, task)


def _count_steps(turn: Turn, root_id: str) -> None:
    ended = turn.counted.pop(root_id)
    root = turn.state.tasks.get(root_id)
    if root is None or root.ended:
        return
    row = root.row
    counts = {name: getattr(row, name) + ended.get(name, 0) for name in _COUNTERS}
    over = sum(counts.values())
    if over == (row.nodes if not row.cancelling else len(root.children or ())):
        _end_workflow(turn, root, counts)
    elif ended:
        turn.apply(root, e.WorkflowProgressed(nodes=row.nodes, planned=row.planned, **counts))


def _end_workflow(turn: Turn, root: Task, counts: dict[str, int]) -> None:
    row = root.row
    nodes = [turn.state.tasks[child] for child in root.children or ()]
    if row.cancelling and row.cancel_timed_out:
        error = TaskError(type="TimedOut", message=row.cancel_reason, retryable=False)
        turn.apply(root, workflow_failed(row, turn.now, counts, error, []))
        return
    if row.cancelling:
        turn.apply(root, workflow_cancelled(row, turn.now, counts))
        return
    handled = {entry.task for node in nodes for entry in node.row.depends_on if entry.on == "failure"}
    failures = [node for node in nodes if node.row.state in ("failed", "expired", "cancelled") and node.id not in handled]
    if not failures:
        inner = {entry.task for node in nodes for entry in node.row.depends_on}
        results = (
            (node.row.key or node.id, node.result or Raw(b"null"))
            for node in nodes
            if node.id not in inner and node.row.state == "completed"
        )
        turn.apply(root, workflow_completed(row, turn.now, counts, results))
        return
    first = [node for node in failures if not (node.row.error and node.row.error.type == "DependencyFailed")] or failures
    names = [node.row.key or node.id for node in first]
    error = first[0].row.error or TaskError(type="StepNotCompleted", message=f"{names[0]} ended {first[0].row.state}")
    message = f"step {names[0]}: {error.message}"
    error = TaskError(type=error.type, message=message, retryable=False, fingerprint=error.fingerprint)
    turn.apply(root, workflow_failed(row, turn.now, counts, error, names[:NAMED_MAX]))


def reply_of(turn: Turn, task: Task) -> TaskReply:
    """A task as it is now, as an answer."""
    row = task.row
    return TaskReply(
        kind="ended" if task.ended else "state",
        task=task.id,
        partition=turn.partition,
        state=row.state,
        name=row.name,
        root=row.root,
        attempt=row.attempt,
        sequence=row.sequence,
        result=task.result if task.ended else ABSENT,
        error=row.error if row.state != "completed" else None,
        reason=row.cancel_reason or None,
        log_offset=row.log_offset,
    )


def reply_of_ended(turn: Turn, task: str, row: EndedRow) -> TaskReply:
    """An entry of the ended index, as an answer."""
    return TaskReply(
        kind="ended",
        task=task,
        partition=turn.partition,
        state=row.ended,
        name=row.name,
        root=row.root,
        attempt=row.attempt,
        sequence=row.sequence,
        result=row.result,
        result_omitted=row.result_omitted,
        error=row.error,
        reason=row.reason or None,
        log_offset=row.log_offset,
    )


def answer_waiters(turn: Turn, task: Task) -> None:
    """Tell everybody who waits for this task how it ended."""
    if task.waiters:
        reply = reply_of(turn, task)
        turn.replies += [Reply(partition, token, reply) for partition, token in task.waiters]
        task.waiters = None


def retire(turn: Turn, task: Task, retention_seconds: float) -> None:
    """A life is over: the row shrinks to its entry in the ended index."""
    row = ended_row(task.row, turn.now_us, retention_seconds)
    turn.state.forget(task)
    turn.touched.pop(task.id, None)
    encoded = json.encode(row)
    turn.state.ended.put(task.id, row, encoded)
    turn.retired[task.id] = (task, encoded)


def ended_row(row: TaskRow, now_us: int, retention_seconds: float) -> EndedRow:
    """The entry of the ended index for a task whose row is `row`."""
    keep = row.window if row.window is not None else retention_seconds
    result = row.result
    small = len(bytes(result)) <= INLINE_RESULT_BYTES_MAX
    return EndedRow(
        ended=row.state,
        life=row.life,
        sequence=row.sequence,
        name=row.name,
        until_us=now_us + us_of_seconds(keep),
        finished_at=row.finished_at or "",
        seconds=round((us_of(row.finished_at) - us_of(row.started_at)) / 1e6, 6) if row.started_at and row.finished_at else None,
        root=row.root,
        attempt=row.attempt,
        payload_hash=row.payload_hash,
        keyed=row.window is not None,
        log_offset=row.log_offset,
        result=result if small else ABSENT,
        result_omitted=not small,
        error=cut_error(row.error, message=KEPT_ERROR_MAX, stacktrace=0) if row.error and row.state != "completed" else None,
        reason=row.cancel_reason,
    )


def retire_nodes(turn: Turn, root_id: str, retention_seconds: float) -> None:
    """The next of the ended nodes of an ended workflow leave memory."""
    children = turn.state.retiring.get(root_id)
    if not children:
        turn.state.retiring.pop(root_id, None)
        return
    for child in children[:RETIRED_PER_TURN]:
        task = turn.state.tasks.get(child)
        if task is not None:
            retire(turn, task, retention_seconds)
    del children[:RETIRED_PER_TURN]
    if children:
        turn.state.agenda.add(turn.now_us, "retire", root_id)
    else:
        turn.state.retiring.pop(root_id, None)
