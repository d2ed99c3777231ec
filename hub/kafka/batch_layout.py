"""Where the fields of a batch of format 2 are that the hub's code reads and writes itself.

Format: https://kafka.apache.org/documentation/#recordbatch."""

import struct

HEADER = struct.Struct(">qiibIhiqqqhii")
"""All fields before the records."""
LENGTH = struct.Struct(">i")
LENGTH_AT, LENGTH_COUNTS_FROM = 8, 12
ATTRIBUTES = struct.Struct(">h")
ATTRIBUTES_AT = 21
CODEC_MASK = 0x07
"""The bits of the attributes that name the compression."""


def end_of_batch(data: bytes, start: int) -> int:
    """The position after the batch at `start`. Raises `struct.error` if `data` ends before its length."""
    length: int = LENGTH.unpack_from(data, start + LENGTH_AT)[0]
    return start + LENGTH_COUNTS_FROM + length
