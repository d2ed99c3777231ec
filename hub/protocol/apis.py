"""The supported APIs by key, and request types (an API and a version)."""

from enum import IntEnum
from typing import NamedTuple

from . import configs, fetch, groups, metadata, offsets, produce, topics, transactions
from .definition import Api, parse_definitions


class ApiKey(IntEnum):
    """API keys of Kafka's protocol (https://kafka.apache.org/protocol#protocol_api_keys)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    INCREMENTAL_ALTER_CONFIGS = 44
    DESCRIBE_CLUSTER = 60


FAMILIES = (produce, fetch, metadata, groups, offsets, transactions, topics, configs)

APIS: dict[int, Api] = {key: api for family in FAMILIES for key, api in parse_definitions(family.DEFINITIONS).items()}


class RequestType(NamedTuple):
    """An API in one version."""

    key: ApiKey
    version: int

    @property
    def name(self) -> str:
        """Kafka's name of the API."""
        return APIS[self.key].name

    @property
    def flexible(self) -> bool:
        """Whether its messages use compact lengths and tagged fields (KIP-482)."""
        return APIS[self.key].flexible(self.version)
