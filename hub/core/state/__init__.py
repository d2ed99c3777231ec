"""What an engine partition holds in memory: rows, what is derived from them, and what workers reported of themselves."""

from .partition import PartitionState
from .task import Task
from .worker import LiveWorker

__all__ = ["LiveWorker", "PartitionState", "Task"]
