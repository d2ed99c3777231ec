"""What each type of report does: the table `HANDLERS`, from a decoded report to changes of one partition.

A handler raises InvalidReport before it changes anything, or not at all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import DecodeError, Struct, ValidationError

from schemas import Submission, TaskReply
from schemas import events as e
from schemas import reports as r
from schemas.events import RejectionCode

from ..core.admission.admit import admit
from ..core.admission.identity import Origin, identify
from ..core.admission.outcomes import Duplicate
from ..core.bounds import check_cancel, check_ids
from ..core.changes import Changes
from ..core.emitted import Reply
from ..core.fleet.workers import check_worker, on_worker_lost, on_worker_report
from ..core.rejection import AttemptRejection, Rejection, TaskRejection
from ..core.state.task import Task
from ..core.tasks.attempts import on_report
from ..core.tasks.replies import reply_of, reply_of_ended
from ..core.workflows.cancelling import request_cancel
from ..core.workflows.dependencies import place
from ..core.workflows.expansion import create_nodes
from ..kafka import INBOX_PARTITIONS, partition_of
from .reading import DECODERS, Envelope, InvalidReport, decode_report

#: Clients that one task answers at its end; the longest waiting go first, and ask again if they still wait.
WAITERS_MAX = 1_000

#: Reports of clients: whoever sends one that cannot be taken is answered.
REQUESTS = frozenset({"task.created", "task.cancel", "task.await"})


class Conditions(NamedTuple):
    """What holds while a batch is decided, beside the state. `log_offset`: the next event's offset in `hub.events` is not lower.
    `waiting_max`: tasks that one partition may hold. `storage_low`: the broker's disk has no room for more work."""

    log_offset: int
    waiting_max: int
    storage_low: bool = False


def handle(changes: Changes, conditions: Conditions, envelope: Envelope) -> None:
    """Decide one report. Raises InvalidReport, and then nothing has changed."""
    if envelope.type not in REQUESTS:
        HANDLERS[envelope.type](changes, conditions, envelope, decode_report(envelope))
        return
    try:
        report = DECODERS[envelope.type].decode(envelope.value)
    except ValidationError as error:
        changes.reject("malformed", str(error), report=envelope.type, task=None, reply=envelope.reply)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReport(f"the value is not JSON: {error}") from None
    else:
        HANDLERS[envelope.type](changes, conditions, envelope, report)


def misrouted(changes: Changes, envelope: Envelope, root: str) -> bool:
    """Forward a record to the partition of its root: once. One that was forwarded to the wrong partition is invalid."""
    if changes.partitions == 1:
        return False
    home = partition_of(root, changes.partitions)
    if home == changes.partition:
        return False
    if envelope.forwarded_from is not None:
        raise InvalidReport(f"forwarded from {envelope.forwarded_from} to the wrong partition")
    changes.forwards.append((home, envelope.record))
    data = e.EngineReportForwarded(partition=home, offset=envelope.offset, report=envelope.type)
    changes.apply_to_engine(data)
    return True


# Submissions


def _on_submission(changes: Changes, conditions: Conditions, envelope: Envelope, submission: Submission) -> None:
    origin = Origin(envelope.source, envelope.event_id, envelope.forwarded_from)
    identity = identify(submission, origin)
    if isinstance(identity, Rejection):
        _reject(changes, envelope, identity, submission.id)
        return
    task_id, root_id = identity
    if misrouted(changes, envelope, root_id):
        return
    admitted = admit(
        changes.state,
        submission,
        task_id,
        origin,
        now_us=changes.now_us,
        log_offset=conditions.log_offset,
        waiting_max=conditions.waiting_max,
        storage_low=conditions.storage_low,
    )
    if isinstance(admitted, Rejection):
        _reject(changes, envelope, admitted, task_id)
        return
    if isinstance(admitted, Duplicate):
        _on_duplicate(changes, admitted, submission.idempotency_key, envelope.reply)
        return
    trace = envelope.traceparent
    if admitted.root is not None:
        nodes = admitted.root.row.nodes + len(admitted.tasks)
        changes.apply(admitted.root, e.WorkflowExpanded(added=len(admitted.tasks), nodes=nodes))
        trace = trace or admitted.root.row.traceparent
    for new in admitted.tasks:
        task = changes.create(new, life=envelope.offset, traceparent=trace)
        if new.plan is not None:
            create_nodes(changes, task)
        else:
            place(changes, task)
    if envelope.reply is not None and (waited := changes.state.tasks.get(task_id)) is not None:
        _wait(waited, envelope.reply)


def _reject(changes: Changes, envelope: Envelope, rejection: TaskRejection, task: str | None) -> None:
    changes.reject(rejection.code, rejection.reason, report=envelope.type, task=task, reply=envelope.reply)


def _on_duplicate(changes: Changes, known: Duplicate, key: str | None, reply: tuple[int, bytes] | None) -> None:
    if known.live is not None:
        life, state = known.live.row.life, known.live.row.state
    else:
        assert known.ended is not None
        life, state = known.ended.life, known.ended.ended
    data = e.TaskDeduplicated(task=known.task, life=life, state=state, idempotency_key=key)
    changes.apply_to_engine(data)
    if reply is not None:
        _answer(changes, known.task, reply, wait=True)


# Requests


def _on_cancel(changes: Changes, conditions: Conditions, envelope: Envelope, report: r.TaskCancel) -> None:
    if (problem := check_ids(report)) is not None:
        _reject(changes, envelope, Rejection("malformed", problem), report.id)
        return
    if misrouted(changes, envelope, report.root or report.id):
        return
    if (problem := check_cancel(report)) is not None:
        _reject(changes, envelope, Rejection("invalid_input", problem), report.id)
        return
    task = changes.state.tasks.get(report.id)
    if task is None or task.ended:
        ended = task is not None or report.id in changes.state.ended
        code: RejectionCode = "already_ended" if ended else "unknown_task"
        reason = "id: the task has ended" if ended else f"id: there is no task {report.id!r} on this partition"
        _reject(changes, envelope, Rejection(code, reason), report.id)
    elif task.row.cancelling:
        _reject(changes, envelope, Rejection("already_cancelling", "id: the task is being cancelled already"), report.id)
    else:
        if envelope.reply is not None:
            _wait(task, envelope.reply)
        request_cancel(changes, task, report.reason, report.by)


def _on_await(changes: Changes, conditions: Conditions, envelope: Envelope, report: r.TaskAwait) -> None:
    if (problem := check_ids(report)) is not None:
        _reject(changes, envelope, Rejection("malformed", problem), report.id)
        return
    if misrouted(changes, envelope, report.root or report.id):
        return
    if envelope.reply is None:
        raise InvalidReport("replyto: is missing or malformed; an await needs it, as <partition>:<token> of hub.replies")
    _answer(changes, report.id, envelope.reply, wait=report.wait)


def _answer(changes: Changes, task_id: str, reply: tuple[int, bytes], *, wait: bool) -> None:
    task = changes.state.tasks.get(task_id)
    if task is not None and wait and not task.ended:
        _wait(task, reply)
        return
    if task is not None:
        data = reply_of(changes, task)
    elif (ended := changes.state.ended.get(task_id)) is not None:
        data = reply_of_ended(changes, task_id, ended)
    else:
        data = TaskReply(kind="unknown", task=task_id, partition=changes.partition)
    changes.replies.append(Reply(*reply, data))


def _wait(task: Task, reply: tuple[int, bytes]) -> None:
    if task.waiters is None:
        task.waiters = [reply]
    elif reply not in task.waiters:
        del task.waiters[: -(WAITERS_MAX - 1)]
        task.waiters.append(reply)


# Workers


def _on_attempt(changes: Changes, conditions: Conditions, envelope: Envelope, report: r.AttemptReport) -> None:
    if misrouted(changes, envelope, report.root):
        return
    task = changes.state.tasks.get(report.task)
    decision: list[Struct] | AttemptRejection
    if task is None:
        ended = report.task in changes.state.ended
        decision = (
            Rejection("already_ended", "the task has ended") if ended else Rejection("unknown_task", "no such task is known")
        )
    else:
        decision = on_report(task.id, task.row, report, changes.now, changes.now_us)
    if isinstance(decision, Rejection):
        data = e.AttemptReportRejected(
            code=decision.code,
            reason=decision.reason,
            task=report.task,
            report=envelope.type,
            attempt=report.attempt,
            worker=report.incarnation,
        )
        changes.apply_to_engine(data)
        return
    assert task is not None
    changes.apply_all(task, decision)
    if isinstance(decision[-1], e.AttemptGranted):
        changes.grant_command(task)


def _on_worker(changes: Changes, conditions: Conditions, envelope: Envelope, report: r.WorkerReport) -> None:
    problem = check_worker(report)
    if problem is not None:
        raise InvalidReport(f"{envelope.type}: {problem}")
    if report.inbox >= INBOX_PARTITIONS:
        raise InvalidReport(f"{envelope.type}: inbox: must be between 0 and {INBOX_PARTITIONS - 1}, got {report.inbox}")
    home = partition_of(report.incarnation, changes.partitions) == changes.partition
    on_worker_report(changes, report, offset=envelope.offset, home=home)


def _on_worker_lost(changes: Changes, conditions: Conditions, envelope: Envelope, report: r.WorkerLost) -> None:
    on_worker_lost(changes, report.incarnation, report.reason)


Handler = Callable[[Changes, Conditions, Envelope, Any], None]

HANDLERS: dict[str, Handler] = {
    "task.created": _on_submission,
    "task.cancel": _on_cancel,
    "task.await": _on_await,
    "attempt.started": _on_attempt,
    "attempt.progressed": _on_attempt,
    "attempt.completed": _on_attempt,
    "attempt.failed": _on_attempt,
    "attempt.cancelled": _on_attempt,
    "attempt.released": _on_attempt,
    "worker.registered": _on_worker,
    "worker.heartbeat": _on_worker,
    "worker.draining": _on_worker,
    "worker.stopped": _on_worker,
    "worker.lost": _on_worker_lost,
}
