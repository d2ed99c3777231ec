"""What time causes: taking due entries of the agenda inside a turn, and large work done in slices.

Each entry is compared with the row it is about: an entry that the row has moved past is dropped. Provenance:
`agenda/<partition>/<kind>:<task>[.<mark>]/<due>/<index>`; a slice's mark is its position, so no two are alike.
"""

from collections.abc import Mapping

from schemas import TaskError, node_id
from schemas import events as e

from .admission import node_data
from .attempts import on_timeout
from .consequences import place, retire_nodes
from .ending import cancelled, expired, failed
from .graph import Plan
from .limits import REASON_MAX, cut
from .plans import NewTask
from .rows import TaskRow
from .state import Task
from .times import SECOND_US, text_of
from .transitions import ACTIVE, WAITING
from .turn import Turn

#: Nodes of a graph that are created, or cancelled, in one slice: a transaction stays below about 1,000 events.
SLICE = 200
SLICE_BYTES = 1024 * 1024

#: The worker watches its own timeout first; the engine ends an attempt only when the worker did not.
TIMEOUT_SLACK_US = SECOND_US // 2

#: How many events a turn may hold before what is still due waits for the next (a slice may add some 600).
EVENTS_PER_TURN = 400


#: What a timer is about, over restarts: its kind, the task, its life (-1: the task is gone), and what the row must still say.
TimerKey = tuple[str, str, int, int]


class PoisonTimer(Exception):
    """Taking the timer `key` failed half-way: the state is spoiled, drop the partition and restore it."""

    def __init__(self, key: TimerKey, reason: str) -> None:
        super().__init__(f"the timer {key[0]} of task {key[1]}: {reason}")
        self.key, self.reason = key, reason


def take_due(
    turn: Turn,
    *,
    retention_seconds: float,
    heard_until_us: int | None,
    poison: Mapping[TimerKey, str],
    timers_max: int | None = None,
) -> TimerKey | None:
    """Take what is due, in order, until the turn is full or `timers_max` were taken; returns the last one.

    A report that something was in time may lie unread: a timeout waits until everybody has been heard up to then. The timers in
    `poison` (with the reason) are dead-lettered. Raises PoisonTimer."""
    left, key = timers_max, None
    while len(turn.events) < EVENTS_PER_TURN and left != 0:
        entry = turn.state.agenda.pop_due(turn.now_us, heard_until_us)
        if entry is None:
            break
        left = None if left is None else left - 1
        due_us, kind, task_id, mark = entry
        known = turn.state.tasks.get(task_id)
        key = (kind, task_id, -1 if known is None else known.row.life, mark)
        before, happened = turn.provenance, len(turn.events)
        turn.caused_by(f"agenda/{turn.partition}/{kind}:{task_id}.{mark}/{due_us // 1000}", f"agenda:{kind}")
        if kind == "dispatch":
            continue  # Only there so that the turn takes place, and as the cause of what it dispatches.
        if key in poison:
            again = turn.state.engine_row.sequence  # It is found again after each take-over: its provenance must be another one.
            turn.caused_by(f"agenda/{turn.partition}/poison:{task_id}.{again}/{due_us // 1000}", f"agenda:{kind}")
            data = e.EngineTimerDeadLettered(timer=kind, task=task_id, due_at=text_of(due_us), reason=poison[key])
            turn.apply_to_engine(data)
            continue
        try:
            _take_timer(turn, entry, retention_seconds)
        except MemoryError:
            raise
        except Exception as error:
            raise PoisonTimer(key, cut(f"{type(error).__name__}: {error}", REASON_MAX)) from error
        if len(turn.events) == happened and not turn.counted:
            turn.caused_by(*before)  # Nothing happened, and nothing follows from it: what comes next has another cause.
    return key


def _take_timer(turn: Turn, entry: tuple[int, str, str, int], retention_seconds: float) -> None:
    due_us, kind, task_id, mark = entry
    task = turn.state.tasks.get(task_id)
    if kind == "retire":
        retire_nodes(turn, task_id, retention_seconds)
    elif task is not None and not task.ended:
        _HANDLERS[kind](turn, task, due_us, mark)


def _start(turn: Turn, task: Task, due_us: int, mark: int) -> None:
    if task.row.state == "scheduled" and task.row.start_due_us == due_us:
        turn.apply(task, _ready(task.row))


def _retry(turn: Turn, task: Task, due_us: int, mark: int) -> None:
    if task.row.state == "retrying" and task.row.dispatch == mark:
        turn.apply(task, _ready(task.row))


def _expire(turn: Turn, task: Task, due_us: int, mark: int) -> None:
    row = task.row
    if row.state in WAITING and row.expire_due_us is not None and row.expire_due_us <= turn.now_us:
        turn.apply(task, expired(row, turn.now, "not started in time"))


def _total(turn: Turn, task: Task, due_us: int, mark: int) -> None:
    row = task.row
    if row.total_due_us != due_us:
        return
    seconds = row.timeouts.total if row.timeouts else None
    reason = f"not over within {seconds} s of its creation"
    if task.children is not None:
        if not row.cancelling:
            request_cancel(turn, task, reason, None, timed_out=True)
        return
    turn.cancel_command(task, reason)
    error = TaskError(type="TimedOut", message=reason, retryable=False)
    turn.apply(task, failed(row, turn.now, "timed_out", error))


def _attempt(turn: Turn, task: Task, due_us: int, mark: int) -> None:
    row = task.row
    if row.state != "running" or row.dispatch != mark or row.attempt_due_us is None:
        return
    if turn.now_us < row.attempt_due_us + TIMEOUT_SLACK_US:
        turn.state.agenda.add(row.attempt_due_us + TIMEOUT_SLACK_US, "attempt", task.id, mark)
        return
    turn.cancel_command(task, "the attempt took too long")
    turn.apply_all(task, on_timeout(task.id, row, turn.now, turn.now_us))


def create_nodes(turn: Turn, root: Task) -> int:
    """Create the next slice of the root's plan; returns how many of the plan then exist."""
    plan = root.plan
    assert plan is not None
    first = root.row.planned if root.row.state == "running" else 0
    keys = _slice(plan, first)
    planned = first + len(keys)
    turn.state.planned += (len(plan.order) if not first else 0) - len(keys)
    if first:
        counts = {name: getattr(root.row, name) for name in ("completed", "failed", "cancelled", "skipped", "expired")}
        turn.apply(root, e.WorkflowProgressed(nodes=root.row.nodes, planned=planned, **counts))
    else:
        turn.apply(root, e.WorkflowStarted(nodes=root.row.nodes, planned=planned))
    correlation = root.row.correlation or root.id
    for key in keys:
        data = node_data(plan.nodes[key], root, key, now_us=turn.now_us, log_offset=root.row.log_offset)
        new = NewTask(node_id(root.id, key), root.id, root.row.namespace, correlation, data)
        place(turn, turn.create(new, life=root.row.life, traceparent=root.row.traceparent))
    if planned < len(plan.order):
        turn.state.agenda.add(turn.now_us, "plan", root.id, planned)
    return planned


def _slice(plan: Plan, first: int) -> tuple[str, ...]:
    """The keys of the next slice: at most SLICE nodes and about SLICE_BYTES of arguments, at least one node."""
    size = 0
    for count, key in enumerate(plan.order[first : first + SLICE]):
        size += len(bytes(plan.nodes[key].args))
        if size > SLICE_BYTES and count > 0:
            return plan.order[first : first + count]
    return plan.order[first : first + SLICE]


def _plan(turn: Turn, task: Task, due_us: int, mark: int) -> None:
    if task.row.planned == mark and not task.row.cancelling:
        create_nodes(turn, task)


def request_cancel(turn: Turn, task: Task, reason: str, by: str | None, *, timed_out: bool = False) -> None:
    """Cancel a task: at once where it waits, by a command where it runs, node by node where it is a workflow."""
    row = task.row
    if task.children is not None:
        if task.plan is not None:
            turn.state.planned -= len(task.plan.order) - row.planned  # No more steps are created.
        turn.apply(task, e.TaskCancelRequested(reason=reason, by=by, timed_out=timed_out))
        turn.state.agenda.add(turn.now_us, "cancel", task.id)
    elif row.state in ACTIVE:
        turn.apply(task, e.TaskCancelRequested(reason=reason, by=by, attempt=row.attempt))
        turn.cancel_command(task, reason)
    else:
        turn.apply(task, cancelled(row, turn.now, reason=reason, by=by))


def _cancel(turn: Turn, root: Task, due_us: int, mark: int) -> None:
    """The next slice of a workflow's nodes, in order of creation; `mark` is the position."""
    children = root.children or []
    for child in children[mark : mark + SLICE]:
        node = turn.state.tasks[child]
        if not node.ended and not node.row.cancelling:
            request_cancel(turn, node, root.row.cancel_reason, root.row.cancel_by)
    if mark + SLICE < len(children):
        turn.state.agenda.add(turn.now_us, "cancel", root.id, mark + SLICE)
    turn.counted.setdefault(root.id, {})  # All nodes may have ended already: then nobody else would look.


def _ready(row: TaskRow) -> e.TaskReady:
    return e.TaskReady(queue=row.queue, priority=row.priority)


_HANDLERS = {
    "start": _start,
    "retry": _retry,
    "expire": _expire,
    "total": _total,
    "attempt": _attempt,
    "plan": _plan,
    "cancel": _cancel,
}

__all__ = ["PoisonTimer", "TimerKey", "create_nodes", "request_cancel", "take_due"]
