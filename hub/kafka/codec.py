"""Encodes and decodes record batches (format v2, https://kafka.apache.org/documentation/#recordbatch) with aiokafka's compiled
builder and reader.

A batch is the unit that brokers store, check and return; they change only its base offset. The records of a batch are compressed
as a whole if they have at least COMPRESSED_BYTES_MIN: compressing a smaller batch saves few bytes, and costs each reader several
microseconds.
"""

import struct
from collections.abc import Iterable, Sequence

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from crc32c import crc32c

from ..decompression import compress
from .batch_layout import (
    ATTRIBUTES,
    ATTRIBUTES_AT,
    CODEC_MASK,
    HEADER,
    LENGTH,
    LENGTH_AT,
    LENGTH_COUNTS_FROM,
)
from .errors import CorruptBatch
from .fetched import FetchedBatch, visible_batches
from .records import Record, StoredRecord

COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
COMPRESSED_BYTES_MIN = 1024
"""Records of fewer bytes (keys, values and headers) are not compressed."""
BATCH_BYTES_MAX = 8 << 20
"""Largest batch that the hub's topics accept (`max.message.bytes`)."""
_UNLIMITED = (1 << 31) - 1
_RECORD_OVERHEAD = 24
_BATCH_START = struct.Struct(">qi")  # base offset, length of the rest
_LAST_OFFSET_DELTA = struct.Struct(">i")
_LAST_OFFSET_DELTA_AT = 23
_CRC = struct.Struct(">I")
_CRC_AT = 17
_CHECKED_FROM = ATTRIBUTES_AT


def build_batch(
    records: Iterable[Record],
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    compression: str = "none",
) -> bytes:
    """Encode at least one record as one v2 batch with base offset 0. The size is not limited here, see `size_of`.

    `compression` is a key of `COMPRESSIONS`; a batch that would not become smaller, or has fewer than COMPRESSED_BYTES_MIN,
    stays uncompressed."""
    raw = _build(records, producer_id, producer_epoch, base_sequence, transactional=transactional)
    return _compressed(raw, COMPRESSIONS[compression])


def _build(records: Iterable[Record], producer_id: int, producer_epoch: int, base_sequence: int, *, transactional: bool) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer_id, producer_epoch, base_sequence, _UNLIMITED)
    append = builder.append
    count = 0
    for key, value, headers, timestamp_ms in records:
        append(count, timestamp_ms, key, value, headers if type(headers) is list else list(headers))
        count += 1
    if not count:
        raise ValueError("a batch needs at least one record")
    return bytes(builder.build())


def _compressed(batch: bytes, codec: int) -> bytes:
    """The uncompressed batch with compressed records. Not left to the builder, whose LZ4 compressor takes ten times as long for
    a tenth less."""
    if not codec or len(batch) < HEADER.size + COMPRESSED_BYTES_MIN:
        return batch
    body = compress(codec, batch[HEADER.size :])
    if len(body) >= len(batch) - HEADER.size:
        return batch
    attributes = ATTRIBUTES.unpack_from(batch, _CHECKED_FROM)[0] & ~CODEC_MASK | codec
    checked = b"".join((ATTRIBUTES.pack(attributes), batch[_CHECKED_FROM + ATTRIBUTES.size : HEADER.size], body))
    length = LENGTH.pack(_CHECKED_FROM - LENGTH_COUNTS_FROM + len(checked))
    return b"".join((batch[:LENGTH_AT], length, batch[LENGTH_COUNTS_FROM:_CRC_AT], _CRC.pack(crc32c(checked)), checked))


def size_of(record: Record) -> int:
    """Upper bound of the size of a record in an uncompressed batch, in bytes."""
    size = _RECORD_OVERHEAD + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += 8 + 4 * len(name) + len(value or b"")
    return size


def split(records: Sequence[Record], bytes_max: int) -> list[Sequence[Record]]:
    """Split records, in order, into groups of at most `bytes_max` (by `size_of`). A larger record forms a group alone."""
    runs: list[Sequence[Record]] = []
    start = size = 0
    for index, record in enumerate(records):
        added = size_of(record)
        if size + added > bytes_max and index > start:
            runs.append(records[start:index])
            start, size = index, 0
        size += added
    if len(records) > start:
        runs.append(records[start:])
    return runs


def build_batches(
    records: Sequence[Record],
    bytes_max: int,
    *,
    producer_id: int,
    producer_epoch: int,
    compression: str = "none",
) -> list[bytes]:
    """Transactional batches of about `bytes_max` at most before they are compressed, with sequence numbers from 0. A larger
    record forms a batch alone."""
    codec = COMPRESSIONS[compression]
    whole = _build(records, producer_id, producer_epoch, 0, transactional=True)
    if len(whole) <= bytes_max or len(records) == 1:
        return [_compressed(whole, codec)]
    batches, sequence = [], 0
    for run in split(records, bytes_max):
        batches.append(_compressed(_build(run, producer_id, producer_epoch, sequence, transactional=True), codec))
        sequence += len(run)
    return batches


def read_batches(data: bytes | memoryview, *, aborted: Iterable[tuple[int, int]] = ()) -> list[StoredRecord]:
    """Decode the complete batches in `data`, without control records and records of aborted transactions.

    `aborted` lists (producer id, first offset), as in a fetch response for read_committed. An incomplete last batch is
    ignored. The first batch may begin before the requested offset; the caller must skip those records. A batch with a correct
    checksum but undecodable records becomes one record without a value (see `fetched.py`). Raises `CorruptBatch` for a wrong
    checksum or structure."""
    records: list[StoredRecord] = []
    try:
        for batch, _, is_visible in visible_batches(bytes(data), aborted):
            if is_visible:
                if not isinstance(batch, FetchedBatch):
                    raise CorruptBatch(f"the batch at offset {batch.base_offset} has format {batch.magic} instead of 2")
                records.extend([StoredRecord(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch.decode()])
    except (CorruptRecordException, ValueError, IndexError, struct.error) as broken:
        raise CorruptBatch(f"invalid record batch: {broken}") from broken
    return records


def end_of_batches(data: bytes) -> int:
    """The offset after the last complete batch in `data`, control batches included; 0 if there is none."""
    position = after = 0
    while position + _BATCH_START.size <= len(data):
        base_offset, length = _BATCH_START.unpack_from(data, position)
        if position + _BATCH_START.size + length > len(data):
            break
        after = base_offset + _LAST_OFFSET_DELTA.unpack_from(data, position + _LAST_OFFSET_DELTA_AT)[0] + 1
        position += _BATCH_START.size + length
    return after
