"""Primitive types of the protocol. Format: https://kafka.apache.org/protocol#protocol_types; compact lengths: KIP-482."""

import struct

from .errors import MalformedMessage

INT8, INT16, INT32, INT64 = (struct.Struct(">" + letter) for letter in "bhiq")
UINT16 = struct.Struct(">H")


def read_uvarint(buffer: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """Decode an unsigned varint of at most five bytes. Returns (value, position after it). Raises `MalformedMessage`, or
    IndexError at the end of the buffer."""
    value = buffer[at]
    if value < 0x80:  # nearly always
        return value, at + 1
    high = buffer[at + 1]
    if high < 0x80:
        return value & 0x7F | high << 7, at + 2
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise MalformedMessage("a varint has more than five bytes")


def write_uvarint(value: int) -> bytes:
    """Encode an unsigned varint."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_count(number: int, flexible: bool) -> bytes:
    """Encode the length of an array."""
    return write_uvarint(number + 1) if flexible else INT32.pack(number)


def write_topic_name(topic: str, flexible: bool) -> bytes:
    """Encode the name of a topic with its length."""
    name = topic.encode()
    return (write_uvarint(len(name) + 1) if flexible else INT16.pack(len(name))) + name


def take(buffer: bytes, at: int, size: int) -> bytes:
    """`size` bytes from position `at`. Raises `MalformedMessage` if the buffer is too short."""
    end = at + size
    if end > len(buffer):
        raise MalformedMessage("a length exceeds the rest of the frame")
    return buffer[at:end]


def skip_tags(buffer: bytes | bytearray | memoryview, at: int) -> int:
    """Skip a tag section. Returns the position after it. Raises `MalformedMessage`, or IndexError at the end of the buffer."""
    count, at = read_uvarint(buffer, at)
    for _ in range(count):
        _, at = read_uvarint(buffer, at)
        size, at = read_uvarint(buffer, at)
        at += size
        if at > len(buffer):
            raise MalformedMessage("a tag exceeds the rest of the frame")
    return at
