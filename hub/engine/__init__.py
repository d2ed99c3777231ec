"""The engine: one partition as a value, the loop around it, and the services that own partitions. See README.md."""

from .encode import encode
from .loop import MissingHistory, PartitionLoop
from .partition import Batch, EnginePartition
from .service import EMBEDDED_MAX_RECORDS, ENGINE_GROUP, EmbeddedEngine, EngineService, EngineStopped
from .settings import EngineSettings, LoopSettings

__all__ = [
    "EMBEDDED_MAX_RECORDS",
    "ENGINE_GROUP",
    "Batch",
    "EmbeddedEngine",
    "EnginePartition",
    "EngineService",
    "EngineSettings",
    "EngineStopped",
    "LoopSettings",
    "MissingHistory",
    "PartitionLoop",
    "encode",
]
