"""How a task ended otherwise than well, as exceptions. Each carries the reply that said so."""

from schemas import TaskError, TaskReply

from ..errors import HubError, Unreachable


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
    """It failed for good."""


class TaskCancelledError(TaskNotCompletedError):
    """Somebody cancelled it."""


class TaskExpiredError(TaskNotCompletedError):
    """It was not started in time."""


class TaskSkippedError(TaskNotCompletedError):
    """It can never run: a dependency ended otherwise than needed."""


class TaskRejectedError(TaskNotCompletedError):
    """It was refused; `reply.code` and `reply.reason` say why."""


class TaskUnknownError(TaskNotCompletedError):
    """Neither alive nor among the tasks that ended lately."""


class NoAnswerError(Unreachable, TimeoutError):
    """The broker took the question, and no engine answered it in time."""

    def __init__(self, task: str, bootstrap: str, seconds: float) -> None:
        super().__init__(
            f"No engine answered about task {task} within {seconds:g} s at {bootstrap}. Is one running? See `hub status`."
        )


class RepliesFailedError(HubError):
    """This client cannot read replies any more. Tasks are not affected: a new client can ask for them."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"This client cannot read replies any more ({type(cause).__name__}: {cause}). Its tasks continue: "
            "ask for them with a new client, or with `hub task get`."
        )


class UnreadableReplyError(HubError):
    """The engine's answer about a task cannot be read, as that of a later release of taskhub may be."""

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"The reply about task {task} cannot be read: {reason}. Its state is in its events (`hub task watch {task}`); "
            "if the hub runs a later release of taskhub, install the same one here."
        )


class InvalidSubmissionError(HubError, ValueError):
    """What was to be submitted cannot be: the message names the field."""

    exit_code = 2


_BY_STATE = {"failed": TaskFailedError, "cancelled": TaskCancelledError, "expired": TaskExpiredError, "skipped": TaskSkippedError}


def error_of(reply: TaskReply) -> TaskNotCompletedError | None:
    """The exception for a reply; None where it tells of a completed task, or of one that still lives."""
    if reply.kind == "rejected":
        return TaskRejectedError(f"Task {reply.task} was rejected ({reply.code}): {reply.reason}", reply)
    if reply.kind == "unknown":
        return TaskUnknownError(f"Task {reply.task} is unknown or has expired.", reply)
    kind = _BY_STATE.get(reply.state or "")
    if kind is None:
        return None
    why = reply.reason
    if reply.error is not None and reply.state != "cancelled":
        why = f"{reply.error.type}: {reply.error.message}"
    return kind(f"Task {reply.task} ({reply.name}) {reply.state}{f': {why}' if why else ''}", reply)
