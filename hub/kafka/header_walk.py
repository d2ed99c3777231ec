"""Finds records of a batch by the value of one header; the other fields are skipped, not decoded.

A batch that this module cannot read (`Unwalkable`) is for the general decoder, see `fetched`, which decides what is wrong with
it. The rest of a record after that header is not examined unless the record is wanted.

Format: https://kafka.apache.org/documentation/#record (version 2).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

_VARINT_BITS_MAX = 63
_HEADER_NAME_MAX = 63
STEPS = tuple(1 + (first >> 1) if first < 128 and not first & 1 else 0 for first in range(256))
"""By the first byte of a length: the bytes of the length and of its content, if the length has one byte; otherwise 0."""
VALUE_STEPS = (STEPS[0], 1, *STEPS[2:])
"""The same for values, which can be null."""


class Unwalkable(ValueError):
    """The records do not have the expected structure."""


class RecordRule(Protocol):
    """Which records are wanted, and the route of each. A route is any value but None, which means that it is not wanted.

    `header`: the name, of at most 63 bytes, of the header that decides first. `routes`: the route by the value of the first
    header of this name; None stands for a record without it and for a null value. `narrows`: whether `narrow` must be called."""

    @property
    def header(self) -> bytes: ...

    @property
    def routes(self) -> Mapping[bytes | None, Any]: ...

    @property
    def narrows(self) -> bool: ...

    def unknown(self, value: bytes) -> Any:
        """The route of a value that is not in `routes`."""

    def narrow(self, route: Any, value: bytes | None, data: bytes, span: tuple[int, int]) -> Any:
        """The route after a look at the other headers of a record with this `route`, or None. `span`: where they begin (at
        their number) and end in `data`. May raise Unwalkable."""

    def route(self, headers: Any) -> Any:
        """The route by all headers of a decoded record."""


class Found(NamedTuple):
    """A wanted record. `ordinal`: its number, from 1, among those that were read; `at`: its position."""

    ordinal: int
    at: int
    route: Any


def find_records(data: bytes, span: tuple[int, int], count: int, least: int, rule: RecordRule) -> tuple[int, list[Found]]:
    """Returns how many of the `count` uncompressed records at `span` of `data` have an offset of at least `least`, relative to
    that of their batch, and the wanted ones of them. Raises Unwalkable."""
    try:
        return _find(data, span, count, least, rule)
    except IndexError:
        raise Unwalkable("a record ends beyond its batch") from None


def _find(data: bytes, span: tuple[int, int], count: int, least: int, rule: RecordRule) -> tuple[int, list[Found]]:
    """The decoding of short varints is written out, because calls would cost more than all the rest."""
    routes, narrows, header = rule.routes, rule.narrows, _with_length(rule.header)
    found: list[Found] = []
    ordinal = 0
    at, end = span
    for _ in range(count):
        begin = at
        if (low := data[at]) > 127 > (high := data[at + 1]):
            length, at = low & 127 | high << 7, at + 2
            length = length >> 1 if not length & 1 else -1
        else:
            length, at = read_varint(data, at)
        stop = at + length
        if length < 0 or stop > end:
            raise Unwalkable("the length of a record is invalid")
        at += 1  # the unused attributes
        while data[at] > 127:  # the timestamp
            at += 1
        at += 1
        if (low := data[at]) < 128 and not low & 1:
            delta, at = low >> 1, at + 1
        else:
            delta, at = read_varint(data, at)
        if delta < least:
            at = stop
            continue
        least, ordinal = delta + 1, ordinal + 1
        at = at + step if (step := VALUE_STEPS[data[at]]) else _skip(data, at)  # the key
        if (low := data[at]) > 127 > (high := data[at + 1]) and not low & 1:  # the value
            at += 2 + ((low & 127 | high << 7) >> 1)
        else:
            at = _skip(data, at)
        value = _first_value(data, at, stop, header)
        try:
            route = routes[value]
        except KeyError:
            route = rule.unknown(value or b"")
        if route is not None and narrows:
            route = rule.narrow(route, value, data, (at, stop))
        if route is not None:
            found.append(Found(ordinal, begin, route))
        at = stop
    if at != end:
        raise Unwalkable("the records do not end at the end of their batch")
    return ordinal, found


def _first_value(data: bytes, at: int, stop: int, header: bytes) -> bytes | None:
    """The value of the first header whose name is `header`, which begins with its length; None if there is none. The headers are
    between `at` (their number) and `stop`."""
    if (count := data[at]) < 128 and not count & 1:
        count, at = count >> 1, at + 1
    else:
        count, at = read_varint(data, at)
    if not 0 <= 2 * count <= stop - at:
        raise Unwalkable("the number of headers of a record is invalid")
    first, size = header[0], len(header)
    for _ in range(count):
        if (low := data[at]) == first and data.startswith(header, at):
            return _value_within(data, at + size, stop)
        if step := STEPS[low]:
            at += step
        else:
            name, at = read_bytes(data, at)
            if name is None:
                raise Unwalkable("a header has no name")
            if name == header[1:]:
                return _value_within(data, at, stop)
        at = at + step if (step := VALUE_STEPS[data[at]]) else _skip(data, at)
    if at != stop:
        raise Unwalkable("the fields of a record do not end at its end")
    return None


def _value_within(data: bytes, at: int, stop: int) -> bytes | None:
    if (length := data[at]) < 128 and not length & 1:
        begin = at + 1
        at = begin + (length >> 1)
        value: bytes | None = data[begin:at]
    else:
        value, at = read_bytes(data, at)
    if at > stop:
        raise Unwalkable("a record is longer than its length")
    return value


def _with_length(name: bytes) -> bytes:
    if len(name) > _HEADER_NAME_MAX:
        raise ValueError(f"the name of the header has {len(name)} bytes; at most {_HEADER_NAME_MAX} are supported")
    return bytes([len(name) << 1]) + name


def read_headers(data: bytes, span: tuple[int, int], names: Mapping[bytes, str]) -> dict[str, bytes]:
    """The values of the headers with these `names`, by their names as text. A null value is omitted; of several headers with the
    same name the last one with a value is used. `span`: from their number to the end of their record. Raises Unwalkable."""
    values: dict[str, bytes] = {}
    try:
        count, at = read_varint(data, span[0])
        if not 0 <= 2 * count <= span[1] - at:
            raise Unwalkable("the number of headers of a record is invalid")
        for _ in range(count):
            name, at = read_bytes(data, at)
            if name is None:
                raise Unwalkable("a header has no name")
            if name in names:
                value, at = read_bytes(data, at)
                if value is not None:
                    values[names[name]] = value
            else:
                at = at + step if (step := VALUE_STEPS[data[at]]) else _skip(data, at)
    except IndexError:
        raise Unwalkable("a record ends beyond its batch") from None
    if at != span[1]:
        raise Unwalkable("the fields of a record do not end at its end")
    return values


def read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes at `at`, which begin with their length, and the position after them. Raises Unwalkable, IndexError."""
    length, at = read_varint(data, at)
    if length >= 0:
        return data[at : at + length], at + length
    if length != -1:
        raise Unwalkable("a length is negative")
    return None, at


def _skip(data: bytes, at: int) -> int:
    length, at = read_varint(data, at)
    if length < -1:
        raise Unwalkable("a length is negative")
    return at + max(length, 0)


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
