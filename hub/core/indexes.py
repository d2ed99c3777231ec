"""The indexes derived from the rows of tasks, as one table: the states of a task that an index covers, and the actions on
entering and leaving them. The same table serves live changes and restores.

Timers and start deadlines are not removed from the agenda when the task leaves the state; they are compared with the row when
they are due.
"""

from collections.abc import Callable, Iterable
from heapq import heappush
from typing import NamedTuple

from schemas.tasks import TERMINAL_STATES

from .rows import TimedRows
from .rows.task import TaskRow, Timers
from .state import TIMED, PartitionState, Task
from .times import us_of, us_of_seconds
from .transitions import ACTIVE, BY_EVENT, LIVE, NEW

Update = Callable[[PartitionState, Task, int], None]


class Index(NamedTuple):
    """One index. `enter` and `leave` get the state, the task and the time in microseconds; `leave` is called before the row
    changes, `enter` after it."""

    name: str
    states: frozenset[str]
    enter: Update
    leave: Update | None = None


def _count(state: PartitionState, task: Task, now_us: int) -> None:
    state.live += 1


def _discount(state: PartitionState, task: Task, now_us: int) -> None:
    state.live -= 1


def _queue(state: PartitionState, task: Task, now_us: int) -> None:
    row = task.row
    bucket = (row.queue, row.namespace, row.name, row.version)
    state.ready.push(task.id, bucket, row.priority, us_of(row.created_at))


def _dequeue(state: PartitionState, task: Task, now_us: int) -> None:
    state.ready.remove(task.id)


def _hold(state: PartitionState, task: Task, now_us: int) -> None:
    lease = task.row.lease
    if lease is not None:  # the root of a workflow runs without a lease
        state.held.setdefault(lease.worker, set()).add(task.id)


def _release(state: PartitionState, task: Task, now_us: int) -> None:
    lease = task.row.lease
    holding = None if lease is None else state.held.get(lease.worker)
    if lease is not None and holding is not None:
        holding.discard(task.id)
        if not holding and lease.worker not in state.workers:
            del state.held[lease.worker]


def _must_start(state: PartitionState, task: Task, now_us: int) -> None:
    """Add the start deadline: the body must start within the worker's lease."""
    assert task.row.lease is not None, "a dispatched task has a lease"
    heappush(state.start_deadlines, (now_us + us_of_seconds(task.row.lease.seconds), task.id, task.row.lease.token))


def _expire_timer(state: PartitionState, task: Task, now_us: int) -> None:
    if (due_us := task.row.timers.expire) is not None:
        state.agenda.add(due_us, "expire", task.id)


def _start_timer(state: PartitionState, task: Task, now_us: int) -> None:
    if (due_us := task.row.timers.start) is not None:
        state.agenda.add(due_us, "start", task.id)


def _retry_timer(state: PartitionState, task: Task, now_us: int) -> None:
    if (due_us := task.row.timers.retry) is not None:
        state.agenda.add(due_us, "retry", task.id, task.row.dispatch)


def _attempt_timer(state: PartitionState, task: Task, now_us: int) -> None:
    if (due_us := task.row.timers.attempt) is not None:
        state.agenda.add(due_us, "attempt", task.id, task.row.dispatch)


INDEXES = (
    Index("live tasks", frozenset(LIVE), _count, _discount),
    Index("ready order", frozenset({"ready"}), _queue, _dequeue),
    Index("held by worker", frozenset(ACTIVE), _hold, _release),
    Index("start deadlines", frozenset({"dispatched"}), _must_start),
    Index("expire timers", frozenset({"ready"}), _expire_timer),
    Index("start timers", frozenset({"scheduled"}), _start_timer),
    Index("retry timers", frozenset({"retrying"}), _retry_timer),
    Index("attempt timers", frozenset({"running"}), _attempt_timer),
)


class Move(NamedTuple):
    """The effect of an event in one state: the states before and after (None: unchanged), and the indexes to update before and
    after the row changes."""

    before: str | None
    after: str | None
    leave: tuple[Update, ...]
    enter: tuple[Update, ...]


STAY = Move(None, None, (), ())


def _move(before: str, after: str | None) -> Move:
    if after is None:
        return STAY
    left = [index.leave for index in INDEXES if before in index.states and after not in index.states]
    entered = [index.enter for index in INDEXES if after in index.states and before not in index.states]
    return Move(before or None, after, tuple(leave for leave in left if leave is not None), tuple(entered))


#: By event and previous state; missing combinations are not allowed.
MOVES: dict[type, dict[str, Move]] = {
    event: {before: _move(before, row.target) for before in row.sources} for event, row in BY_EVENT.items()
}

_RESTORED = {state: _move(NEW, state).enter for state in (*LIVE, *TERMINAL_STATES)}


def add(state: PartitionState, task: Task) -> None:
    """Add a task to memory in any state, with its relations and the timers of its whole run."""
    row = task.row
    state.tasks.add(task)
    if (root := root_of(state, row)) is not None and root.children is not None:
        root.children.append(task.id)
    for dependency in row.depends_on:
        before = state.tasks.get(dependency.task)
        if before is None or not before.ended:  # an ended dependency counts only when the task is placed
            state.dependents.setdefault(dependency.task, []).append((task.id, dependency))
    _add_timers_of_run(state, task.id, row.timers)


def root_of(state: PartitionState, row: TaskRow) -> Task | None:
    """The root of a step, which may have been removed. A later run with the id of the root is not that of the step."""
    root = None if row.root is None else state.tasks.get(row.root)
    return root if root is not None and root.row.run <= row.run else None


def _add_timers_of_run(state: PartitionState, task_id: str, timers: Timers) -> None:
    if timers.expire is not None:
        state.agenda.add(timers.expire, "expire", task_id)
    if timers.total is not None:
        state.agenda.add(timers.total, "total", task_id)


def restore_at_rest(state: PartitionState, task_id: str, row: TaskRow, encoded: bytes) -> bool:
    """Add a task of a changelog to memory, at rest, if it waits only for a time: its order among the others then matters only
    where timers are due in the same microsecond. Returns whether it does. `encoded` is its row.

    Does what the table of indexes does for these states, without an object per task: most tasks of a large changelog are such.
    """
    if row.state not in TIMED or row.root is not None or row.steps.total:
        return False
    state.tasks.rest(task_id, encoded)
    state.live += 1
    timers = row.timers
    _add_timers_of_run(state, task_id, timers)  # first, as when it was created: in this order they are due at the same time
    if timers.start is not None and row.state == "scheduled":
        state.agenda.add(timers.start, "start", task_id)
    elif timers.retry is not None and row.state == "retrying":
        state.agenda.add(timers.retry, "retry", task_id, row.dispatch)
    return True


def restore_timed(state: PartitionState, timed: TimedRows) -> None:
    """Do what `restore_at_rest` does for all tasks of these rows."""
    ids = timed.ids()
    state.tasks.rest_all(ids, timed.rows)
    state.live += len(timed)
    state.agenda.add_all(timed.due_us, timed.kinds(), ids, timed.marks)


def restore(state: PartitionState, tasks: Iterable[Task], now_us: int) -> None:
    """Add the tasks of a changelog to memory, in the order of their creation."""
    ordered = sorted(tasks, key=lambda task: (task.row.created_at, task.row.run, task.id))
    for task in sorted(ordered, key=lambda task: task.row.root is not None):  # roots first: children refer to them
        add(state, task)
    for task in ordered:
        for enter in _RESTORED[task.row.state]:
            enter(state, task, now_us)
        _resume(state, task, now_us)


def _resume(state: PartitionState, task: Task, now_us: int) -> None:
    """Continue work in slices (creating or cancelling steps) where it stopped."""
    row = task.row
    if row.state == "running" and row.steps.total and row.cancel is not None:
        state.agenda.add(now_us, "cancel", task.id)
    if task.plan is not None and row.steps.planned < len(task.plan.order) and row.cancel is None:
        state.agenda.add(now_us, "plan", task.id, row.steps.planned)
        state.planned += len(task.plan.order) - row.steps.planned
