"""Records whose headers are found by comparison with those of other records, instead of being decoded one by one.

Records of one producer have the same headers in the same order. Those before the header that a reader looks for, the prefix of
the record, are often equal in several records (of an event: what is constant for its entity), as are those at its end, the suffix
(time, severity). Each prefix and suffix is decoded once.
"""

from typing import Any

from msgspec import Struct

from .varints import STEPS, read_bytes, skip_bytes

Headers = tuple[tuple[str, bytes | None], ...]
NAMES_MAX = 1_000
_names: dict[bytes, str] = {}


class SharedHeaders:
    """Headers that several records have: a prefix or a suffix. `data`: the bytes; the headers begin at `start`, each with its
    name. They are valid. `count`: the number of headers after the prefix, or in the suffix. `facts`: what the reader of the
    records derives from the headers; None before."""

    __slots__ = ("count", "data", "facts", "start")

    def __init__(self, data: bytes, start: int, count: int) -> None:
        self.data, self.start, self.count = data, start, count
        self.facts: Any = None

    @property
    def headers(self) -> Headers:
        """The headers, decoded at each call."""
        return decode_headers(self.data, self.start)


def decode_headers(data: bytes, at: int = 0) -> Headers:
    """The valid headers from `at` to the end of `data`; invalid bytes in names become U+FFFD. Short lengths are decoded without
    calls, which would cost more than all the rest."""
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


class SharedHeadersRecord(Struct, gc=False):
    """A record with the headers of `prefix`, two own headers, and those of `suffix`. It has the attributes of
    `fetched.FetchedRecord`. `names`: those of the own headers; `first`, `second`: their values. `size`: length of the encoded
    record in bytes."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    prefix: SharedHeaders
    names: tuple[str, str]
    first: bytes
    second: bytes
    suffix: SharedHeaders
    size: int

    @property
    def headers(self) -> Headers:
        """All headers, in their order."""
        first, second = self.names
        return (*self.prefix.headers, (first, self.first), (second, self.second), *self.suffix.headers)
