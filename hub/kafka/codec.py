"""Record batches (format v2, https://kafka.apache.org/documentation/#recordbatch) to bytes and back, on aiokafka's
compiled builder and reader.

A batch is the unit that a broker stores, checks and hands out; brokers patch only its base offset. Compression is of
whole batches.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from .errors import CorruptBatch
from .fetched import FetchedBatches
from .records import Record, StoredRecord

COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BATCH_BYTES_MAX = 8 << 20
"""Largest batch that the hub's topics accept (`max.message.bytes`)."""
_UNLIMITED = (1 << 31) - 1
_CONTROL_KEY = struct.Struct(">hh")  # version, type
_ABORT = 0
_RECORD_OVERHEAD = 24
_BATCH_START = struct.Struct(">qi")  # base offset, length of what follows
_LAST_OFFSET_DELTA = struct.Struct(">i")
_LAST_OFFSET_DELTA_AT = 23


def build_batch(
    records: Iterable[Record],
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    compression: str = "none",
) -> bytes:
    """One v2 record batch of at least one record, with base offset 0. Its size is not limited here: see `size_of`.

    `compression` is a key of `COMPRESSIONS`; a batch that would not shrink stays uncompressed."""
    builder = DefaultRecordBatchBuilder(
        2, COMPRESSIONS[compression], int(transactional), producer_id, producer_epoch, base_sequence, _UNLIMITED
    )
    append = builder.append
    count = 0
    for key, value, headers, timestamp_ms in records:
        append(count, timestamp_ms, key, value, headers if type(headers) is list else list(headers))
        count += 1
    if not count:
        raise ValueError("a batch has at least one record")
    return bytes(builder.build())


def size_of(record: Record) -> int:
    """Upper bound of the bytes that a record takes in an uncompressed batch."""
    size = _RECORD_OVERHEAD + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += 8 + 4 * len(name) + len(value or b"")
    return size


def split(records: Sequence[Record], bytes_max: int) -> list[Sequence[Record]]:
    """The records in order, cut into runs of at most `bytes_max` (by `size_of`). A single larger record is a run of its
    own."""
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
    """Transactional batches of at most about `bytes_max` each, with sequences from 0 on. A single larger record is a
    batch of its own."""

    def build(run: Sequence[Record], sequence: int) -> bytes:
        return build_batch(
            run,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=sequence,
            transactional=True,
            compression=compression,
        )

    whole = build(records, 0)
    if len(whole) <= bytes_max or len(records) == 1:
        return [whole]
    batches, sequence = [], 0
    for run in split(records, bytes_max):
        batches.append(build(run, sequence))
        sequence += len(run)
    return batches


def read_batches(data: bytes | memoryview, *, aborted: Iterable[tuple[int, int]] = ()) -> list[StoredRecord]:
    """The records of the whole batches in `data`, without control records and without those of aborted transactions.

    `aborted` lists (producer id, first offset) as a fetch answers them to read_committed readers. A cut-off last batch
    is ignored, as a fetch may end in one. The first batch may begin before the offset that was asked for: the caller
    leaves those records out. A batch whose checksum is right and whose records cannot be read was written so: it is one record
    without a value (see `fetched.py`). Raises `CorruptBatch` on a wrong checksum, and where no batch can be made out."""
    whole, ranges = bytes(data), sorted(aborted, key=lambda entry: entry[1])
    try:
        try:
            return _read(MemoryRecords(whole), list(ranges))
        except (_Compressed, CorruptRecordException, ValueError, IndexError):
            return _read(FetchedBatches(whole), ranges)
    except (CorruptRecordException, ValueError, IndexError, struct.error) as broken:
        raise CorruptBatch(f"not a record batch: {broken}") from broken


def end_of_batches(data: bytes) -> int:
    """The offset after the last whole batch in `data`, control batches included; 0 where there is none."""
    position = after = 0
    while position + _BATCH_START.size <= len(data):
        base_offset, length = _BATCH_START.unpack_from(data, position)
        if position + _BATCH_START.size + length > len(data):
            break
        after = base_offset + _LAST_OFFSET_DELTA.unpack_from(data, position + _LAST_OFFSET_DELTA_AT)[0] + 1
        position += _BATCH_START.size + length
    return after


class _Compressed(Exception):
    """Records that are read after they are decompressed up to a bound."""


def _read(batches: Any, pending: list[tuple[int, int]]) -> list[StoredRecord]:
    records: list[StoredRecord] = []
    aborting: set[int] = set()
    while batches.has_next():
        batch = batches.next_batch()
        if batch.magic != 2:
            raise CorruptBatch(f"batch at offset {batch.base_offset} has format {batch.magic}; only format 2 is read")
        if not batch.validate_crc():
            raise CorruptBatch(f"batch at offset {batch.base_offset} has a wrong checksum")
        while pending and pending[0][1] < batch.next_offset:
            aborting.add(pending.pop(0)[0])
        if batch.is_control_batch:
            if _is_abort(batch):
                aborting.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in aborting):
            if type(batch) is DefaultRecordBatch and batch.compression_type:
                raise _Compressed
            records.extend([StoredRecord(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch])
    return records


def _is_abort(batch: Any) -> bool:
    marker = next(iter(batch))
    return bool(_CONTROL_KEY.unpack(marker.key[:4])[1] == _ABORT)
