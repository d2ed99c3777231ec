"""Record batches (format v2) as opaque bytes: header, checks, offset patching, transaction markers.

A batch is stored as the producer built it. Only the base offset (bytes 0-7) and the leader epoch (bytes 12-15) are
overwritten; the checksum covers neither. Format: https://kafka.apache.org/documentation/#recordbatch
"""

import struct
from typing import NamedTuple

from crc32c import crc32c

from ..protocol import ErrorCode
from ..protocol import batch_layout as layout
from ..protocol.batch_layout import CONTROL, HEADER, HEADER_BYTES, TRANSACTIONAL

RECORDS_MAX = 1 << 24
"""Most records in a batch, regardless of the count in its header."""
_RECORD_BYTES_MIN = 7
"""One byte each for length, attributes, timestamp delta, offset delta, key length, value length and number of headers."""
_EPOCH = b"\0\0\0\0"
_LENGTH, _AFTER_EPOCH = slice(layout.LENGTH_AT, layout.LEADER_EPOCH_AT), slice(layout.MAGIC_AT, None)
_MARKER = struct.Struct(layout.CHECKED.format + "17s")
_MARKER_RECORDS = {
    commit: b"\x20\0\0\0\x08" + struct.pack(">hh", 0, int(commit)) + b"\x0c" + struct.pack(">hi", 0, 0) + b"\0"
    for commit in (False, True)
}
"""The record of an abort and a commit marker: its length, attributes, deltas, key and value with their lengths, no headers."""


class BatchHeader(NamedTuple):
    """The fixed fields of a record batch, in wire order."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record; sequence numbers wrap after 2^31 - 1."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


def read_header(batch: bytes, at: int = 0) -> BatchHeader:
    """The header of the batch that starts at position `at`; `batch` must hold at least `HEADER_BYTES` from there."""
    return BatchHeader._make(HEADER.unpack_from(batch, at))


def check_batch(batch: bytes, max_bytes: int) -> tuple[ErrorCode, BatchHeader | None]:
    """Check that `batch` is exactly one valid batch of at most `max_bytes` that a client may append. Returns (NONE, header),
    or (the error, None)."""
    if len(batch) < HEADER_BYTES:
        return ErrorCode.CORRUPT_MESSAGE, None
    header = BatchHeader._make(HEADER.unpack_from(batch))
    if header.magic != layout.MAGIC:
        return (ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT if header.magic in (0, 1) else ErrorCode.CORRUPT_MESSAGE), None
    if header.length + layout.LENGTH_COUNTS_FROM > len(batch):
        return ErrorCode.CORRUPT_MESSAGE, None
    if header.length + layout.LENGTH_COUNTS_FROM < len(batch):
        return ErrorCode.INVALID_RECORD, None
    if len(batch) > max_bytes:
        return ErrorCode.MESSAGE_TOO_LARGE, None
    if crc32c(memoryview(batch)[layout.CHECKED_FROM :]) != header.crc:
        return ErrorCode.CORRUPT_MESSAGE, None
    if not 1 <= header.record_count <= _most_records(batch, header) or header.last_offset_delta != header.record_count - 1:
        return ErrorCode.INVALID_RECORD, None
    if header.attributes & CONTROL or header.attributes & layout.CODEC_MASK > 4:
        return ErrorCode.INVALID_RECORD, None
    if header.attributes & layout.APPEND_TIME:
        return ErrorCode.INVALID_TIMESTAMP, None
    if header.attributes & TRANSACTIONAL and header.producer_id < 0:
        return ErrorCode.INVALID_RECORD, None
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        return ErrorCode.INVALID_RECORD, None
    return ErrorCode.NONE, header


def _most_records(batch: bytes, header: BatchHeader) -> int:
    """The number of records that fit into the bytes of the batch. A larger count in the header is rejected, because each
    record takes an offset and memory during compaction."""
    compressed = header.attributes & layout.CODEC_MASK
    return RECORDS_MAX if compressed else min(RECORDS_MAX, (len(batch) - HEADER_BYTES) // _RECORD_BYTES_MIN)


def placed(batch: bytes, base_offset: int) -> bytes:
    """The batch with another base offset and leader epoch 0."""
    return b"".join((layout.BASE_OFFSET.pack(base_offset), batch[_LENGTH], _EPOCH, batch[_AFTER_EPOCH]))


def sealed(header: BatchHeader, records: bytes) -> bytes:
    """A batch with this header and records section; computes its length and checksum."""
    length = HEADER_BYTES - layout.LENGTH_COUNTS_FROM + len(records)
    raw = HEADER.pack(*header._replace(length=length))
    checked = raw[layout.CHECKED_FROM :]
    return b"".join((raw[: layout.CRC_AT], layout.CRC.pack(crc32c(records, crc32c(checked))), checked, records))


def is_intact(batch: bytes, header: BatchHeader) -> bool:
    """Whether the checksum is correct."""
    return bool(crc32c(memoryview(batch)[layout.CHECKED_FROM :]) == header.crc)


def stamped(batch: bytes, header: BatchHeader, now_ms: int) -> tuple[bytes, BatchHeader]:
    """The batch with the time of its arrival as timestamp (`message.timestamp.type=LogAppendTime`), and its header. Consumers
    use the largest timestamp for all its records, so the records do not change."""
    attributes = header.attributes | layout.APPEND_TIME
    before = batch[layout.ATTRIBUTES_AT + layout.ATTRIBUTES.size : layout.MAX_TIMESTAMP_AT]
    after = batch[layout.MAX_TIMESTAMP_AT + layout.MAX_TIMESTAMP.size :]
    body = b"".join((layout.ATTRIBUTES.pack(attributes), before, layout.MAX_TIMESTAMP.pack(now_ms), after))
    crc = crc32c(body)
    header = header._replace(attributes=attributes, max_timestamp_ms=now_ms, crc=crc)
    return b"".join((batch[: layout.CRC_AT], layout.CRC.pack(crc), body)), header


def marker_batch(base_offset: int, producer_id: int, producer_epoch: int, *, commit: bool, timestamp_ms: int) -> bytes:
    """A control batch with one end-transaction marker (key: version, type; value: version, coordinator epoch)."""
    body = _MARKER.pack(
        TRANSACTIONAL | CONTROL, 0, timestamp_ms, timestamp_ms, producer_id, producer_epoch, -1, 1, _MARKER_RECORDS[commit]
    )
    length = layout.UNCHECKED_IN_LENGTH + len(body)
    return layout.UNCHECKED.pack(base_offset, length, 0, layout.MAGIC, crc32c(body)) + body


def marker_commits(batch: bytes) -> bool:
    """Whether a control batch is a commit marker (otherwise an abort)."""
    return batch[HEADER_BYTES + 8] == 1
