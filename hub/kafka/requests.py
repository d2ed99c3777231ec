"""The requests that the hub sends without aiokafka: those of a transactional session, and those that aiokafka lacks
(DescribeLogDirs, IncrementalAlterConfigs).

Functions named `*_request` build a message for `Connection.ask`; functions named `read_*` interpret its response. Produce is
in `protocol.produce`, EndTxn in `protocol.transactions`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..protocol import ApiKey, ErrorCode, Message, RequestType, TopicPartition, decode_response, encode_request
from ..protocol.primitives import take
from ..protocol.produce import FLEXIBLE_FROM, REQUEST_VERSION
from ..protocol.transactions import END_TXN_VERSION, IdentityAnswer
from .connection import Connection

PRODUCE = RequestType(ApiKey.PRODUCE, REQUEST_VERSION)
METADATA = RequestType(ApiKey.METADATA, 12)
FIND_COORDINATOR = RequestType(ApiKey.FIND_COORDINATOR, 4)
API_VERSIONS = RequestType(ApiKey.API_VERSIONS, 3)
INIT_PRODUCER_ID = RequestType(ApiKey.INIT_PRODUCER_ID, 5)
END_TXN = RequestType(ApiKey.END_TXN, END_TXN_VERSION)
IDEMPOTENT_PRODUCE = RequestType(ApiKey.PRODUCE, FLEXIBLE_FROM)
IDEMPOTENT_ID = RequestType(ApiKey.INIT_PRODUCER_ID, 4)
LEADERS = RequestType(ApiKey.METADATA, 9)
"""The requests of an idempotent producer, in versions that brokers from 2.8 on support; the contents are those of the newest."""
INCREMENTAL_ALTER_CONFIGS = RequestType(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1)
DESCRIBE_LOG_DIRS = tuple(RequestType(ApiKey.DESCRIBE_LOG_DIRS, version) for version in (4, 3, 2))
"""Versions in order of preference: 4 includes disk sizes; version 1 (brokers before 2.6) is not supported."""

_TRANSACTIONAL_ID = 1
"""Key type of a coordinator: a transactional id."""
_NO_ERROR = b"\0\0"
_TOPIC, _SET = 2, 0
"""Resource type; operation on a setting."""


# --- ApiVersions


class ApiVersions(NamedTuple):
    """The APIs of a broker: (lowest, highest) version by API key, and the finalized features of its cluster."""

    ranges: Mapping[int, tuple[int, int]]
    features: Mapping[str, int]

    def speaks(self, *kinds: RequestType) -> bool:
        """Whether the broker supports all of these request types."""
        return all(low <= kind.version <= high for kind in kinds for low, high in [self.ranges.get(kind.key, (1, 0))])


def api_versions_request(software: str, version: str) -> Message:
    """Request the supported API versions."""
    return {"client_software_name": software, "client_software_version": version}


def read_api_versions(body: bytes) -> ApiVersions:
    """Decode the response body. A broker that does not support this version responds with an error in version 0; the result
    then has no versions and features. Raises `MalformedMessage`."""
    if take(body, 0, 2) != _NO_ERROR:
        return ApiVersions({}, {})
    answer = decode_response(*API_VERSIONS, body)
    ranges = {entry["api_key"]: (entry["min_version"], entry["max_version"]) for entry in answer["api_keys"]}
    return ApiVersions(ranges, {entry["name"]: entry["max_version_level"] for entry in answer["finalized_features"]})


async def ask_versions(connection: Connection, *, timeout_seconds: float | None = None) -> ApiVersions:
    """The APIs of the connected broker. Raises `ConnectionLost`."""
    body = encode_request(*API_VERSIONS, api_versions_request("taskhub", "1"))
    return await connection.request(API_VERSIONS, body, read_api_versions, timeout_seconds=timeout_seconds)


# --- FindCoordinator


class Coordinator(NamedTuple):
    """The coordinator of a transactional id; host and port are valid if `code` is NONE."""

    code: int
    host: str
    port: int


def find_coordinator_request(transactional_id: str) -> Message:
    """Request the coordinator of a transactional id."""
    return {"key_type": _TRANSACTIONAL_ID, "coordinator_keys": [transactional_id]}


def read_find_coordinator(answer: Message) -> Coordinator:
    """The result for one key."""
    for one in answer["coordinators"]:
        return Coordinator(one["error_code"], one["host"], one["port"])
    return Coordinator(ErrorCode.UNKNOWN_SERVER_ERROR, "", 0)


# --- InitProducerId


def init_producer_id_request(transactional_id: str | None, transaction_timeout_ms: int) -> Message:
    """Initialise a transactional id: fences its owner and aborts the owner's open transaction. Without one, request a new
    producer id for an idempotent producer (`transaction_timeout_ms` has then no meaning)."""
    return {"transactional_id": transactional_id, "transaction_timeout_ms": transaction_timeout_ms, "producer_epoch": -1}


def read_identity(answer: Message) -> IdentityAnswer:
    """The result of InitProducerId: the identity to use from now on."""
    return IdentityAnswer(answer["error_code"], answer["producer_id"], answer["producer_epoch"])


# --- Metadata


class Leaders(NamedTuple):
    """Address of the leader of each partition that has one; `brokers` has all live brokers by node id."""

    addresses: Mapping[TopicPartition, tuple[str, int]]
    brokers: Mapping[int, tuple[str, int]]


def metadata_request(topics: Iterable[str]) -> Message:
    """Request the brokers and the leaders of these topics; does not create topics."""
    return {"topics": [{"name": name} for name in topics], "allow_auto_topic_creation": False}


def read_metadata(answer: Message) -> Leaders:
    """The leaders; unknown topics and partitions without a leader are omitted."""
    brokers = {entry["node_id"]: (entry["host"], entry["port"]) for entry in answer["brokers"]}
    leaders = {
        TopicPartition(topic["name"], entry["partition_index"]): brokers[entry["leader_id"]]
        for topic in answer["topics"]
        for entry in topic["partitions"]
        if entry["leader_id"] in brokers
    }
    return Leaders(leaders, brokers)


# --- IncrementalAlterConfigs


def alter_topics_request(changes: Mapping[str, Mapping[str, str]]) -> Message:
    """Change settings of topics; other settings keep their values."""
    resources = [
        {
            "resource_type": _TOPIC,
            "resource_name": topic,
            "configs": [{"name": name, "config_operation": _SET, "value": value} for name, value in settings.items()],
        }
        for topic, settings in changes.items()
    ]
    return {"resources": resources, "validate_only": False}


def read_alter_topics(answer: Message) -> dict[str, tuple[int, str | None]]:
    """Error code and error message by topic."""
    return {entry["resource_name"]: (entry["error_code"], entry["error_message"]) for entry in answer["responses"]}


# --- DescribeLogDirs


class LogDir(NamedTuple):
    """A log directory of a broker. `total_bytes` and `usable_bytes` describe its file system, None if unknown; `partitions`
    has the size of each replica in bytes."""

    code: int
    path: str
    partitions: Mapping[TopicPartition, int]
    total_bytes: int | None
    usable_bytes: int | None


def describe_log_dirs_request() -> Message:
    """Request all log directories of a broker with all topics."""
    return {"topics": None}


def read_log_dirs(answer: Message) -> list[LogDir]:
    """The log directories; an error of the whole request becomes one unnamed directory with its code."""
    if answer["error_code"] != ErrorCode.NONE:
        return [LogDir(answer["error_code"], "", {}, None, None)]
    return [_read_log_dir(result) for result in answer["results"]]


def _read_log_dir(result: Message) -> LogDir:
    sizes = {
        TopicPartition(topic["name"], entry["partition_index"]): entry["partition_size"]
        for topic in result["topics"]
        for entry in topic["partitions"]
    }
    total, usable = _known(result["total_bytes"]), _known(result["usable_bytes"])
    return LogDir(result["error_code"], result["log_dir"], sizes, total, usable)


def _known(size: int) -> int | None:
    return None if size < 0 else size
