"""The embedded broker: a single node that speaks the Kafka protocol, on files or in memory. See README.md."""

from .broker import Broker
from .errors import AddressInUse, BrokerError, DataDirectoryInUse, OtherFormat, StorageDamaged
from .figures import BrokerFigures
from .local import Fetched, LocalBroker, ProducerId
from .server import BrokerServer
from .settings import BrokerSettings
from .storage import MemoryStorage, Storage

__all__ = [
    "AddressInUse",
    "Broker",
    "BrokerError",
    "BrokerFigures",
    "BrokerServer",
    "BrokerSettings",
    "DataDirectoryInUse",
    "Fetched",
    "LocalBroker",
    "MemoryStorage",
    "OtherFormat",
    "ProducerId",
    "Storage",
    "StorageDamaged",
]
