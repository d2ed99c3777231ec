"""The client: submits, waits for, watches and cancels tasks. See README.md."""

from .errors import (
    InvalidRequestError,
    InvalidSubmissionError,
    NoAnswerError,
    RepliesFailedError,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
    TaskNotCompletedError,
    TaskRejectedError,
    TaskSkippedError,
    TaskUnknownError,
    UnreadableReplyError,
    WaitTimeoutError,
    error_of,
)
from .handle import TaskHandle
from .hub import DEFAULT_BOOTSTRAP, Hub
from .workflow import Workflow

__all__ = [
    "DEFAULT_BOOTSTRAP",
    "Hub",
    "InvalidRequestError",
    "InvalidSubmissionError",
    "NoAnswerError",
    "RepliesFailedError",
    "TaskCancelledError",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskHandle",
    "TaskNotCompletedError",
    "TaskRejectedError",
    "TaskSkippedError",
    "TaskUnknownError",
    "UnreadableReplyError",
    "WaitTimeoutError",
    "Workflow",
    "error_of",
]
