"""Zigzag varints, and bytes with their length, in records.

Format: https://kafka.apache.org/documentation/#record (version 2).
"""

_VARINT_BITS_MAX = 63
_SHORT_MAX = 63
_KEPT = 4096
STEPS = tuple(1 + (first >> 1) if first < 128 and not first & 1 else 0 for first in range(256))
"""By the first byte of a length: the bytes of the length and of its content, if the length has one byte; otherwise 0."""
VALUE_STEPS = (STEPS[0], 1, *STEPS[2:])
"""The same for values, which can be null."""


class _Varints(dict[int, bytes]):
    """Zigzag varints by number; each is encoded when it is first needed, and small ones, which most lengths are, are kept."""

    def __missing__(self, number: int) -> bytes:
        encoded = bytearray()
        rest = (number << 1) ^ (number >> _VARINT_BITS_MAX)
        while rest > 0x7F:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
        if -1 <= number < _KEPT:
            self[number] = bytes(encoded)
        return bytes(encoded)


VARINTS = _Varints()
"""The encoded form of a number of up to 64 bits: `VARINTS[number]`."""


class Unwalkable(ValueError):
    """The records do not have the expected structure."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The zigzag varint at `at`, and the position after it. Raises Unwalkable if it has more than ten bytes, IndexError."""
    number = shift = 0
    while (byte := data[at]) & 0x80:
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if shift > _VARINT_BITS_MAX:
            raise Unwalkable("a varint has more than ten bytes")
    number |= byte << shift
    return (number >> 1) ^ -(number & 1), at + 1


def read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes at `at`, which begin with their length, and the position after them. Raises Unwalkable, IndexError."""
    if step := STEPS[data[at]]:
        return data[at + 1 : at + step], at + step
    length, at = read_varint(data, at)
    if length >= 0:
        return data[at : at + length], at + length
    if length != -1:
        raise Unwalkable("a length is negative")
    return None, at


def length_prefixed(data: bytes) -> bytes:
    """Less than 64 bytes, with their length before them. Raises ValueError."""
    if len(data) > _SHORT_MAX:
        raise ValueError(f"{len(data)} bytes; at most {_SHORT_MAX} are supported")
    return bytes((len(data) << 1,)) + data


def skip_bytes(data: bytes, at: int) -> int:
    """The position after the bytes at `at`, which begin with their length and can be null. Raises Unwalkable, IndexError."""
    length, at = read_varint(data, at)
    if length < -1:
        raise Unwalkable("a length is negative")
    return at + max(length, 0)
