"""Records whose headers are found by comparison with those of other records, instead of being decoded one by one.

Records of one producer have the same headers in the same order. Those before the header that a reader looks for, the lead of the
record, are often equal in several records (of an event: what is constant for its entity), as are those at its end, the trail
(time, severity). Each lead and trail is decoded once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from .varints import STEPS, read_bytes, skip_bytes

Headers = tuple[tuple[str, bytes | None], ...]
NAMES_MAX = 1_000
_names: dict[bytes, str] = {}


class SharedHeaders:
    """Headers that several records have: a lead or a trail. `count`: the number of headers after the lead, or in the trail.
    `facts`: what the reader of the records derives from the headers; None before."""

    __slots__ = ("_data", "_headers", "_start", "count", "facts")

    def __init__(self, data: bytes, start: int, count: int) -> None:
        """`data`: the bytes; the headers begin at `start`, each with its name. They must be valid."""
        self._data, self._start, self.count = data, start, count
        self.facts: Any = None
        self._headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """The decoded headers; invalid bytes in names become U+FFFD."""
        if self._headers is None:
            self._headers = _decode(self._data, self._start)
        return self._headers


def _decode(data: bytes, at: int) -> Headers:
    """Short lengths are decoded without calls, which would cost more than all the rest."""
    headers: list[tuple[str, bytes | None]] = []
    names, end = _names, len(data)
    while at < end:
        begin, at = at, at + step if (step := STEPS[data[at]]) else skip_bytes(data, at)
        name = names.get(data[begin:at])
        if name is None:
            name = _name_of(data[begin:at])
        if (low := data[at]) & 129:
            value, at = read_bytes(data, at)
        else:
            begin = at + 1
            at = begin + (low >> 1)
            value = data[begin:at]
        headers.append((name, value))
    return tuple(headers)


def _name_of(data: bytes) -> str:
    """The name in these bytes, which begin with its length. Names of less than 64 bytes are remembered."""
    name = (read_bytes(data, 0)[0] or b"").decode(errors="replace")
    if len(data) <= 64 and len(_names) < NAMES_MAX:
        _names[data] = name
    return name


class FormedRecord(NamedTuple):
    """A record with the headers of `lead`, two own headers, and those of `trail`. It has the attributes of
    `fetched.FetchedRecord`. `names`, `values`: of the own headers. `size`: length of the encoded record in bytes."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    lead: SharedHeaders
    names: tuple[str, str]
    values: tuple[bytes, bytes]
    trail: SharedHeaders
    size: int

    @property
    def headers(self) -> Headers:
        """All headers, in their order."""
        (first, second), (one, other) = self.names, self.values
        return (*self.lead.headers, (first, one), (second, other), *self.trail.headers)


make_record: Callable[[type[FormedRecord], tuple[Any, ...]], FormedRecord] = tuple.__new__
"""Creates a FormedRecord from a tuple of its fields, faster than its constructor."""
