"""What each type of report does: the table `HANDLERS`, from a decoded report to changes of one partition.

A handler raises InvalidReport before it changes anything, or not at all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import DecodeError, Struct, ValidationError

from schemas import Submission, TaskReply
from schemas import events as e
from schemas import reports as r

from ..core.admission import Duplicate, Origin, admit, identify
from ..core.attempts import Refusal, on_report
from ..core.consequences import place, reply_of, reply_of_ended
from ..core.due import create_nodes, request_cancel
from ..core.graph import Refused
from ..core.limits import check_cancel, check_ids
from ..core.state import Task
from ..core.turn import Reply, Turn
from ..core.workers import check_worker, on_worker_lost, on_worker_report
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


def handle(turn: Turn, conditions: Conditions, envelope: Envelope) -> None:
    """Decide one report. Raises InvalidReport, and then nothing has changed."""
    if envelope.type not in REQUESTS:
        HANDLERS[envelope.type](turn, conditions, envelope, decode_report(envelope))
        return
    try:
        report = DECODERS[envelope.type].decode(envelope.value)
    except ValidationError as error:
        turn.reject("malformed", str(error), report=envelope.type, task=None, reply=envelope.reply)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReport(f"the value is not JSON: {error}") from None
    else:
        HANDLERS[envelope.type](turn, conditions, envelope, report)


def misrouted(turn: Turn, envelope: Envelope, root: str) -> bool:
    """Forward a record to the partition of its root: once. One that was forwarded to the wrong partition is invalid."""
    if turn.partitions == 1:
        return False
    home = partition_of(root, turn.partitions)
    if home == turn.partition:
        return False
    if envelope.forwarded_from is not None:
        raise InvalidReport(f"forwarded from {envelope.forwarded_from} to the wrong partition")
    turn.forwards.append((home, envelope.record))
    data = e.EngineReportForwarded(partition=home, offset=envelope.offset, report=envelope.type)
    turn.apply_to_engine(data)
    return True


# Submissions


def _on_submission(turn: Turn, conditions: Conditions, envelope: Envelope, submission: Submission) -> None:
    origin = Origin(envelope.source, envelope.event_id, envelope.forwarded_from)
    identity = identify(submission, origin)
    if isinstance(identity, Refused):
        _refuse(turn, envelope, identity, submission.id)
        return
    task_id, root_id = identity
    if misrouted(turn, envelope, root_id):
        return
    admitted = admit(
        turn.state,
        submission,
        task_id,
        origin,
        now_us=turn.now_us,
        log_offset=conditions.log_offset,
        waiting_max=conditions.waiting_max,
        storage_low=conditions.storage_low,
    )
    if isinstance(admitted, Refused):
        _refuse(turn, envelope, admitted, task_id)
        return
    if isinstance(admitted, Duplicate):
        _on_duplicate(turn, admitted, submission.idempotency_key, envelope.reply)
        return
    trace = envelope.traceparent
    if admitted.root is not None:
        nodes = admitted.root.row.nodes + len(admitted.tasks)
        turn.apply(admitted.root, e.WorkflowExpanded(added=len(admitted.tasks), nodes=nodes))
        trace = trace or admitted.root.row.traceparent
    for new in admitted.tasks:
        task = turn.create(new, life=envelope.offset, traceparent=trace)
        if new.plan is not None:
            create_nodes(turn, task)
        else:
            place(turn, task)
    if envelope.reply is not None and (waited := turn.state.tasks.get(task_id)) is not None:
        _wait(waited, envelope.reply)


def _refuse(turn: Turn, envelope: Envelope, refused: Refused, task: str | None) -> None:
    turn.reject(refused.code, refused.reason, report=envelope.type, task=task, reply=envelope.reply)


def _on_duplicate(turn: Turn, known: Duplicate, key: str | None, reply: tuple[int, bytes] | None) -> None:
    if known.live is not None:
        life, state = known.live.row.life, known.live.row.state
    else:
        assert known.ended is not None
        life, state = known.ended.life, known.ended.ended
    data = e.TaskDeduplicated(task=known.task, life=life, state=state, idempotency_key=key)
    turn.apply_to_engine(data)
    if reply is not None:
        _answer(turn, known.task, reply, wait=True)


# Requests


def _on_cancel(turn: Turn, conditions: Conditions, envelope: Envelope, report: r.TaskCancel) -> None:
    if (problem := check_ids(report)) is not None:
        _refuse(turn, envelope, Refused("malformed", problem), report.id)
        return
    if misrouted(turn, envelope, report.root or report.id):
        return
    if (problem := check_cancel(report)) is not None:
        _refuse(turn, envelope, Refused("invalid_input", problem), report.id)
        return
    task = turn.state.tasks.get(report.id)
    if task is None or task.ended:
        ended = task is not None or report.id in turn.state.ended
        code = "already_ended" if ended else "unknown_task"
        reason = "id: the task has ended" if ended else f"id: there is no task {report.id!r} on this partition"
        _refuse(turn, envelope, Refused(code, reason), report.id)
    elif task.row.cancelling:
        _refuse(turn, envelope, Refused("already_cancelling", "id: the task is being cancelled already"), report.id)
    else:
        if envelope.reply is not None:
            _wait(task, envelope.reply)
        request_cancel(turn, task, report.reason, report.by)


def _on_await(turn: Turn, conditions: Conditions, envelope: Envelope, report: r.TaskAwait) -> None:
    if (problem := check_ids(report)) is not None:
        _refuse(turn, envelope, Refused("malformed", problem), report.id)
        return
    if misrouted(turn, envelope, report.root or report.id):
        return
    if envelope.reply is None:
        raise InvalidReport("replyto: is missing or malformed; an await needs it, as <partition>:<token> of hub.replies")
    _answer(turn, report.id, envelope.reply, wait=report.wait)


def _answer(turn: Turn, task_id: str, reply: tuple[int, bytes], *, wait: bool) -> None:
    task = turn.state.tasks.get(task_id)
    if task is not None and wait and not task.ended:
        _wait(task, reply)
        return
    if task is not None:
        data = reply_of(turn, task)
    elif (ended := turn.state.ended.get(task_id)) is not None:
        data = reply_of_ended(turn, task_id, ended)
    else:
        data = TaskReply(kind="unknown", task=task_id, partition=turn.partition)
    turn.replies.append(Reply(*reply, data))


def _wait(task: Task, reply: tuple[int, bytes]) -> None:
    if task.waiters is None:
        task.waiters = [reply]
    elif reply not in task.waiters:
        del task.waiters[: -(WAITERS_MAX - 1)]
        task.waiters.append(reply)


# Workers


def _on_attempt(turn: Turn, conditions: Conditions, envelope: Envelope, report: r.AttemptReport) -> None:
    if misrouted(turn, envelope, report.root):
        return
    task = turn.state.tasks.get(report.task)
    decision: list[Struct] | Refusal
    if task is None:
        ended = report.task in turn.state.ended
        decision = Refusal("already_ended", "the task has ended") if ended else Refusal("unknown_task", "no such task is known")
    else:
        decision = on_report(task.id, task.row, report, turn.now, turn.now_us)
    if isinstance(decision, Refusal):
        data = e.AttemptReportRejected(
            code=decision.code,  # type: ignore[arg-type]  # the codes are those of the event
            reason=decision.reason,
            task=report.task,
            report=envelope.type,
            attempt=report.attempt,
            worker=report.incarnation,
        )
        turn.apply_to_engine(data)
        return
    assert task is not None
    turn.apply_all(task, decision)
    if isinstance(decision[-1], e.AttemptGranted):
        turn.grant_command(task)


def _on_worker(turn: Turn, conditions: Conditions, envelope: Envelope, report: r.WorkerReport) -> None:
    problem = check_worker(report)
    if problem is not None:
        raise InvalidReport(f"{envelope.type}: {problem}")
    if report.inbox >= INBOX_PARTITIONS:
        raise InvalidReport(f"{envelope.type}: inbox: must be between 0 and {INBOX_PARTITIONS - 1}, got {report.inbox}")
    home = partition_of(report.incarnation, turn.partitions) == turn.partition
    on_worker_report(turn, report, offset=envelope.offset, home=home)


def _on_worker_lost(turn: Turn, conditions: Conditions, envelope: Envelope, report: r.WorkerLost) -> None:
    on_worker_lost(turn, report.incarnation, report.reason)


Handler = Callable[[Turn, Conditions, Envelope, Any], None]

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
