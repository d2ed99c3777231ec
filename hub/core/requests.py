"""Requests of clients: submissions, cancels, awaits. Rejected requests get a reply."""

from schemas import Submission, TaskReply
from schemas import events as e
from schemas import reports as r
from schemas.events import RejectionCode

from .admission.admit import admit
from .admission.identity import identify
from .admission.outcomes import Duplicate
from .bounds import check_cancel, check_ids
from .changes import Changes
from .emitted import Reply
from .envelope import Envelope, InvalidReport
from .rejection import Rejection, TaskRejection
from .routing import misrouted
from .tasks.replies import reply_of, reply_of_ended
from .tasks.tracing import linked_traceparent, root_traceparent, step_traceparent
from .workflows.cancelling import request_cancel
from .workflows.dependencies import place
from .workflows.expansion import create_steps

# Submissions


def on_submission(changes: Changes, envelope: Envelope, submission: Submission) -> None:
    """Process the submission of a task, of a workflow, or of steps for a live workflow."""
    identity = identify(submission, envelope)
    if isinstance(identity, Rejection):
        _reject(changes, envelope, identity, submission.id)
        return
    if misrouted(changes, envelope, identity.root):
        return
    task_id = identity.task
    admitted = admit(changes, submission, task_id, envelope)
    if isinstance(admitted, Rejection):
        _reject(changes, envelope, admitted, task_id)
        return
    if isinstance(admitted, Duplicate):
        _on_duplicate(changes, admitted, submission.idempotency_key, envelope.reply)
        return
    trace = envelope.traceparent
    if admitted.root is not None:
        total = admitted.root.row.steps.total + len(admitted.tasks)
        changes.apply(admitted.root, e.WorkflowExpanded(added=len(admitted.tasks), steps_total=total))
        trace = trace or step_traceparent(admitted.root, envelope.offset)
    elif trace is not None and submission.parent_id is not None and envelope.reply is None:
        admitted.tasks[0].data.trace_link = trace
        trace = linked_traceparent(task_id, envelope.offset, trace)
    elif trace is None:
        trace = root_traceparent(task_id, envelope.offset, changes.settings.trace_sample)
    for new in admitted.tasks:
        task = changes.create(new, run=envelope.offset, traceparent=trace)
        if new.plan is not None:
            create_steps(changes, task)
        else:
            place(changes, task)
    if envelope.reply is not None and task_id in changes.state.tasks:
        changes.state.waiters.add(task_id, envelope.reply)
        if admitted.warning is not None:
            reply = TaskReply(kind="accepted", task=task_id, partition=changes.partition, warning=admitted.warning)
            changes.replies.append(Reply(*envelope.reply, reply))


def _reject(changes: Changes, envelope: Envelope, rejection: TaskRejection, task: str | None) -> None:
    changes.reject(rejection.code, rejection.reason, report=envelope.type, task=task, reply=envelope.reply)


def _on_duplicate(changes: Changes, known: Duplicate, key: str | None, reply: tuple[int, bytes] | None) -> None:
    if known.live is not None:
        run, state = known.live.row.run, known.live.row.state
    else:
        assert known.ended is not None
        run, state = known.ended.run, known.ended.ended
    data = e.TaskDeduplicated(task=known.task, run=run, state=state, idempotency_key=key)
    changes.apply_to_engine(data)
    if reply is not None:
        _answer(changes, known.task, reply, wait=True)


# Requests


def on_cancel(changes: Changes, envelope: Envelope, report: r.TaskCancel) -> None:
    """Process a cancel request of a client or operator."""
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
        reason = "id: the task has ended" if ended else f"id: task {report.id!r} does not exist on this partition"
        _reject(changes, envelope, Rejection(code, reason), report.id)
    elif task.row.cancel is not None:
        _reject(changes, envelope, Rejection("already_cancelling", "id: the task is already being cancelled"), report.id)
    else:
        if envelope.reply is not None:
            changes.state.waiters.add(task.id, envelope.reply)
        request_cancel(changes, task, report.reason, report.by)


def on_await(changes: Changes, envelope: Envelope, report: r.TaskAwait) -> None:
    """Process a request for the outcome or the state of a task."""
    if (problem := check_ids(report)) is not None:
        _reject(changes, envelope, Rejection("malformed", problem), report.id)
        return
    if misrouted(changes, envelope, report.root or report.id):
        return
    if envelope.reply is None:
        raise InvalidReport("replyto: missing or malformed; task.await requires <partition>:<token> of hub.replies")
    _answer(changes, report.id, envelope.reply, wait=report.wait)


def _answer(changes: Changes, task_id: str, reply: tuple[int, bytes], *, wait: bool) -> None:
    task = changes.state.tasks.get(task_id)
    if task is not None and wait and not task.ended:
        changes.state.waiters.add(task_id, reply)
        return
    if task is not None:
        data = reply_of(changes, task)
    elif (ended := changes.state.ended.get(task_id)) is not None:
        data = reply_of_ended(changes, task_id, ended)
    else:
        data = TaskReply(kind="unknown", task=task_id, partition=changes.partition)
    changes.replies.append(Reply(*reply, data))
