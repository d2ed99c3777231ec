"""The six requests of a transactional session, and two that aiokafka lacks (DescribeLogDirs, IncrementalAlterConfigs),
encoded by hand: Kafka's flexible format (KIP-482).

By hand, because a general library costs more here than it saves: kio takes 130 ms to import and seven times as long to
encode a small produce request. The tests hold every function against kio. Source of the layouts:
`clients/src/main/resources/common/message` of Apache Kafka.

Functions named `*_request` return the body that follows the header; functions named `read_*` take the body that follows
the answer's header.
"""

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from .records import TopicPartition


class Api(NamedTuple):
    """A request type in one version."""

    name: str
    key: int
    version: int
    flexible_answer_header: bool = True


PRODUCE = Api("Produce", 0, 12)
METADATA = Api("Metadata", 3, 12)
FIND_COORDINATOR = Api("FindCoordinator", 10, 4)
API_VERSIONS = Api("ApiVersions", 18, 3, flexible_answer_header=False)
INIT_PRODUCER_ID = Api("InitProducerId", 22, 5)
END_TXN = Api("EndTxn", 26, 5)
INCREMENTAL_ALTER_CONFIGS = Api("IncrementalAlterConfigs", 44, 1)
DESCRIBE_LOG_DIRS = tuple(Api("DescribeLogDirs", 35, version) for version in (4, 3, 2))
"""The best version first: 4 also carries the size of the disk; 1, of brokers before 2.6, is not spoken here."""


class Code(IntEnum):
    """The protocol's error codes that a session distinguishes (https://kafka.apache.org/protocol#protocol_error_codes)."""

    NONE = 0
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    MESSAGE_TOO_LARGE = 10
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    TOPIC_AUTHORIZATION_FAILED = 29
    CLUSTER_AUTHORIZATION_FAILED = 31
    UNSUPPORTED_VERSION = 35
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    INVALID_RECORD = 87
    PRODUCER_FENCED = 90
    TRANSACTION_ABORTABLE = 120


def name_of(code: int) -> str:
    """The protocol's name of an error code, as far as known here."""
    try:
        return Code(code).name
    except ValueError:
        return f"error {code}"


# --- building blocks

_HEADER = struct.Struct(">ihhi")
_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_NO_TAGS = b"\x00"
_NO_TOPIC_ID = bytes(16)


def frame(api: Api, correlation_id: int, client_id: bytes, body: bytes) -> bytes:
    """A whole request: length, header version 2, body."""
    length = 11 + len(client_id) + len(body)
    return b"".join(
        (
            _HEADER.pack(length, api.key, api.version, correlation_id),
            _INT16.pack(len(client_id)),
            client_id,
            _NO_TAGS,
            body,
        )
    )


def uvarint(number: int) -> bytes:
    """Unsigned variable-length number."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return uvarint(len(encoded) + 1) + encoded


class Reader:
    """Reads an answer from front to back. A body that is too short raises `struct.error` or `IndexError`."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def _unpack(self, kind: struct.Struct) -> int:
        value: int = kind.unpack_from(self.data, self.position)[0]
        self.position += kind.size
        return value

    def int16(self) -> int:
        return self._unpack(_INT16)

    def int32(self) -> int:
        return self._unpack(_INT32)

    def int64(self) -> int:
        return self._unpack(_INT64)

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def items(self) -> range:
        """One step per item of a compact array (none for a null one)."""
        return range(self.uvarint() - 1)

    def skip(self, count: int) -> None:
        self.position += count

    def string(self) -> str | None:
        length = self.uvarint() - 1
        if length < 0:
            return None
        start, self.position = self.position, self.position + length
        return self.data[start : self.position].decode()

    def tags(self) -> dict[int, bytes]:
        """The tagged fields at the end of a structure."""
        found: dict[int, bytes] = {}
        for _ in range(self.uvarint()):
            tag, size = self.uvarint(), self.uvarint()
            found[tag] = self.data[self.position : self.position + size]
            self.position += size
        return found


# --- ApiVersions


class ApiVersions(NamedTuple):
    """What a broker speaks: (lowest, highest) version by request key, and the finalized features of its cluster."""

    ranges: Mapping[int, tuple[int, int]]
    features: Mapping[str, int]

    def speaks(self, *apis: Api) -> bool:
        """Whether the broker speaks all of these in our version."""
        return all(low <= api.version <= high for api in apis for low, high in [self.ranges.get(api.key, (1, 0))])


def api_versions_request(software: str, version: str) -> bytes:
    """Ask a broker what it speaks."""
    return _string(software) + _string(version) + _NO_TAGS


def read_api_versions(body: bytes) -> ApiVersions:
    """A broker that is too old for this version says only that (in the oldest layout): it then has no versions and no
    features."""
    reader = Reader(body)
    if reader.int16() != Code.NONE:
        return ApiVersions({}, {})
    ranges: dict[int, tuple[int, int]] = {}
    for _ in reader.items():
        key, low, high = reader.int16(), reader.int16(), reader.int16()
        ranges[key] = (low, high)
        reader.tags()
    reader.int32()  # throttle time
    return ApiVersions(ranges, _read_finalized_features(reader.tags().get(2, b"\x01")))


def _read_finalized_features(data: bytes) -> dict[str, int]:
    reader = Reader(data)
    features: dict[str, int] = {}
    for _ in reader.items():
        name, level = reader.string() or "", reader.int16()
        features[name] = level
        reader.int16()  # lowest level
        reader.tags()
    return features


# --- FindCoordinator


class Coordinator(NamedTuple):
    """Who coordinates the transactions of an id; host and port hold if `code` is NONE."""

    code: int
    host: str
    port: int


def find_coordinator_request(transactional_id: str) -> bytes:
    """Ask for the coordinator of one transactional id."""
    return b"\x01" + uvarint(2) + _string(transactional_id) + _NO_TAGS


def read_find_coordinator(body: bytes) -> Coordinator:
    """The answer for one key."""
    reader = Reader(body)
    reader.int32()  # throttle time
    reader.uvarint()  # one coordinator
    reader.string()  # key
    reader.int32()  # node
    host, port, code = reader.string() or "", reader.int32(), reader.int16()
    return Coordinator(code, host, port)


# --- InitProducerId and EndTxn


class Identity(NamedTuple):
    """A producer's identity; it holds if `code` is NONE."""

    code: int
    producer_id: int
    producer_epoch: int


_PRODUCER = struct.Struct(">qh")


def init_producer_id_request(transactional_id: str, transaction_timeout_ms: int) -> bytes:
    """Take a transactional id: fences its owner and ends the owner's open transaction."""
    return _string(transactional_id) + _INT32.pack(transaction_timeout_ms) + _PRODUCER.pack(-1, -1) + _NO_TAGS


def end_txn_request(transactional_id: str, producer_id: int, producer_epoch: int, committed: bool) -> bytes:
    """End the open transaction."""
    return _string(transactional_id) + _PRODUCER.pack(producer_id, producer_epoch) + bytes((committed,)) + _NO_TAGS


def read_identity(body: bytes) -> Identity:
    """The answer to either: the identity to use from now on."""
    reader = Reader(body)
    reader.int32()  # throttle time
    return Identity(reader.int16(), reader.int64(), reader.int16())


# --- Metadata


class Leaders(NamedTuple):
    """Address of the leader of each partition that has one; `brokers` are all live brokers of the cluster by node id."""

    addresses: Mapping[TopicPartition, tuple[str, int]]
    brokers: Mapping[int, tuple[str, int]]


def metadata_request(topics: Iterable[str]) -> bytes:
    """Ask for the brokers and for the leaders of these topics; creates none."""
    names = list(topics)
    items = b"".join(_NO_TOPIC_ID + _string(name) + _NO_TAGS for name in names)
    return uvarint(len(names) + 1) + items + b"\x00\x00" + _NO_TAGS


def read_metadata(body: bytes) -> Leaders:
    """Unknown topics, and partitions without a leader, are left out."""
    reader = Reader(body)
    reader.int32()  # throttle time
    brokers: dict[int, tuple[str, int]] = {}
    for _ in reader.items():
        node, host, port = reader.int32(), reader.string() or "", reader.int32()
        reader.string()  # rack
        reader.tags()
        brokers[node] = (host, port)
    reader.string()  # cluster id
    reader.int32()  # controller
    leaders: dict[TopicPartition, tuple[str, int]] = {}
    for _ in reader.items():
        reader.int16()
        topic = reader.string() or ""
        reader.skip(17)  # topic id, is internal
        for partition, leader in _read_partitions(reader):
            if leader in brokers:
                leaders[TopicPartition(topic, partition)] = brokers[leader]
        reader.int32()  # authorized operations
        reader.tags()
    return Leaders(leaders, brokers)


def _read_partitions(reader: Reader) -> list[tuple[int, int]]:
    found = []
    for _ in reader.items():
        reader.int16()
        found.append((reader.int32(), reader.int32()))
        reader.int32()  # leader epoch
        for _nodes in ("replicas", "in sync", "offline"):
            reader.skip(4 * len(reader.items()))
        reader.tags()
    return found


# --- Produce


class Produced(NamedTuple):
    """What became of one partition's batch: `base_offset` holds if `code` is NONE; `message` is the broker's
    explanation or empty."""

    code: int
    base_offset: int
    message: str


_ACKS_AND_TIMEOUT = struct.Struct(">hi")


def produce_request(transactional_id: str, timeout_ms: int, batches: Mapping[TopicPartition, bytes]) -> bytes:
    """One record batch for each of some partitions with the same leader, to be acknowledged by all in-sync replicas."""
    topics: dict[str, list[tuple[int, bytes]]] = {}
    for (topic, partition), batch in batches.items():
        topics.setdefault(topic, []).append((partition, batch))
    parts = [_string(transactional_id), _ACKS_AND_TIMEOUT.pack(-1, timeout_ms), uvarint(len(topics) + 1)]
    for topic, partitions in topics.items():
        parts += (_string(topic), uvarint(len(partitions) + 1))
        for partition, batch in partitions:
            parts += (_INT32.pack(partition), uvarint(len(batch) + 1), batch, _NO_TAGS)
        parts.append(_NO_TAGS)
    parts.append(_NO_TAGS)
    return b"".join(parts)


def read_produce(body: bytes) -> dict[TopicPartition, Produced]:
    """The answer per partition."""
    reader = Reader(body)
    answers: dict[TopicPartition, Produced] = {}
    for _ in reader.items():
        topic = reader.string() or ""
        for _partition in reader.items():
            partition, code, base_offset = reader.int32(), reader.int16(), reader.int64()
            reader.skip(16)  # log append time, log start offset
            message = _read_record_errors(reader)
            answers[TopicPartition(topic, partition)] = Produced(code, base_offset, reader.string() or message)
            reader.tags()
        reader.tags()
    return answers


def _read_record_errors(reader: Reader) -> str:
    first = ""
    for _ in reader.items():
        reader.int32()  # index in the batch
        first = first or reader.string() or ""
        reader.tags()
    return first


# --- IncrementalAlterConfigs

_TOPIC_RESOURCE, _SET = b"\x02", b"\x00"


def alter_topics_request(changes: Mapping[str, Mapping[str, str]]) -> bytes:
    """Set some settings of some topics; the others stay as they are."""
    parts = [uvarint(len(changes) + 1)]
    for topic, settings in changes.items():
        parts += (_TOPIC_RESOURCE, _string(topic), uvarint(len(settings) + 1))
        for name, value in settings.items():
            parts += (_string(name), _SET, _string(value), _NO_TAGS)
        parts.append(_NO_TAGS)
    parts += (b"\x00", _NO_TAGS)  # not only to validate
    return b"".join(parts)


def read_alter_topics(body: bytes) -> dict[str, tuple[int, str | None]]:
    """The error code and the broker's explanation by topic."""
    reader = Reader(body)
    reader.int32()  # throttle time
    answers: dict[str, tuple[int, str | None]] = {}
    for _ in reader.items():
        code, message = reader.int16(), reader.string()
        reader.skip(1)  # kind of the resource
        answers[reader.string() or ""] = (code, message)
        reader.tags()
    return answers


# --- DescribeLogDirs


class LogDir(NamedTuple):
    """One directory of a broker. `total_bytes` and `usable_bytes` are those of the file system below it, None where the
    broker does not say; `partitions` the bytes of each replica in it."""

    code: int
    path: str
    partitions: Mapping[TopicPartition, int]
    total_bytes: int | None
    usable_bytes: int | None


def describe_log_dirs_request() -> bytes:
    """Ask a broker for all its log directories, with every topic."""
    return b"\x00" + _NO_TAGS


def read_log_dirs(body: bytes, version: int) -> list[LogDir]:
    """The answer in `version` (2 to 4). A refusal of the whole request is one nameless directory with its code."""
    reader = Reader(body)
    reader.int32()  # throttle time
    if version >= 3 and (code := reader.int16()) != Code.NONE:
        return [LogDir(code, "", {}, None, None)]
    return [_read_log_dir(reader, version) for _ in reader.items()]


def _read_log_dir(reader: Reader, version: int) -> LogDir:
    code, path = reader.int16(), reader.string() or ""
    sizes: dict[TopicPartition, int] = {}
    for _ in reader.items():
        topic = reader.string() or ""
        for _partition in reader.items():
            partition, size = reader.int32(), reader.int64()
            reader.skip(9)  # offset lag, whether it is a future replica
            reader.tags()
            sizes[TopicPartition(topic, partition)] = size
        reader.tags()
    total, usable = (reader.int64(), reader.int64()) if version >= 4 else (-1, -1)
    reader.tags()
    return LogDir(code, path, sizes, _known(total), _known(usable))


def _known(size: int) -> int | None:
    return None if size < 0 else size
