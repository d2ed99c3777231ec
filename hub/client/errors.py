"""Exceptions for tasks that did not complete, each with the engine's reply, and for requests that failed."""

from schemas import TaskError, TaskReply

from ..errors import HubError, Unreachable

#: The partition in a reply that does not come from an engine.
NO_PARTITION = -1


class TaskNotCompletedError(HubError):
    """The base class. `task`: the task's id; `reply`: the engine's reply."""

    def __init__(self, message: str, reply: TaskReply) -> None:
        super().__init__(message)
        self.task = reply.task
        self.reply = reply

    @property
    def error(self) -> TaskError | None:
        """The error of the last attempt, if there is one."""
        return self.reply.error


class TaskFailedError(TaskNotCompletedError):
    """The task failed."""


class TaskCancelledError(TaskNotCompletedError):
    """The task was cancelled."""


class TaskExpiredError(TaskNotCompletedError):
    """The task was not started within its timeout."""


class TaskSkippedError(TaskNotCompletedError):
    """The task cannot run, because a dependency did not end in the required state."""


class TaskRejectedError(TaskNotCompletedError):
    """The request was rejected; `code` is the reason for programs, `reason` for people."""

    @property
    def code(self) -> str:
        """The code of `task.rejected`: invalid_input, cycle, idempotency_conflict, ..."""
        return self.reply.code or ""

    @property
    def reason(self) -> str:
        """The field and its fault."""
        return self.reply.reason or ""


class TaskUnknownError(TaskNotCompletedError):
    """The task is neither live nor among the recently ended tasks."""


class NoAnswerError(Unreachable, TimeoutError):
    """The request is stored, but no engine responded within the timeout."""

    def __init__(self, task: str, bootstrap: str, seconds: float) -> None:
        super().__init__(
            f"No engine responded about task {task} within {seconds:g} s at {bootstrap}. Check with `hub status` that one runs."
        )


class RepliesFailedError(HubError):
    """This client can no longer read replies. Tasks are not affected; a new client can request their outcomes."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"This client can no longer read replies ({type(cause).__name__}: {cause}). Its tasks continue: "
            "query them with a new client, or with `hub task get`."
        )


class UnreadableReplyError(HubError):
    """The engine's reply about a task cannot be decoded, for example because a later release of taskhub wrote it."""

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"The reply about task {task} cannot be decoded: {reason}. Its state is in its events (`hub task watch {task}`); "
            "if the hub runs a later release of taskhub, install that release here."
        )


class InvalidRequestError(TaskRejectedError, ValueError):
    """The request is invalid and was not sent; `code` and `reason` are those of the engine."""

    exit_code = 2
    what = "request"

    def __init__(self, reason: str, *, code: str = "invalid_input", task: str = "") -> None:
        reply = TaskReply(kind="rejected", task=task, partition=NO_PARTITION, code=code, reason=reason)
        super().__init__(f"The {self.what} is invalid ({code}): {reason}", reply)


class InvalidSubmissionError(InvalidRequestError):
    """The submission is invalid and was not sent; the message names the field."""

    what = "submission"


class WaitTimeoutError(HubError, TimeoutError):
    """The timeout of a wait expired; the task continues. `state`: its state, if known."""

    exit_code = 5

    def __init__(self, task: str, seconds: float, state: str | None) -> None:
        is_now = f"; it is {state}" if state else ""
        super().__init__(
            f"Task {task} has not ended within {seconds:g} s{is_now}. It continues: use a longer timeout (`timeout_seconds`,"
            f" --timeout), or follow it with `hub task watch {task}`."
        )
        self.task = task
        self.seconds = seconds
        self.state = state


_BY_STATE = {"failed": TaskFailedError, "cancelled": TaskCancelledError, "expired": TaskExpiredError, "skipped": TaskSkippedError}


def error_of(reply: TaskReply) -> TaskNotCompletedError | None:
    """The exception for a reply; None if the task completed or is live."""
    if reply.kind == "rejected":
        return TaskRejectedError(f"{_subject(reply)} was rejected ({reply.code}): {reply.reason}", reply)
    if reply.kind == "unknown":
        return TaskUnknownError(f"Task {reply.task} is unknown or has expired.", reply)
    kind = _BY_STATE.get(reply.state or "")
    if kind is None:
        return None
    why = reply.reason
    if reply.error is not None and reply.state != "cancelled":
        why = f"{reply.error.type}: {reply.error.message}"
    return kind(f"Task {reply.task} ({reply.name}) {reply.state}{f': {why}' if why else ''}", reply)


def _subject(reply: TaskReply) -> str:
    return f"The request about task {reply.task}" if reply.task else "The request"
