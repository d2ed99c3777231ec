"""Decodes fetched record batches with aiokafka's compiled reader, or without it if a header name is not UTF-8.

Kafka's protocol defines header names as UTF-8, but brokers do not check this and librdkafka sends any bytes. The compiled
reader raises on such a name, so a single record would block all readers of its partition. Here invalid bytes become U+FFFD, as
in Kafka's Java client. Compressed records are decompressed here, up to a limit. A batch that exceeds it, or that cannot be
decoded although its checksum is correct (its producer wrote invalid data, which brokers need not check), is read as one record
without a value; its header UNREADABLE has the reason.

Format: https://kafka.apache.org/documentation/#record (version 2).
"""

import struct
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Self

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from ..decompression import DECOMPRESSED_BYTES_MAX, TooLargeDecompressed, decompress
from ..logs import Logger
from ..protocol import batch_layout as layout
from ..throttle import LogThrottle
from .varints import read_varint

log = Logger(__name__)

UNREADABLE = "hub-unreadable"
REASON_CHARACTERS_MAX = 300

_CONTROL_KEY = struct.Struct(">hh")
"""Version and type of a control record."""
_ABORT = 0
_throttle = LogThrottle()


class FetchedRecord(NamedTuple):
    """A record with the attributes of aiokafka's records."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class BatchView(NamedTuple):
    """An uncompressed batch of format 2: its `size` records are at `span` of `data`. Times in ms; `append_time_ms`: that of all
    records, if the broker has set it."""

    data: bytes
    span: tuple[int, int]
    size: int
    base_offset: int
    first_ms: int
    append_time_ms: int | None


class FetchedBatches:
    """The complete batches of a fetch response, in order; replaces aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._batches: Any = MemoryRecords(data)
        self._next_at = 0

    def size_in_bytes(self) -> int:
        """Size of the fetched bytes."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is another complete batch."""
        left: bool = self._batches.has_next()
        return left

    def next_batch(self) -> Any:
        """The next batch, or None after the last. Control batches, which only brokers write, are returned unchanged. Raises
        CorruptRecordException."""
        batch = self._batches.next_batch()
        if batch is None:
            return None
        start = self._next_at
        self._next_at = end = layout.end_of_batch(self._data, start)
        if getattr(batch, "magic", 1) != 2 or batch.is_control_batch:
            return batch
        return FetchedBatch(batch, self._data, start, end)


class FetchedBatch:
    """One batch of format 2, with the attributes of aiokafka's batches. Iteration yields its records."""

    __slots__ = ("_at", "_batch", "_data", "_records")

    def __init__(self, batch: Any, data: bytes, start: int, end: int) -> None:
        self._batch, self._data, self._at = batch, data, (start, end)
        self._records: Iterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Self:
        self._records = iter(self.decode())
        return self

    def decode(self) -> list[Any]:
        """The records, or one record in place of all if they cannot be decoded."""
        (start, end), data, batch = self._at, self._data, self._batch
        try:
            if batch.compression_type:
                plain = uncompressed(data[start:end])
                start, end, data, batch = 0, len(plain), plain, DefaultRecordBatch(plain)
            return list(batch)
        except UnicodeDecodeError:
            return self._leniently(data[start:end])
        except TooLargeDecompressed:
            return [self._left_out(f"the decompressed records exceed {DECOMPRESSED_BYTES_MAX} bytes")]
        except Exception as error:
            return [self._left_out(f"the records cannot be decoded: {type(error).__name__}: {error}")]

    def view(self) -> BatchView:
        """The batch without decoding its records. Raises any exception if it cannot be decompressed."""
        (start, end), data = self._at, self._data
        if self._batch.compression_type:
            data = uncompressed(data[start:end])
            start, end = 0, len(data)
        return view_of(data, start, end)

    def _leniently(self, data: bytes) -> list[FetchedRecord]:
        try:
            return read_leniently(data)
        except CorruptRecordException as error:
            return [self._left_out(f"the records cannot be decoded: {error}")]

    def _left_out(self, reason: str) -> FetchedRecord:
        """The record that replaces all records of a batch skipped because of `reason`."""
        reason = reason[:REASON_CHARACTERS_MAX]
        if (more := _throttle.admit("left out")) is not None:
            log.error("undecodable records skipped", action="batch_left_out", offset=self.base_offset, reason=reason, more=more)
        return FetchedRecord(self.next_offset - 1, self._batch.max_timestamp, 0, None, None, [(UNREADABLE, reason.encode())])

    def __next__(self) -> Any:
        if self._records is None:
            iter(self)
        assert self._records is not None
        return next(self._records)


def visible_batches(data: bytes, aborted: Collection[tuple[int, int]]) -> Iterator[tuple[FetchedBatch, int, bool]]:
    """The complete batches in `data` with the offset after each, and whether readers of committed records can see it. `aborted`:
    see `FetchedPartition`. Raises any exception at a batch with a wrong checksum or structure, or of a format before Kafka
    0.11."""
    pending = sorted(aborted, key=lambda entry: entry[1], reverse=True) if aborted else []
    aborting = set()
    batches, end = MemoryRecords(data), 0
    while (batch := batches.next_batch()) is not None:
        start, end = end, layout.end_of_batch(data, end)
        if (magic := data[start + layout.MAGIC_AT]) != layout.MAGIC:
            raise ValueError(f"a batch has format {magic}; only format {layout.MAGIC} is supported")
        if not batch.validate_crc():
            raise ValueError(f"the batch at offset {batch.base_offset} has a wrong checksum")
        next_offset = batch.next_offset
        while pending and pending[-1][1] < next_offset:
            aborting.add(pending.pop()[0])
        if batch.is_control_batch:
            if batch.producer_id in aborting and _is_abort(batch):
                aborting.discard(batch.producer_id)
            visible = False
        else:
            visible = not (aborting and batch.is_transactional and batch.producer_id in aborting)
        yield FetchedBatch(batch, data, start, end), next_offset, visible


def _is_abort(batch: Any) -> bool:
    """Whether a control batch is the marker of an aborted transaction. Raises any exception if its record is invalid."""
    marker = next(iter(batch), None)  # compaction leaves a batch without records
    return marker is not None and bool(_CONTROL_KEY.unpack((marker.key or b"")[:4])[1] == _ABORT)


def uncompressed(batch: bytes) -> bytes:
    """The batch of format 2 with decompressed records; its checksum is not updated. Raises TooLargeDecompressed."""
    attributes = layout.ATTRIBUTES.unpack_from(batch, layout.ATTRIBUTES_AT)[0]
    body = decompress(attributes & layout.CODEC_MASK, batch[layout.HEADER_BYTES :])
    length = layout.LENGTH.pack(layout.HEADER_BYTES - layout.LENGTH_COUNTS_FROM + len(body))
    before = batch[layout.LENGTH_COUNTS_FROM : layout.ATTRIBUTES_AT]
    plain = layout.ATTRIBUTES.pack(attributes & ~layout.CODEC_MASK)
    after = batch[layout.ATTRIBUTES_AT + layout.ATTRIBUTES.size : layout.HEADER_BYTES]
    return b"".join((batch[: layout.LENGTH_AT], length, before, plain, after, body))


def view_of(data: bytes, start: int, end: int) -> BatchView:
    """The uncompressed batch of format 2 at `start` of `data`."""
    base_offset, _, _, _, _, attributes, _, first_ms, max_ms, _, _, _, count = layout.HEADER.unpack_from(data, start)
    append_time_ms = max_ms if attributes & layout.APPEND_TIME else None
    return BatchView(data, (start + layout.HEADER_BYTES, end), count, base_offset, first_ms, append_time_ms)


def record_at(view: BatchView, at: int) -> FetchedRecord:
    """Decode the record at `at`. Raises ValueError, IndexError."""
    return _placed(view, _read_record(view.data, at)[0])


def _placed(view: BatchView, record: FetchedRecord) -> FetchedRecord:
    append_time_ms = view.append_time_ms
    return record._replace(
        offset=view.base_offset + record.offset,
        timestamp=view.first_ms + record.timestamp if append_time_ms is None else append_time_ms,
        timestamp_type=int(append_time_ms is not None),
    )


def read_leniently(batch: bytes) -> list[FetchedRecord]:
    """Decode an uncompressed batch of format 2 with any header names. Raises CorruptRecordException."""
    view = view_of(batch, 0, len(batch))
    body = batch[layout.HEADER_BYTES :]
    try:
        records, at = [], 0
        for _ in range(view.size):
            record, at = _read_record(body, at)
            records.append(record)
    except Exception as error:
        raise CorruptRecordException(f"batch at offset {view.base_offset}: {error!r}") from error
    return [_placed(view, record) for record in records]


def _read_record(body: bytes, at: int) -> tuple[FetchedRecord, int]:
    """Decode the record at position `at`. Returns it, with offset and timestamp relative to its batch, and the position after
    it."""
    length, at = read_varint(body, at)
    end = at + length
    time_delta, at = read_varint(body, at + 1)  # skip the unused attributes
    offset_delta, at = read_varint(body, at)
    key, at = _read_bytes(body, at)
    value, at = _read_bytes(body, at)
    count, at = read_varint(body, at)
    headers = []
    for _ in range(count):
        name, at = _read_bytes(body, at)
        content, at = _read_bytes(body, at)
        headers.append(((name or b"").decode(errors="replace"), content))
    if at != end or end > len(body):
        raise ValueError(f"the fields of a record of {length} bytes end at {at} instead of {end}")
    return FetchedRecord(offset_delta, time_delta, 0, key, value, headers), at


def _read_bytes(body: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = read_varint(body, at)
    return (None, at) if length < 0 else (body[at : at + length], at + length)
