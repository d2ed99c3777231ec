"""Reading from logs: Fetch (versions 4 to 12) and ListOffsets. Fetch has hand-written codecs, because it carries every record;
README.md has the measurements.

Module `definition` describes the notation."""

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from .errors import ErrorCode, MalformedMessage
from .primitives import INT16, INT32, INT64, read_uvarint, skip_tags, take, write_count, write_topic_name, write_uvarint
from .values import TopicPartition

DEFINITIONS = """
Fetch 1 4-12 flexible 12+
  request
    replica_id int32 =-1
    max_wait_ms int32
    min_bytes int32
    max_bytes int32 =2147483647
    isolation_level int8
    session_id int32 7+
    session_epoch int32 7+ =-1
    topics[]
        topic string
        partitions[]
            partition int32
            current_leader_epoch int32 9+ =-1
            fetch_offset int64
            last_fetched_epoch int32 12+ =-1
            log_start_offset int64 5+ =-1
            partition_max_bytes int32
    forgotten_topics_data[] 7+
        topic string
        partitions[] int32
    rack_id string 11+
  response
    throttle_time_ms int32
    error_code int16 7+
    session_id int32 7+
    responses[]
        topic string
        partitions[]
            partition_index int32
            error_code int16
            high_watermark int64
            last_stable_offset int64 =-1
            log_start_offset int64 5+ =-1
            aborted_transactions[]?
                producer_id int64
                first_offset int64
            preferred_read_replica int32 11+ =-1
            records bytes?

ListOffsets 2 1-7 flexible 6+
  request
    replica_id int32
    isolation_level int8 2+
    topics[]
        name string
        partitions[]
            partition_index int32
            current_leader_epoch int32 4+ =-1
            timestamp int64
  response
    throttle_time_ms int32 2+
    topics[]
        name string
        partitions[]
            partition_index int32
            error_code int16
            timestamp int64 =-1
            offset int64 =-1
            leader_epoch int32 4+ =-1
"""
FLEXIBLE_FROM = 12
SESSIONS_FROM = 7
"""The first version with fetch sessions (KIP-227)."""
RACKS_FROM = 11
"""The first version with the rack of the client (KIP-392)."""
_NO_REST = b"\1\1\0"
"""The usual end of a flexible request: no partitions to remove from a session, no rack, no tags."""
_PARTITION = struct.Struct(">ihqq")
_ABORTED = struct.Struct(">qq")
_LIMITS = struct.Struct(">iiib")
_SESSION = struct.Struct(">ii")
_ANSWER = struct.Struct(">hi")
_REPLICA = b"\xff\xff\xff\xff"
"""The replica id of a client; also no epoch, and no preferred replica."""
_POSITION_4, _POSITION_5, _POSITION_9 = struct.Struct(">iqi"), struct.Struct(">iqqi"), struct.Struct(">iiqqi")
_POSITION_12 = struct.Struct(">iiqiqib")
"""The position of a partition in a request, by the first version; from version 12 on with an empty tag section."""


class PartitionFetch(NamedTuple):
    """One partition of a fetch request, as the broker reads it."""

    partition: int
    offset: int
    max_bytes: int


class FetchRequest(NamedTuple):
    """A fetch request, as the broker reads it."""

    max_wait_seconds: float
    min_bytes: int
    max_bytes: int
    committed: bool
    session_id: int
    topics: list[tuple[str, list[PartitionFetch]]]


class PartitionData(NamedTuple):
    """One partition of a fetch response."""

    partition: int
    error: ErrorCode
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start: int = -1
    aborted: list[tuple[int, int]] | None = None
    records: bytes = b""


FetchResult = list[tuple[str, list[PartitionData]]]


# --- broker


def read_request(buffer: bytes, at: int, version: int) -> FetchRequest:
    """Decode the request body that starts at position `at`. What follows the partitions (those to remove from a session, and the
    rack) is checked, but not returned. Raises `MalformedMessage`."""
    try:
        return _read_request(buffer, at, version)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"Fetch v{version} request: {error}") from error


def _read_request(buffer: bytes, at: int, version: int) -> FetchRequest:
    flexible = version >= FLEXIBLE_FROM
    max_wait_ms, min_bytes, max_bytes, isolation_level = _LIMITS.unpack_from(buffer, at + INT32.size)  # after the replica id
    at += INT32.size + _LIMITS.size
    session_id = 0
    if version >= SESSIONS_FROM:
        session_id, _ = _SESSION.unpack_from(buffer, at)
        at += _SESSION.size
    topics: list[tuple[str, list[PartitionFetch]]] = []
    topic_count, at = _read_length(buffer, at, INT32, flexible)
    for _ in range(topic_count):
        name, at = _read_name(buffer, at, flexible)
        count, at = _read_length(buffer, at, INT32, flexible)
        partitions: list[PartitionFetch] = []
        for _ in range(count):
            fetch, at = _read_position(buffer, at, version)
            partitions.append(fetch)
        topics.append((name, partitions))
        if flexible:
            at = skip_tags(buffer, at)
    if not (flexible and buffer.startswith(_NO_REST, at)):
        _skip_rest(buffer, at, version)
    return FetchRequest(max(max_wait_ms, 0) / 1000, min_bytes, max_bytes, isolation_level == 1, session_id, topics)


def _skip_rest(buffer: bytes, at: int, version: int) -> None:
    """Check the fields after the partitions. Raises `MalformedMessage`, and the exceptions of readers for invalid bytes."""
    flexible = version >= FLEXIBLE_FROM
    topic_count, at = _read_length(buffer, at, INT32, flexible) if version >= SESSIONS_FROM else (0, at)
    for _ in range(topic_count):
        _, at = _read_name(buffer, at, flexible)
        count, at = _read_length(buffer, at, INT32, flexible)
        at += len(take(buffer, at, max(count, 0) * INT32.size))
        if flexible:
            at = skip_tags(buffer, at)
    if version >= RACKS_FROM:
        _, at = _read_name(buffer, at, flexible)
    if flexible:
        skip_tags(buffer, at)


def _read_name(buffer: bytes, at: int, flexible: bool) -> tuple[str, int]:
    size, at = _read_length(buffer, at, INT16, flexible)
    if size < 0:
        raise MalformedMessage("a topic or the rack has no name")
    return take(buffer, at, size).decode(), at + size


def _read_position(buffer: bytes, at: int, version: int) -> tuple[PartitionFetch, int]:
    if version >= FLEXIBLE_FROM:
        partition, _, offset, _, _, max_bytes, tags = _POSITION_12.unpack_from(buffer, at)
        end = at + _POSITION_12.size
        return PartitionFetch(partition, offset, max_bytes), end if not tags else skip_tags(buffer, end - 1)
    if version >= 9:
        partition, _, offset, _, max_bytes = _POSITION_9.unpack_from(buffer, at)
        return PartitionFetch(partition, offset, max_bytes), at + _POSITION_9.size
    if version >= 5:
        partition, offset, _, max_bytes = _POSITION_5.unpack_from(buffer, at)
        return PartitionFetch(partition, offset, max_bytes), at + _POSITION_5.size
    return PartitionFetch(*_POSITION_4.unpack_from(buffer, at)), at + _POSITION_4.size


def write_response(result: FetchResult, version: int, error: ErrorCode = ErrorCode.NONE) -> bytes:
    """Encode the body of a fetch response."""
    flexible = version >= FLEXIBLE_FROM
    out: list[bytes] = [b"\0\0\0\0"]
    if version >= SESSIONS_FROM:
        out.append(INT16.pack(error) + b"\0\0\0\0")
    out.append(write_count(len(result), flexible))
    for topic, partitions in result:
        out += (write_topic_name(topic, flexible), write_count(len(partitions), flexible))
        for data in partitions:
            _write_partition(out, data, version, flexible)
        if flexible:
            out.append(b"\0")
    if flexible:
        out.append(b"\0")
    return b"".join(out)


def _write_partition(out: list[bytes], data: PartitionData, version: int, flexible: bool) -> None:
    out.append(_PARTITION.pack(data.partition, data.error, data.high_watermark, data.last_stable_offset))
    if version >= 5:
        out.append(INT64.pack(data.log_start))
    if data.aborted is None:
        out.append(b"\0" if flexible else b"\xff\xff\xff\xff")
    else:
        out.append(write_count(len(data.aborted), flexible))
        out += [_ABORTED.pack(*entry) + (b"\0" if flexible else b"") for entry in data.aborted]
    if version >= RACKS_FROM:
        out.append(_REPLICA)
    if flexible:
        out += (write_uvarint(len(data.records) + 1), data.records, b"\0")
    else:
        out += (INT32.pack(len(data.records)), data.records)


# --- client


class FetchPosition(NamedTuple):
    """What is requested of one partition: records from `offset` on, about `max_bytes` at most. `leader_epoch`: the epoch of the
    leader that the client knows, -1 if none."""

    offset: int
    leader_epoch: int
    max_bytes: int


class FetchLimits(NamedTuple):
    """Limits of one request. The broker responds when it has `min_bytes`, or after `max_wait_ms`, with about `max_bytes` at most.
    `committed`: without records of open transactions, and with a list of the aborted ones."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    committed: bool


class FetchedPartition(Struct, frozen=True):
    """One partition of a fetch response, as a client reads it. Offsets are -1 if the broker does not know them. `aborted` lists
    (producer id, first offset) of aborted transactions; an incomplete batch may end `records`."""

    code: int
    high_watermark: int
    last_stable_offset: int
    log_start: int
    aborted: list[tuple[int, int]]
    records: bytes


class FetchAnswer(Struct, frozen=True):
    """A fetch response. `code`: the error of the whole request; `session_id`: 0 if the broker keeps no session."""

    code: int
    session_id: int
    partitions: list[tuple[TopicPartition, FetchedPartition]]


def write_request(
    version: int,
    limits: FetchLimits,
    session: tuple[int, int],
    positions: Mapping[TopicPartition, FetchPosition],
    forgotten: Iterable[TopicPartition] = (),
) -> bytes:
    """Encode a request body. `session`: id and epoch of the fetch session; (0, -1) for none. `forgotten`: the partitions to
    remove from it. Versions without sessions omit both."""
    flexible, sessions = version >= FLEXIBLE_FROM, version >= SESSIONS_FROM
    out = [_REPLICA, _LIMITS.pack(*limits)]
    if sessions:
        out.append(_SESSION.pack(*session))
    _write_topics(out, [(one[0], _position(one[1], position, version)) for one, position in positions.items()], flexible)
    if sessions:
        _write_topics(out, [(topic, INT32.pack(partition)) for topic, partition in forgotten], flexible)
    if version >= 11:
        out.append(b"\1" if flexible else b"\0\0")  # no rack
    if flexible:
        out.append(b"\0")
    return b"".join(out)


def _position(partition: int, position: FetchPosition, version: int) -> bytes:
    """Without last fetched epoch and log start, which only followers send."""
    offset, leader_epoch, max_bytes = position
    if version >= FLEXIBLE_FROM:
        return _POSITION_12.pack(partition, leader_epoch, offset, -1, -1, max_bytes, 0)
    if version >= 9:
        return _POSITION_9.pack(partition, leader_epoch, offset, -1, max_bytes)
    if version >= 5:
        return _POSITION_5.pack(partition, offset, -1, max_bytes)
    return _POSITION_4.pack(partition, offset, max_bytes)


def _write_topics(out: list[bytes], entries: list[tuple[str, bytes]], flexible: bool) -> None:
    """Write encoded partitions by topic."""
    topics: dict[str, list[bytes]] = {}
    for topic, encoded in entries:
        topics.setdefault(topic, []).append(encoded)
    out.append(write_count(len(topics), flexible))
    for topic, partitions in topics.items():
        out += (write_topic_name(topic, flexible), write_count(len(partitions), flexible))
        out += partitions
        if flexible:
            out.append(b"\0")


def read_response(body: bytes, version: int) -> FetchAnswer:
    """Decode a response body. Raises `MalformedMessage`."""
    try:
        return _read_response(body, version)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"Fetch v{version} response: {error}") from error


def _read_response(body: bytes, version: int) -> FetchAnswer:
    flexible = version >= FLEXIBLE_FROM
    at, code, session_id = INT32.size, 0, 0  # skip the throttle time
    if version >= SESSIONS_FROM:
        code, session_id = _ANSWER.unpack_from(body, at)
        at += _ANSWER.size
    partitions: list[tuple[TopicPartition, FetchedPartition]] = []
    topic_count, at = _read_length(body, at, INT32, flexible)
    for _ in range(topic_count):
        size, at = _read_length(body, at, INT16, flexible)
        size = max(size, 0)
        topic, at = take(body, at, size).decode(), at + size
        count, at = _read_length(body, at, INT32, flexible)
        for _ in range(count):
            partition, fetched, at = _read_partition(body, at, version, flexible)
            partitions.append((TopicPartition(topic, partition), fetched))
        if flexible:
            at = skip_tags(body, at)
    return FetchAnswer(code, session_id, partitions)


def _read_partition(body: bytes, at: int, version: int, flexible: bool) -> tuple[int, FetchedPartition, int]:
    partition, code, high_watermark, last_stable = _PARTITION.unpack_from(body, at)
    at += _PARTITION.size
    log_start = -1
    if version >= 5:
        log_start, at = INT64.unpack_from(body, at)[0], at + INT64.size
    count, at = _read_length(body, at, INT32, flexible)
    aborted: list[tuple[int, int]] = []
    for _ in range(count):
        aborted.append(_ABORTED.unpack_from(body, at))
        at = skip_tags(body, at + _ABORTED.size) if flexible else at + _ABORTED.size
    if version >= RACKS_FROM:
        at += INT32.size  # the preferred replica
    size, at = _read_length(body, at, INT32, flexible)
    records = take(body, at, size) if size > 0 else b""
    at += max(size, 0)
    if flexible:
        at = skip_tags(body, at)
    return partition, FetchedPartition(code, high_watermark, last_stable, log_start, aborted, records), at


def _read_length(body: bytes, at: int, form: struct.Struct, flexible: bool) -> tuple[int, int]:
    """A length or count, -1 for null, and the position after it."""
    if flexible:
        value, at = read_uvarint(body, at)
        return value - 1, at
    (length,) = form.unpack_from(body, at)
    if length < -1:
        raise MalformedMessage(f"a length of {length}")
    return length, at + form.size
