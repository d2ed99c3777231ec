"""Record batches (format v2) as opaque bytes: header, checks, offset patching, transaction markers.

A batch is stored as the producer built it; only the base offset (bytes 0-7) and the leader epoch (12-15) are set, and
both are outside its checksum. Format: https://kafka.apache.org/documentation/#recordbatch
"""

import gzip
import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

from .errors import ErrorCode

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
MAGIC = 2
COMPRESSION_MASK, TRANSACTIONAL, CONTROL = 0x07, 0x10, 0x20
_CHECKED_FROM = 21
"""The checksum covers everything from the attributes on."""
_OFFSET, _EPOCH = struct.Struct(">q"), b"\0\0\0\0"
_LENGTH_AND_OFFSET = struct.Struct(">qi")


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
        """Sequence of the last record; sequences wrap after 2^31 - 1."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


def read_header(batch: bytes, at: int = 0) -> BatchHeader:
    """The header of the batch at `at`; at least `HEADER_BYTES` must follow."""
    return BatchHeader._make(HEADER.unpack_from(batch, at))


def check_batch(batch: bytes, max_bytes: int) -> tuple[ErrorCode, BatchHeader | None]:
    """Whether these bytes are exactly one sound batch of at most `max_bytes` that a client may append."""
    if len(batch) < HEADER_BYTES:
        return ErrorCode.CORRUPT_MESSAGE, None
    header = BatchHeader._make(HEADER.unpack_from(batch))
    if header.magic != MAGIC:
        return (ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT if header.magic in (0, 1) else ErrorCode.CORRUPT_MESSAGE), None
    if header.length + 12 > len(batch):
        return ErrorCode.CORRUPT_MESSAGE, None
    if header.length + 12 < len(batch):
        return ErrorCode.INVALID_RECORD, None
    if len(batch) > max_bytes:
        return ErrorCode.MESSAGE_TOO_LARGE, None
    if crc32c(memoryview(batch)[_CHECKED_FROM:]) != header.crc:
        return ErrorCode.CORRUPT_MESSAGE, None
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        return ErrorCode.INVALID_RECORD, None
    if header.attributes & CONTROL or header.attributes & COMPRESSION_MASK > 4:
        return ErrorCode.INVALID_RECORD, None
    if header.attributes & TRANSACTIONAL and header.producer_id < 0:
        return ErrorCode.INVALID_RECORD, None
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        return ErrorCode.INVALID_RECORD, None
    return ErrorCode.NONE, header


def placed(batch: bytes, base_offset: int) -> bytes:
    """The same batch at another base offset, leader epoch 0."""
    return b"".join((_OFFSET.pack(base_offset), batch[8:12], _EPOCH, batch[16:]))


def marker_batch(base_offset: int, producer_id: int, producer_epoch: int, *, commit: bool, timestamp_ms: int) -> bytes:
    """A control batch with one end-transaction marker (key: version, type; value: version, coordinator epoch)."""
    key, value = struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0)
    record = b"\0\0\0" + bytes((len(key) * 2,)) + key + bytes((len(value) * 2,)) + value + b"\0"
    body = struct.pack(">hiqqqhii", TRANSACTIONAL | CONTROL, 0, timestamp_ms, timestamp_ms, producer_id, producer_epoch, -1, 1)
    body += bytes((len(record) * 2,)) + record
    return struct.pack(">qiibI", base_offset, 9 + len(body), 0, MAGIC, crc32c(body)) + body


def marker_commits(batch: bytes) -> bool:
    """Whether a control batch is a commit marker (otherwise an abort)."""
    return batch[HEADER_BYTES + 8] == 1


def whole_batches(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """(base offset, start, end) of each whole batch in `data` from `at` on; a cut one at the end is left out."""
    size = len(data)
    while at + HEADER_BYTES <= size:
        base_offset, length = _LENGTH_AND_OFFSET.unpack_from(data, at)
        end = at + 12 + length
        if end > size:
            return
        yield base_offset, at, end
        at = end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Zigzag varint."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _records(batch: bytes, header: BatchHeader) -> bytes:
    """The records section, decompressed."""
    raw, codec = batch[HEADER_BYTES:], header.attributes & COMPRESSION_MASK
    if codec == 0:
        return raw
    if codec == 1:
        return gzip.decompress(raw)
    import cramjam  # only here: most brokers never look into a batch

    if codec == 2:
        return _snappy(raw)
    return bytes(cramjam.lz4.decompress(raw) if codec == 3 else cramjam.zstd.decompress(raw))


def _snappy(raw: bytes) -> bytes:
    """Snappy as Java's clients frame it (magic, two versions, then sized blocks), or bare."""
    import cramjam

    if not raw.startswith(b"\x82SNAPPY\x00"):
        return bytes(cramjam.snappy.decompress_raw(raw))
    out, at = [], 16
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        out.append(bytes(cramjam.snappy.decompress_raw(raw[at + 4 : at + 4 + size])))
        at += 4 + size
    return b"".join(out)


def first_record_from(batch: bytes, base_offset: int, timestamp_ms: int, start: int) -> tuple[int, int]:
    """(offset, timestamp) of the batch's first record with at least this timestamp, at or after offset `start`."""
    header = read_header(batch)
    data, at = _records(batch, header), 0
    for _ in range(header.record_count):
        length, at = _varint(data, at)
        end = at + length
        timestamp_delta, at = _varint(data, at + 1)
        offset_delta, at = _varint(data, at)
        timestamp, offset = header.first_timestamp_ms + timestamp_delta, base_offset + offset_delta
        if timestamp >= timestamp_ms and offset >= start:
            return offset, timestamp
        at = end
    return base_offset + header.last_offset_delta, header.max_timestamp_ms
