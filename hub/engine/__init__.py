"""The engine: a partition as a value, its loop, and the services that own partitions. See README.md.

The engine in the process of the embedded broker is `hub.engine.embedded`, the only module that imports the broker.
"""

from .encode import encode
from .figures import PartitionFigures, QueueBacklog
from .format import FormatMismatch, check_hub_format
from .loop import MissingHistory, PartitionLoop
from .partition import DecidedBatch, EnginePartition
from .progress import PartitionProgress
from .service import ENGINE_GROUP, EngineFailedError, EngineService
from .settings import EngineSettings, LoopSettings

__all__ = [
    "ENGINE_GROUP",
    "DecidedBatch",
    "EngineFailedError",
    "EnginePartition",
    "EngineService",
    "EngineSettings",
    "FormatMismatch",
    "LoopSettings",
    "MissingHistory",
    "PartitionFigures",
    "PartitionLoop",
    "PartitionProgress",
    "QueueBacklog",
    "check_hub_format",
    "encode",
]
