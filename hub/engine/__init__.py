"""The engine: one partition as a value, the loop around it, and the services that own partitions. See README.md."""

from .encode import encode
from .loop import LoopSettings, MissingHistory, PartitionLoop
from .partition import Batch, EnginePartition, EngineSettings
from .service import ENGINE_GROUP, EmbeddedEngine, EngineService, EngineStopped

__all__ = [
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
