"""taskhub: runs tasks and workflows on an event log. The public interface; each name is imported when it is first used.

>>> from hub import Hub, TaskRegistry, Workflow, RetryLater, Permanent, TaskContext
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

__distribution__ = "taskhub"
__version__ = "0.1.0"

_HOMES = {
    "Cluster": ".kafka",
    "Hub": ".client",
    "HubError": ".errors",
    "InvalidRequestError": ".client",
    "InvalidSubmissionError": ".client",
    "NoAnswerError": ".client",
    "Permanent": ".worker",
    "RepliesFailedError": ".client",
    "RetryLater": ".worker",
    "TaskCancelledError": ".client",
    "TaskContext": ".worker",
    "TaskExpiredError": ".client",
    "TaskFailedError": ".client",
    "TaskHandle": ".client",
    "TaskRegistry": ".worker",
    "TaskRejectedError": ".client",
    "TaskSkippedError": ".client",
    "TaskUnknownError": ".client",
    "UnreadableReplyError": ".client",
    "WaitTimeoutError": ".client",
    "Worker": ".worker",
    "WorkerSettings": ".worker",
    "Workflow": ".client",
}

__all__ = [
    "Backoff",
    "Cluster",
    "Event",
    "Hub",
    "HubError",
    "InvalidRequestError",
    "InvalidSubmissionError",
    "NoAnswerError",
    "Permanent",
    "RepliesFailedError",
    "RetryLater",
    "RetryPolicy",
    "TaskCancelledError",
    "TaskContext",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskHandle",
    "TaskRegistry",
    "TaskRejectedError",
    "TaskSkippedError",
    "TaskUnknownError",
    "UnreadableReplyError",
    "WaitTimeoutError",
    "Worker",
    "WorkerSettings",
    "Workflow",
]

for _name in ("schemas", "subscribers"):
    _spec = find_spec(_name)
    _origin = _spec.origin if _spec is not None else None
    if _origin is None or f'__distribution__ = "{__distribution__}"' not in Path(_origin).read_text():
        _found = _origin or ", ".join((_spec and _spec.submodule_search_locations) or ["nothing"])  # a folder has no origin
        raise ImportError(
            f"{_name!r} resolves to {_found}, which is not taskhub's; another module of that name shadows it. "
            "Rename that module, or install the hub into a separate environment."
        )

if TYPE_CHECKING:
    from schemas import Backoff, Event, RetryPolicy

    from .client import (
        Hub,
        InvalidRequestError,
        InvalidSubmissionError,
        NoAnswerError,
        RepliesFailedError,
        TaskCancelledError,
        TaskExpiredError,
        TaskFailedError,
        TaskHandle,
        TaskRejectedError,
        TaskSkippedError,
        TaskUnknownError,
        WaitTimeoutError,
        Workflow,
    )
    from .errors import HubError
    from .kafka import Cluster
    from .worker import Permanent, RetryLater, TaskContext, TaskRegistry, Worker, WorkerSettings


def __getattr__(name: str) -> Any:
    if name in ("Backoff", "Event", "RetryPolicy"):
        return getattr(import_module("schemas"), name)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    return getattr(import_module(home, __name__), name)
