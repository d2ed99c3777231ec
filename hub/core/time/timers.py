"""The effects of timers by kind: the table `TIMERS`.

A handler gets the task, which has not ended, the due time of the timer, and its mark. It compares them with the row, and does
nothing if the timer is outdated.
"""

from collections.abc import Callable

from schemas import TaskError
from schemas import events as e

from ..changes import Changes
from ..rows import TaskRow
from ..state import Task
from ..tasks.attempts import on_timeout
from ..tasks.endings import expired, failed, waited_since
from ..times import SECOND_US
from ..transitions import WAITING
from ..workflows.cancelling import cancel_steps, request_cancel
from ..workflows.expansion import create_steps

#: Grace period: the worker enforces the timeout first, and the engine ends the attempt only if the worker did not.
TIMEOUT_SLACK_US = SECOND_US // 2


def _start(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    if task.row.state == "scheduled" and task.row.timers.start == due_us:
        changes.apply(task, _ready(task.row))


def _retry(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    if task.row.state == "retrying" and task.row.timers.retry == due_us:
        changes.apply(task, _ready(task.row))


def _expire(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    row = task.row
    if row.state in WAITING and row.timers.expire == due_us:
        changes.apply(task, expired(row, changes.now, "not started before its deadline"))


def _total(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    row = task.row
    if row.timers.total != due_us:
        return
    seconds = row.timeouts.total if row.timeouts else None
    reason = f"exceeded its total timeout of {seconds} s"
    if task.children is not None:
        if row.cancel is None:
            request_cancel(changes, task, reason, None, timed_out=True)
        return
    changes.cancel_command(task, reason)
    error = TaskError(type="TimedOut", message=reason, retryable=False)
    changes.apply(task, failed(row, changes.now, "timed_out", error))


def _attempt(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    row = task.row
    timeout_us = row.timers.attempt
    if row.state != "running" or row.dispatch != mark or timeout_us is None:
        return
    if due_us not in (timeout_us, timeout_us + TIMEOUT_SLACK_US):  # of an earlier run of the id
        return
    if changes.now_us < timeout_us + TIMEOUT_SLACK_US:
        changes.state.agenda.add(timeout_us + TIMEOUT_SLACK_US, "attempt", task.id, mark)
        return
    changes.cancel_command(task, "the attempt exceeded its timeout")
    changes.apply_all(task, on_timeout(task.id, row, changes.now, changes.now_us))


def _plan(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    if task.row.steps.planned == mark and task.row.cancel is None:
        create_steps(changes, task)


def _cancel(changes: Changes, task: Task, due_us: int, mark: int) -> None:
    cancel_steps(changes, task, mark)


def _ready(row: TaskRow) -> e.TaskReady:
    return e.TaskReady(queue=row.queue, priority=row.priority, waited_since=waited_since(row))


TIMERS: dict[str, Callable[[Changes, Task, int, int], None]] = {
    "start": _start,
    "retry": _retry,
    "expire": _expire,
    "total": _total,
    "attempt": _attempt,
    "plan": _plan,
    "cancel": _cancel,
}
