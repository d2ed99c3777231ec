"""Produce: the request is read and the answer written by hand, because every message passes here.

Versions 3 to 12; from 9 on with compact lengths and tag sections. Tested against an independent implementation of the
format.
"""

import struct
from typing import NamedTuple

from .batches import BatchHeader, check_batch
from .errors import ErrorCode, MalformedRequest
from .log import PartitionLog
from .records import all_keyed
from .state import BrokerState
from .timing import Deferred
from .transactions import TransactionCoordinator
from .wire import INT16, INT32, read_uvarint, skip_tags, write_uvarint

FLEXIBLE_FROM = 9
IMPLICIT_PARTITIONS_FROM = 12
"""From this version on a transactional batch adds its partition to the transaction (KIP-890)."""
_ACKS_TIMEOUT = struct.Struct(">hi")
_RESULT = struct.Struct(">ihqqq")


class ProduceRequest(NamedTuple):
    """A decoded request: acks and, by topic, (partition, batch)."""

    transactional_id: str | None
    acks: int
    topics: list[tuple[str, list[tuple[int, bytes | None]]]]


class PartitionResult(NamedTuple):
    """What became of one partition's batch."""

    partition: int
    error: ErrorCode
    base_offset: int = -1
    log_start: int = -1
    append_time_ms: int = -1
    """The broker's timestamp of the batch, where the topic has `LogAppendTime`."""


Results = list[tuple[str, list[PartitionResult]]]


def _read_bytes(buffer: bytes, at: int, form: struct.Struct | None) -> tuple[bytes | None, int]:
    if form is None:
        size, at = read_uvarint(buffer, at)
        size -= 1
    else:
        size = form.unpack_from(buffer, at)[0]
        at += form.size
    if size < 0:
        return None, at
    end = at + size
    if end > len(buffer):
        raise MalformedRequest("a length reaches beyond the frame")
    return buffer[at:end], end


def _read_count(buffer: bytes, at: int, flexible: bool) -> tuple[int, int]:
    if flexible:
        count, at = read_uvarint(buffer, at)
        return count - 1, at
    return INT32.unpack_from(buffer, at)[0], at + 4


def read_produce(buffer: bytes, at: int, version: int) -> ProduceRequest:
    """Decode a request body. Raises `MalformedRequest` (or what struct raises) for bytes that are none."""
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
            raise MalformedRequest("a topic without name")
        topics.append((name.decode(), partitions))
    return ProduceRequest(None if raw_id is None else raw_id.decode(), acks, topics)


def write_produce(results: Results, version: int) -> bytes:
    """Encode an answer body."""
    flexible = version >= FLEXIBLE_FROM
    out: list[bytes] = [write_uvarint(len(results) + 1) if flexible else INT32.pack(len(results))]
    for topic, partitions in results:
        name = topic.encode()
        if flexible:
            out += (write_uvarint(len(name) + 1), name, write_uvarint(len(partitions) + 1))
        else:
            out += (INT16.pack(len(name)), name, INT32.pack(len(partitions)))
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


class ProduceApi:
    """Appends what clients send."""

    def __init__(self, state: BrokerState, transactions: TransactionCoordinator) -> None:
        self._state = state
        self._transactions = transactions

    def handle(self, version: int, buffer: bytes, at: int) -> bytes | Deferred | None:
        """One request. None when the client wants no answer. Inside a transaction the answer does not wait for the
        disk."""
        try:
            request = read_produce(buffer, at, version)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise MalformedRequest(f"Produce v{version}: {error}") from error
        waits = False
        results: Results = []
        for topic, partitions in request.topics:
            done = [self._append(request, version, topic, index, batch) for index, batch in partitions]
            waits = waits or any(stable for _, stable in done)
            results.append((topic, [result for result, _ in done]))
        if request.acks == 0:
            return None
        answer = write_produce(results, version)
        return self._state.when_stable(answer) if waits else answer

    def _append(
        self, request: ProduceRequest, version: int, topic_name: str, partition: int, batch: bytes | None
    ) -> tuple[PartitionResult, bool]:
        """(result, whether the answer must wait until it is stable)."""
        log = self._state.log(topic_name, partition)
        error, header = self._check(request, log, batch)
        if log is None or header is None or batch is None:
            return PartitionResult(partition, error), False
        if header.transactional:
            implicit = version >= IMPLICIT_PARTITIONS_FROM
            identity = (request.transactional_id, header.producer_id, header.producer_epoch)
            error = self._transactions.check_produce(*identity, topic_name, log, implicit=implicit)
            if error is not ErrorCode.NONE:
                return PartitionResult(partition, error), False
        if header.producer_id >= 0:
            error, seen_at = log.check_producer(header)
            if error is not ErrorCode.NONE:
                return PartitionResult(partition, error, -1, log.start), False
            if seen_at is not None:
                return PartitionResult(partition, error, seen_at, log.start), not header.transactional
        base_offset = self._state.append(log, batch, header)
        append_time_ms = log.last_timestamp_ms if log.settings.append_time else -1
        return PartitionResult(partition, ErrorCode.NONE, base_offset, log.start, append_time_ms), not header.transactional

    def _check(
        self, request: ProduceRequest, log: PartitionLog | None, batch: bytes | None
    ) -> tuple[ErrorCode, BatchHeader | None]:
        """What can be said of a batch without knowing its producer."""
        if request.acks not in (-1, 0, 1):
            return ErrorCode.INVALID_REQUIRED_ACKS, None
        if log is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
        if not self._state.storage.writable:
            return ErrorCode.STORAGE_ERROR, None
        error, header = check_batch(batch or b"", log.settings.message_bytes_max)
        if header is not None and log.settings.compact and not all_keyed(batch or b"", header):
            return ErrorCode.INVALID_RECORD, None
        return error, header
