"""What users import to submit, wait, watch and cancel. See README.md."""

from .errors import (
    InvalidSubmission,
    NoAnswer,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskNotCompleted,
    TaskRejected,
    TaskSkipped,
    TaskUnknown,
    UnreadableReply,
    error_of,
)
from .handle import TaskHandle
from .hub import DEFAULT_BOOTSTRAP, Hub
from .workflow import Workflow

__all__ = [
    "DEFAULT_BOOTSTRAP",
    "Hub",
    "InvalidSubmission",
    "NoAnswer",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskHandle",
    "TaskNotCompleted",
    "TaskRejected",
    "TaskSkipped",
    "TaskUnknown",
    "UnreadableReply",
    "Workflow",
    "error_of",
]
