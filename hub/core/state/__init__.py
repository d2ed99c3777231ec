"""The state of an engine partition in memory: rows, indexes derived from them, and the reported state of workers."""

from .partition import PartitionState
from .task import Task
from .worker import Worker

__all__ = ["PartitionState", "Task", "Worker"]
