"""Builds replies about tasks."""

from schemas import ABSENT, TaskReply, quoted

from ..changes import Changes
from ..emitted import Reply
from ..rows import EndedRow, TaskRow
from ..state import Task


def reply_of(changes: Changes, task: Task) -> TaskReply:
    """A reply with the current state of a task."""
    row = task.row
    return TaskReply(
        kind="ended" if task.ended else "state",
        task=task.id,
        partition=changes.partition,
        state=row.state,
        name=row.name,
        root=row.root,
        attempt=row.attempt,
        sequence=row.sequence,
        result=task.result if task.ended else ABSENT,
        error=row.error if row.state != "completed" else None,
        reason=(row.cancel.reason or None) if row.cancel is not None else None,
        warning=None if task.ended else _warning(changes, row),
        log_offset=row.log_offset,
    )


def _warning(changes: Changes, row: TaskRow) -> str | None:
    """Why a task that is alive may wait for longer than it should."""
    if row.unresolved and changes.state.definitions.find(row.namespace, row.name, row.version) is None:
        version = "" if row.version is None else f" version {quoted(row.version)} of"
        return f"no worker has registered{version} {quoted(row.name)} yet: it waits until one does"
    return None


def reply_of_ended(changes: Changes, task: str, row: EndedRow) -> TaskReply:
    """A reply from an entry of the ended index."""
    return TaskReply(
        kind="ended",
        task=task,
        partition=changes.partition,
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


def answer_waiters(changes: Changes, task: Task) -> None:
    """Send the outcome of an ended task to all clients that wait for it."""
    waiters = changes.state.waiters.take(task.id)
    if waiters:
        reply = reply_of(changes, task)
        changes.replies += [Reply(partition, token, reply) for partition, token in waiters]
