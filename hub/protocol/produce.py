"""Produce, with hand-written encoders and decoders, because it carries every record; README.md has the measurements.

Versions 3 to 12; compact lengths and tag sections from version 9.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from .errors import ErrorCode, MalformedMessage
from .primitives import INT16, INT32, read_uvarint, skip_tags, take, write_count, write_topic_name, write_uvarint
from .values import TopicPartition

DEFINITIONS = """
Produce 0 3-12 flexible 9+
  request
    transactional_id string?
    acks int16
    timeout_ms int32
    topic_data[]
        name string
        partition_data[]
            index int32
            records bytes?
  response
    responses[]
        name string
        partition_responses[]
            index int32
            error_code int16
            base_offset int64
            log_append_time int64 =-1
            log_start_offset int64 5+ =-1
            record_errors[] 8+
                batch_index int32
                batch_index_error_message string?
            error_message string? 8+
    throttle_time_ms int32
"""
FLEXIBLE_FROM = 9
REQUEST_VERSION = 12
"""The version that `write_request` writes and `read_response` reads; from `FLEXIBLE_FROM` to this one the format is the same."""
_ACKS_TIMEOUT = struct.Struct(">hi")
_RESULT = struct.Struct(">ihqqq")
_ANSWERED = struct.Struct(">ihq")
_SKIPPED_TIMES_AND_START = 16
_ONLY = struct.Struct(">ihqqq4s")
_NOTHING_MORE = b"\1\0\0\0"
"""No record errors, no message, no tags of the partition and of its topic."""
_ONE, _LONG = 2, 0x80
"""The compact length of an array with one element; the least first byte of a compact length of several bytes."""


class ProduceRequest(NamedTuple):
    """A decoded produce request: (partition, batch) by topic."""

    transactional_id: str | None
    acks: int
    topics: list[tuple[str, list[tuple[int, bytes | None]]]]


class PartitionResult(NamedTuple):
    """The result for one partition, as the broker writes it."""

    partition: int
    error: ErrorCode
    base_offset: int = -1
    log_start: int = -1
    append_time_ms: int = -1
    """The broker's timestamp of the batch if the topic uses `LogAppendTime`, else -1."""


Results = list[tuple[str, list[PartitionResult]]]


class Produced(Struct, frozen=True, gc=False):
    """The result for one partition, as a client reads it. `base_offset` is valid if `code` is NONE; `message` is the broker's
    error message or empty."""

    code: int
    base_offset: int
    message: str


# --- broker


def read_request(buffer: bytes, at: int, version: int) -> ProduceRequest:
    """Decode the request body that starts at position `at`. Raises `MalformedMessage`."""
    try:
        return _read_request(buffer, at, version)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"Produce v{version} request: {error}") from error


def _read_request(buffer: bytes, at: int, version: int) -> ProduceRequest:
    flexible = version >= FLEXIBLE_FROM
    text, blob = (None, None) if flexible else (INT16, INT32)
    raw_id, at = _read_bytes(buffer, at, text)
    acks, _ = _ACKS_TIMEOUT.unpack_from(buffer, at)
    topic_count, at = _read_count(buffer, at + _ACKS_TIMEOUT.size, flexible)
    topics: list[tuple[str, list[tuple[int, bytes | None]]]] = []
    for _ in range(topic_count):
        name, at = _read_bytes(buffer, at, text)
        partition_count, at = _read_count(buffer, at, flexible)
        partitions: list[tuple[int, bytes | None]] = []
        for _ in range(partition_count):
            index = INT32.unpack_from(buffer, at)[0]
            records, at = _read_bytes(buffer, at + 4, blob)
            if flexible:
                at = skip_tags(buffer, at)
            partitions.append((index, records))
        if flexible:
            at = skip_tags(buffer, at)
        if name is None:
            raise MalformedMessage("a topic has no name")
        topics.append((name.decode(), partitions))
    if flexible:
        skip_tags(buffer, at)
    return ProduceRequest(None if raw_id is None else raw_id.decode(), acks, topics)


def _read_bytes(buffer: bytes, at: int, form: struct.Struct | None) -> tuple[bytes | None, int]:
    if form is None:
        size, at = read_uvarint(buffer, at)
        size -= 1
    else:
        size = form.unpack_from(buffer, at)[0]
        at += form.size
    if size < 0:
        return None, at
    return take(buffer, at, size), at + size


def _read_count(buffer: bytes, at: int, flexible: bool) -> tuple[int, int]:
    if flexible:
        count, at = read_uvarint(buffer, at)
        return count - 1, at
    return INT32.unpack_from(buffer, at)[0], at + 4


def write_response(results: Results, version: int) -> bytes:
    """Encode the body of a response."""
    flexible = version >= FLEXIBLE_FROM
    out: list[bytes] = [write_count(len(results), flexible)]
    for topic, partitions in results:
        out += (write_topic_name(topic, flexible), write_count(len(partitions), flexible))
        for partition, error, base_offset, log_start, append_time_ms in partitions:
            result = _RESULT.pack(partition, error, base_offset, append_time_ms, log_start)
            if flexible:
                out += (result, b"\1\0\0")  # no record errors, no message, no tags
            elif version >= 8:
                out += (result, b"\0\0\0\0\xff\xff")
            else:
                out.append(result if version >= 5 else result[:-8])
        if flexible:
            out.append(b"\0")
    out.append(b"\0\0\0\0\0" if flexible else b"\0\0\0\0")
    return b"".join(out)


# --- client


def write_request(transactional_id: str | None, timeout_ms: int, batches: Mapping[TopicPartition, bytes]) -> bytes:
    """Encode a request body with one record batch per partition, all with the same leader; acks=all. `transactional_id` is None
    outside of transactions."""
    topics: dict[str, list[tuple[int, bytes]]] = {}
    for (topic, partition), batch in batches.items():
        topics.setdefault(topic, []).append((partition, batch))
    parts = [_head(transactional_id, timeout_ms, len(topics))]
    for topic, partitions in topics.items():
        parts.append(_topic_head(topic, len(partitions)))
        for partition, batch in partitions:
            parts += (INT32.pack(partition), write_uvarint(len(batch) + 1), batch, b"\0")
        parts.append(b"\0")
    parts.append(b"\0")
    return b"".join(parts)


@lru_cache(maxsize=1_000)
def _head(transactional_id: str | None, timeout_ms: int, topics: int) -> bytes:
    """What is before the topics; `topics` is their number."""
    return _string(transactional_id) + _ACKS_TIMEOUT.pack(-1, timeout_ms) + write_uvarint(topics + 1)


@lru_cache(maxsize=1_000)
def _topic_head(topic: str, partitions: int) -> bytes:
    """What is before the partitions of a topic; `partitions` is their number."""
    return _string(topic) + write_uvarint(partitions + 1)


def _string(text: str | None) -> bytes:
    if text is None:
        return b"\0"
    encoded = text.encode()
    return write_uvarint(len(encoded) + 1) + encoded


def read_response(body: bytes) -> dict[TopicPartition, Produced]:
    """Decode a response body. Returns the result by partition. Raises `MalformedMessage`."""
    try:
        return _read_usual_response(body) or _read_response(body)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"Produce v{REQUEST_VERSION} response: {error}") from error


def _read_usual_response(body: bytes) -> dict[TopicPartition, Produced] | None:
    """Decode a response that has one partition of each topic and no messages; None if it has another form."""
    if body[0] >= _LONG:
        return None
    answers: dict[TopicPartition, Produced] = {}
    at = 1
    for _ in range(body[0] - 1):
        end = at + body[at]
        if body[at] >= _LONG or body[end] != _ONE:
            return None
        partition, code, base_offset, _, _, rest = _ONLY.unpack_from(body, end + 1)
        if rest != _NOTHING_MORE:
            return None
        answers[TopicPartition(body[at + 1 : end].decode(), partition)] = Produced(code, base_offset, "")
        at = end + 1 + _ONLY.size
    return answers


def _read_response(body: bytes) -> dict[TopicPartition, Produced]:
    answers: dict[TopicPartition, Produced] = {}
    topic_count, at = read_uvarint(body, 0)
    for _ in range(topic_count - 1):
        topic, at = _read_text(body, at)
        partition_count, at = read_uvarint(body, at)
        for _ in range(partition_count - 1):
            partition, code, base_offset = _ANSWERED.unpack_from(body, at)
            reason, at = _read_record_errors(body, at + _ANSWERED.size + _SKIPPED_TIMES_AND_START)
            message, at = _read_text(body, at)
            at = skip_tags(body, at)
            answers[TopicPartition(topic, partition)] = Produced(code, base_offset, message or reason)
        at = skip_tags(body, at)
    return answers


def _read_record_errors(body: bytes, at: int) -> tuple[str, int]:
    """Returns (the first error message of a rejected record or "", position after all of them)."""
    first = ""
    count, at = read_uvarint(body, at)
    for _ in range(count - 1):
        message, at = _read_text(body, at + INT32.size)  # skip the index in the batch
        at = skip_tags(body, at)
        first = first or message
    return first, at


def _read_text(body: bytes, at: int) -> tuple[str, int]:
    raw, at = _read_bytes(body, at, None)
    return (raw or b"").decode(), at
