"""The engine: one partition as a value, the loop around it, and the services that own partitions. See README.md.

The engine inside the embedded broker's process is `hub.engine.embedded`: it alone loads the broker.
"""

from .encode import encode
from .format import FormatMismatch, check_hub_format
from .loop import MissingHistory, PartitionLoop
from .partition import DecidedBatch, EnginePartition
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
    "PartitionLoop",
    "check_hub_format",
    "encode",
]
