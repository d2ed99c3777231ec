"""Workers: a registry of handlers, an executor, leases, drain. See README.md."""

from .context import Permanent, RetryLater, TaskContext
from .outcome import Cancelled, Failed, Outcome, Succeeded
from .registry import TaskDefinition, TaskRegistry, load_registry
from .settings import SpanExport, WorkerSettings
from .worker import Worker

__all__ = [
    "Cancelled",
    "Failed",
    "Outcome",
    "Permanent",
    "RetryLater",
    "SpanExport",
    "Succeeded",
    "TaskContext",
    "TaskDefinition",
    "TaskRegistry",
    "Worker",
    "WorkerSettings",
    "load_registry",
]
