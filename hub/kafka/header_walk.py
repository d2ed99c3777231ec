"""Finds records of a batch by the value of one header; the other fields are skipped, not decoded.

A batch that this module cannot read (`Unwalkable`) is for the general decoder, see `fetched`, which decides what is wrong with
it. The rest of a record after that header is not examined unless the record is wanted.

Format: https://kafka.apache.org/documentation/#record (version 2).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .shared_headers import SharedHeaders, SharedHeadersRecord
from .varints import STEPS, VALUE_STEPS, Unwalkable, length_prefixed, read_bytes, read_varint, skip_bytes

if TYPE_CHECKING:
    from .fetched import BatchView

PREFIXES_MAX = 4_096
SUFFIXES_MAX = 512
"""How many prefixes and suffixes are remembered, each of at most SHARED_BYTES_MAX bytes; of prefixes also that many older ones,
because the events of an entity come from several transactions."""
SHARED_BYTES_MAX = 1_024


class RecordRule(Protocol):
    """Which records are wanted, and the route of each. A route is any value but None, which means that it is not wanted.

    `header`: the name, of at most 63 bytes, of the header that decides first. `next_header`: likewise, of the header that usually
    follows it, with a value that few records have. `routes`: the route by the value of the first header of this name; None
    stands for a record without it and for a null value. `narrows`: whether `narrow` must be called."""

    @property
    def header(self) -> bytes: ...

    @property
    def next_header(self) -> bytes: ...

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


Found = tuple[Any, Any, int, int]
"""A wanted record; its route; its number, from 1, among those that were read; its position in the bytes. The record is None if
its headers are not the expected ones, so that it must be decoded."""


class HeaderWalk:
    """Finds the records that `rule` wants. It remembers the prefixes of records. Used in one thread."""

    def __init__(self, rule: RecordRule) -> None:
        self._rule = rule
        self._header = length_prefixed(rule.header)
        self._next_header = length_prefixed(rule.next_header)
        self._names = rule.header.decode(), rule.next_header.decode()
        self._prefixes: dict[bytes, SharedHeaders] = {}
        self._older_prefixes: dict[bytes, SharedHeaders] = {}
        self._suffixes: dict[bytes, SharedHeaders] = {}

    def find(self, view: "BatchView", from_offset: int) -> tuple[int, list[Found]]:
        """Returns how many records of the batch have an offset of at least `from_offset`, and the wanted ones of them. Raises
        Unwalkable."""
        try:
            return self._find(view, from_offset - view.base_offset)
        except IndexError:
            raise Unwalkable("a record ends beyond its batch") from None

    def _find(self, view: "BatchView", least: int) -> tuple[int, list[Found]]:
        """The decoding of short varints is written out, because calls would cost more than all the rest."""
        rule, data, header = self._rule, view.data, self._header
        routes, narrows, prefixes, older, size = rule.routes, rule.narrows, self._prefixes, self._older_prefixes, len(header)
        next_header, next_size, suffixes = self._next_header, len(self._next_header), self._suffixes
        base_offset, first_ms, append_time_ms = view.base_offset, view.first_ms, view.append_time_ms
        names, timestamp_type, value_steps = self._names, int(append_time_ms is not None), VALUE_STEPS
        found: list[Found] = []
        ordinal = 0
        at, end = view.span
        for _ in range(view.size):
            begin = at
            if (low := data[at]) > 127 > (high := data[at + 1]):
                length, at = low & 127 | high << 7, at + 2
                length = length >> 1 if not length & 1 else -1
            else:
                length, at = read_varint(data, at)
            stop = at + length
            if length < 0 or stop > end:
                raise Unwalkable("the length of a record is invalid")
            at = time_at = at + 1  # after the unused attributes
            while data[at] > 127:
                at += 1
            at += 1
            if (low := data[at]) & 1:
                raise Unwalkable("the offset of a record is before its batch")
            if low < 128:
                delta, at = low >> 1, at + 1
            elif (high := data[at + 1]) < 128:
                delta, at = (low & 127 | high << 7) >> 1, at + 2
            else:
                delta, at = read_varint(data, at)
            if delta < least:
                at = stop
                continue
            least = delta + 1
            ordinal += 1
            key_at = at
            at = value_at = at + key_step if (key_step := value_steps[data[at]]) else skip_bytes(data, at)
            if (low := data[at]) > 127 > (high := data[at + 1]) and not low & 1:
                content_at = at + 2
                headers_at = at = content_at + ((low & 127 | high << 7) >> 1)
            else:
                content_at = 0
                headers_at = at = skip_bytes(data, at)
            header_at = data.find(header, at, stop)
            if header_at < 0 or (prefix := prefixes.get(known := data[at:header_at]) or older.get(known)) is None:
                prefix, at = self._read_prefix(data, at, stop)
            else:
                at = header_at + size
            if prefix is None:
                value = None
            elif not (low := data[at]) & 129:
                at += 1
                value = data[at : (at := at + (low >> 1))]
                if at > stop:
                    raise Unwalkable("a record is longer than its length")
            else:
                value, at = _value_within(data, at, stop)
            try:
                route = routes[value]
            except KeyError:
                route = rule.unknown(value or b"")
            if route is not None and narrows:
                route = rule.narrow(route, value, data, (headers_at, stop))
            if route is not None:
                record = None
                if prefix is not None and value is not None and data.startswith(next_header, at):
                    own: bytes | None
                    if not (low := data[at := at + next_size]) & 129:
                        at += 1
                        own = data[at : (at := at + (low >> 1))]
                    else:  # the id of an event that a timer caused is long
                        own, at = _value_within(data, at, stop)
                    suffix = None if at > stop else suffixes.get(data[at:stop]) or self._read_suffix(data, at, stop)
                    if own is not None and suffix is not None and suffix.count + 2 == prefix.count:
                        key = data[key_at + 1 : value_at] if key_step > 1 else read_bytes(data, key_at)[0]
                        content = data[content_at:headers_at] if content_at else read_bytes(data, value_at)[0]
                        if (ms := append_time_ms) is None:
                            ms = first_ms + (read_varint(data, time_at)[0] if data[time_at] else 0)
                        place = base_offset + delta
                        record = SharedHeadersRecord(
                            place, ms, timestamp_type, key, content, prefix, names, value, own, suffix, stop - begin
                        )
                found.append((record, route, ordinal, begin))
            at = stop
        if at != end:
            raise Unwalkable("the records do not end at the end of their batch")
        return ordinal, found

    def _read_prefix(self, data: bytes, at: int, stop: int) -> tuple[SharedHeaders | None, int]:
        """The prefix of a record, and where the value of the first header with the name of the rule begins. None if the record
        has no such header. The headers are between `at` (their number) and `stop`."""
        begin, header = at, self._header
        if (count := data[at]) < 128 and not count & 1:
            count, at = count >> 1, at + 1
        else:
            count, at = read_varint(data, at)
        if not 0 <= 2 * count <= stop - at:
            raise Unwalkable("the number of headers of a record is invalid")
        first, headers_at = header[0], at
        for left in range(count, 0, -1):
            if (low := data[at]) == first and data.startswith(header, at):
                prefix = SharedHeaders(data[begin:at], headers_at - begin, left)
                if len(self._prefixes) >= PREFIXES_MAX and len(prefix.data) <= SHARED_BYTES_MAX:
                    self._older_prefixes.clear()
                    self._older_prefixes.update(self._prefixes)
                _remember(self._prefixes, PREFIXES_MAX, prefix)
                return prefix, at + len(header)
            if step := STEPS[low]:
                at += step
            else:
                name, after = read_bytes(data, at)
                if name is None:
                    raise Unwalkable("a header has no name")
                if name == header[1:]:
                    return SharedHeaders(data[begin:at], headers_at - begin, left), after
                at = after
            at = at + step if (step := VALUE_STEPS[data[at]]) else skip_bytes(data, at)
        if at != stop:
            raise Unwalkable("the fields of a record do not end at its end")
        return None, at

    def _read_suffix(self, data: bytes, at: int, stop: int) -> SharedHeaders | None:
        """The suffix of a record at `at`; None if there are not headers up to `stop`. Raises IndexError."""
        begin, count = at, 0
        while at < stop:
            name, at = read_bytes(data, at)
            at = skip_bytes(data, at)
            if name is None:
                return None
            count += 1
        if at != stop:
            return None
        suffix = SharedHeaders(data[begin:stop], 0, count)
        _remember(self._suffixes, SUFFIXES_MAX, suffix)
        return suffix


def _remember(known: dict[bytes, SharedHeaders], count_max: int, headers: SharedHeaders) -> None:
    if len(headers.data) <= SHARED_BYTES_MAX:
        if len(known) >= count_max:
            known.clear()
        known[headers.data] = headers


def _value_within(data: bytes, at: int, stop: int) -> tuple[bytes | None, int]:
    if (length := data[at]) < 128 and not length & 1:
        begin = at + 1
        at = begin + (length >> 1)
        value: bytes | None = data[begin:at]
    else:
        value, at = read_bytes(data, at)
    if at > stop:
        raise Unwalkable("a record is longer than its length")
    return value, at


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
                at = at + step if (step := VALUE_STEPS[data[at]]) else skip_bytes(data, at)
    except IndexError:
        raise Unwalkable("a record ends beyond its batch") from None
    if at != span[1]:
        raise Unwalkable("the fields of a record do not end at its end")
    return values
