"""How a task ended otherwise than well, as exceptions. Each carries the reply that said so."""

from schemas import TaskError, TaskReply

from ..errors import HubError, Unreachable

#: Of a reply that no engine gave.
NO_PARTITION = -1


class TaskNotCompletedError(HubError):
    """The base: `task` is the id, `reply` what the engine answered."""

    def __init__(self, message: str, reply: TaskReply) -> None:
        super().__init__(message)
        self.task = reply.task
        self.reply = reply

    @property
    def error(self) -> TaskError | None:
        """Why the last attempt failed, where there was one."""
        return self.reply.error


class TaskFailedError(TaskNotCompletedError):
    """The task failed."""


class TaskCancelledError(TaskNotCompletedError):
    """Somebody cancelled it."""


class TaskExpiredError(TaskNotCompletedError):
    """It was not started in time."""


class TaskSkippedError(TaskNotCompletedError):
    """It can never run: a dependency ended otherwise than needed."""


class TaskRejectedError(TaskNotCompletedError):
    """It was refused: `code` says why for programs, `reason` for people."""

    @property
    def code(self) -> str:
        """As in `task.rejected`: invalid_input, cycle, idempotency_conflict, ..."""
        return self.reply.code or ""

    @property
    def reason(self) -> str:
        """The field, and what is wrong with it."""
        return self.reply.reason or ""


class TaskUnknownError(TaskNotCompletedError):
    """Neither alive nor among the tasks that ended lately."""


class NoAnswerError(Unreachable, TimeoutError):
    """The broker took the question, and no engine answered it in time."""

    def __init__(self, task: str, bootstrap: str, seconds: float) -> None:
        super().__init__(
            f"No engine answered about task {task} within {seconds:g} s at {bootstrap}. Is one running? See `hub status`."
        )


class RepliesFailedError(HubError):
    """This client can no longer read replies. Tasks are not affected; a new client can request their outcomes."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"This client can no longer read replies ({type(cause).__name__}: {cause}). Its tasks continue: "
            "ask for them with a new client, or with `hub task get`."
        )


class UnreadableReplyError(HubError):
    """The engine's answer about a task cannot be read, as that of a later release of taskhub may be."""

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"The reply about task {task} cannot be read: {reason}. Its state is in its events (`hub task watch {task}`); "
            "if the hub runs a later release of taskhub, install the same one here."
        )


class InvalidRequestError(TaskRejectedError, ValueError):
    """What was asked cannot be, and nothing was sent: `code` and `reason` are what the engine would answer."""

    exit_code = 2
    what = "request"

    def __init__(self, reason: str, *, code: str = "invalid_input", task: str = "") -> None:
        reply = TaskReply(kind="rejected", task=task, partition=NO_PARTITION, code=code, reason=reason)
        super().__init__(f"The {self.what} is invalid ({code}): {reason}", reply)


class InvalidSubmissionError(InvalidRequestError):
    """What was to be submitted cannot be: the message names the field."""

    what = "submission"


class WaitTimeoutError(HubError, TimeoutError):
    """A task has not ended in the time that somebody waited for it; it continues. `state`: as far as it is known."""

    exit_code = 5

    def __init__(self, task: str, seconds: float, state: str | None) -> None:
        is_now = f"; it is {state}" if state else ""
        super().__init__(
            f"Task {task} has not ended within {seconds:g} s{is_now}. It continues: wait longer (`timeout_seconds`, --timeout),"
            f" or follow it with `hub task watch {task}`."
        )
        self.task = task
        self.seconds = seconds
        self.state = state


_BY_STATE = {"failed": TaskFailedError, "cancelled": TaskCancelledError, "expired": TaskExpiredError, "skipped": TaskSkippedError}


def error_of(reply: TaskReply) -> TaskNotCompletedError | None:
    """The exception for a reply; None where it tells of a completed task, or of one that still lives."""
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
