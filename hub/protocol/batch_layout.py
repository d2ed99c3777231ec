"""Where the fields of a record batch of format 2 are.

Format: https://kafka.apache.org/documentation/#recordbatch
"""

import struct
from collections.abc import Iterator

HEADER = struct.Struct(">qiibIhiqqqhii")
"""All fields before the records: base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and
largest timestamp in ms, producer id and epoch, base sequence, number of records."""
HEADER_BYTES = HEADER.size
START = struct.Struct(">qi")
"""The first two fields: base offset, and the number of bytes after both."""
BASE_OFFSET = struct.Struct(">q")
LENGTH, LENGTH_AT, LENGTH_COUNTS_FROM = struct.Struct(">i"), 8, START.size
LEADER_EPOCH_AT, MAGIC_AT = 12, 16
CRC, CRC_AT = struct.Struct(">I"), 17
ATTRIBUTES, ATTRIBUTES_AT = struct.Struct(">h"), 21
UNCHECKED, CHECKED = struct.Struct(">qiibI"), struct.Struct(">hiqqqhii")
"""The header in two parts: up to the checksum, and the rest, which the checksum covers with the records."""
CHECKED_FROM = UNCHECKED.size
UNCHECKED_IN_LENGTH = CHECKED_FROM - LENGTH_COUNTS_FROM
"""Bytes before the attributes that are included in the length."""
LAST_OFFSET_DELTA, LAST_OFFSET_DELTA_AT = struct.Struct(">i"), 23
MAX_TIMESTAMP, MAX_TIMESTAMP_AT = struct.Struct(">q"), 35

MAGIC = 2
CODEC_MASK, APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
"""The bits of the attributes: compression, timestamps of the broker, part of a transaction, marker of a transaction."""


def end_of_batch(data: bytes, start: int) -> int:
    """The position after the batch at `start`. Raises `struct.error` if `data` ends before its length."""
    length: int = LENGTH.unpack_from(data, start + LENGTH_AT)[0]
    return start + LENGTH_COUNTS_FROM + length


def whole_batches(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """(base offset, start, end) of each complete batch in `data` from position `at`, up to the first one that is incomplete or
    shorter than its header."""
    size = len(data)
    while at + HEADER_BYTES <= size:
        base_offset, length = START.unpack_from(data, at)
        end = at + START.size + length
        if not at + HEADER_BYTES <= end <= size:
            return
        yield base_offset, at, end
        at = end


def last_offset_delta(data: bytes, start: int = 0) -> int:
    """The offset of the last record of the batch at `start`, counted from its base offset. Raises `struct.error` if `data` ends
    before it."""
    delta: int = LAST_OFFSET_DELTA.unpack_from(data, start + LAST_OFFSET_DELTA_AT)[0]
    return delta
