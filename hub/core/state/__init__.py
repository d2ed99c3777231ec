"""The state of an engine partition in memory: rows, indexes derived from them, and the reported state of workers."""

from .definitions import Definitions, KnownDefinition
from .partition import RESTING, TIMED, PartitionState
from .task import Task
from .worker import LiveWorker

__all__ = ["RESTING", "TIMED", "Definitions", "KnownDefinition", "LiveWorker", "PartitionState", "Task"]
