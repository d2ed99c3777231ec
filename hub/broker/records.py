"""Reads inside record batches: keys for compaction, timestamps for ListOffsets.

Format of records (version 2): https://kafka.apache.org/documentation/#record. Records are scanned, not decoded: values are
skipped, and retained records are copied unchanged.
"""

from collections.abc import Iterator, Sequence

from ..protocol.batch_layout import APPEND_TIME, CODEC_MASK, HEADER_BYTES
from .batches import BatchHeader, read_header, sealed
from .errors import MalformedBatch

NONE = 0
"""The codec of a batch that is not compressed."""

Bounds = tuple[int, int]
"""(start, end) of a record in the records section."""
KeyedRecord = tuple[Bounds, int, bytes | None, bool]
"""(bounds, offset delta, key, whether it is a tombstone); a plain tuple, because there may be millions."""


def walk(data: bytes, count: int) -> Iterator[KeyedRecord]:
    """The `count` records in a decompressed records section. Raises `MalformedBatch`."""
    at = 0
    try:
        for _ in range(count):
            start = at
            byte, second = data[at], data[at + 1]
            if byte < 0x80:  # lengths of one and two bytes are decoded inline for speed
                at += 1
                end = at + (byte >> 1)
            elif second < 0x80:
                at += 2
                end = at + (((byte & 0x7F) | second << 7) >> 1)
            else:
                length, at = _varint(data, at)
                end = at + length
            at += 1
            while data[at] >= 0x80:
                at += 1
            byte, second = data[at + 1], data[at + 2]
            if byte < 0x80:
                delta, at = byte >> 1, at + 2
            elif second < 0x80:
                delta, at = ((byte & 0x7F) | second << 7) >> 1, at + 3
            else:
                delta, at = _varint(data, at + 1)
            if not start < end <= len(data):
                raise MalformedBatch("a record extends past the end of its batch")
            byte = data[at]
            size, at = (byte >> 1, at + 1) if byte < 0x80 and not byte & 1 else _varint(data, at)
            if size < 0:
                yield (start, end), delta, None, False
            else:
                yield (start, end), delta, data[at : at + size], bool(data[at + size] & 1)
            at = end
    except IndexError:
        raise MalformedBatch("the batch ends inside a record") from None


def bounds(data: bytes, count: int) -> Iterator[Bounds]:
    """The bounds of the `count` records in a decompressed records section. Raises `MalformedBatch`."""
    at, size = 0, len(data)
    try:
        for _ in range(count):
            start, byte, second = at, data[at], data[at + 1]
            if byte < 0x80:
                at += 1 + (byte >> 1)
            elif second < 0x80:
                at += 2 + (((byte & 0x7F) | second << 7) >> 1)
            else:
                length, at = _varint(data, at)
                at += length
            if not start < at <= size:
                raise MalformedBatch("a record extends past the end of its batch")
            yield start, at
    except IndexError:
        raise MalformedBatch("the batch ends inside a record") from None


def records_of(batch: bytes, header: BatchHeader) -> bytes:
    """The records section, decompressed. Raises `MalformedBatch`, also if it exceeds DECOMPRESSED_BYTES_MAX."""
    raw, codec = batch[HEADER_BYTES:], header.attributes & CODEC_MASK
    if codec == NONE:
        return raw
    from ..decompression import decompress  # imported here: most brokers never decompress a batch

    try:
        return decompress(codec, raw)
    except Exception as error:  # each codec raises different exceptions
        raise MalformedBatch(f"the records cannot be decompressed: {error!r}") from error


def _compressed(data: bytes, codec: int) -> tuple[int, bytes]:
    """A records section, compressed with the codec of its batch, or NONE if that makes it no smaller."""
    if codec == NONE or not data:
        return NONE, data
    from ..decompression import compress

    compressed = compress(codec, data)
    return (codec, compressed) if len(compressed) < len(data) else (NONE, data)


def with_records(batch: bytes, header: BatchHeader, data: bytes, kept: Sequence[Bounds]) -> bytes:
    """The batch with only the records at bounds `kept` of `data`, its decompressed records section.

    As in Kafka, offsets, sequence numbers, producer identity, base offset and last offset delta do not change: consumers see a
    gap, and the state of the producer can still be derived from the batch. The largest timestamp is that of the retained
    records, -1 if there are none."""
    section = b"".join([data[start:end] for start, end in kept])
    if not kept:
        timestamp_ms = -1
    elif header.attributes & APPEND_TIME:
        timestamp_ms = header.max_timestamp_ms
    else:
        timestamp_ms = header.first_timestamp_ms + max(_varint(data, _after_length(data, start))[0] for start, _ in kept)
    codec, section = _compressed(section, header.attributes & CODEC_MASK)
    attributes = header.attributes & ~CODEC_MASK | codec
    changed = header._replace(attributes=attributes, max_timestamp_ms=timestamp_ms, record_count=len(kept))
    return sealed(changed, section)


def _after_length(data: bytes, at: int) -> int:
    """Position of the timestamp delta: after the length and the attributes of the record at `at`."""
    while data[at] >= 0x80:
        at += 1
    return at + 2


def all_keyed(batch: bytes, header: BatchHeader) -> bool:
    """Whether every record has a key, as required in a compacted topic; False if the records cannot be read."""
    try:
        return all(key is not None for _, _, key, _ in walk(records_of(batch, header), header.record_count))
    except MalformedBatch:
        return False


def first_record_from(batch: bytes, base_offset: int, timestamp_ms: int, start: int) -> tuple[int, int]:
    """(offset, timestamp in ms) of the first record of the batch at or after offset `start` with a timestamp of at least
    `timestamp_ms`. Raises `MalformedBatch`."""
    header = read_header(batch)
    data = records_of(batch, header)
    for (at, _), delta, _, _ in walk(data, header.record_count):
        offset, timestamp = base_offset + delta, header.max_timestamp_ms
        if not header.attributes & APPEND_TIME:
            timestamp = header.first_timestamp_ms + _varint(data, _after_length(data, at))[0]
        if timestamp >= timestamp_ms and offset >= start:
            return offset, timestamp
    return base_offset + header.last_offset_delta, header.max_timestamp_ms


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode a zigzag varint. Returns (value, position after it)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
