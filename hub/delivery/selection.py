"""Decides by the headers alone whether a subscriber gets a record, and which of its methods handles it.

Applied to every record of the log by every subscriber. Records that it does not want are not decoded (`hub.kafka.RecordPicker`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from schemas import CATALOGUE, header_map
from subscribers import Filter, Handler, Subscriber, SubscriberSettings, type_matches

from ..kafka import read_headers

Headers = tuple[tuple[str, bytes | None], ...]
TYPE_HEADER = "ce_type"
_UNKNOWN_TYPES_MAX = 1000
_UNKNOWN_TYPE_BYTES_MAX = 255


class Malformed:
    """The route of a record without a valid type: it cannot be filtered out, and is not part of a batch."""

    batch = None


MALFORMED: Final = Malformed()
Route = Handler | Malformed | None


def type_in(headers: Iterable[tuple[str, bytes | None]]) -> bytes | None:
    """The value of the first header ce_type; None also without one."""
    return next((value for name, value in headers if name == TYPE_HEADER), None)


class Selection:
    """The compiled types and filter of one subscriber; a rule for `hub.kafka.RecordPicker`.

    `routes`: the route by type. Types that the catalogue does not have are added when they occur."""

    header = TYPE_HEADER.encode()
    next_header = b"ce_id"
    """The order of the headers is that of `hub/engine/encode.py`."""

    def __init__(self, plugin: type[Subscriber[Any]], settings: SubscriberSettings, filter: Filter | None) -> None:
        self._plugin = plugin
        self._types = plugin.event_types(settings)
        self._passes: Callable[[Mapping[str, bytes]], bool] | None = None if filter is None else filter.predicate()
        self._names = {} if filter is None else {name.encode(): name for name in _headers_of(filter)}
        self._by_type: dict[bytes, bool] | None = {} if self._names.keys() == {self.header} else None
        self.narrows = filter is not None
        self.routes: dict[bytes | None, Route] = {None: MALFORMED}
        for event_type in CATALOGUE:
            self.routes[event_type.encode()] = self._handler_of(event_type)

    def route(self, headers: Headers) -> Route:
        """The handler for a record with these headers; None if the subscriber does not get it."""
        event_type = type_in(headers)
        try:
            route = self.routes[event_type]
        except KeyError:
            route = self.unknown(event_type or b"")
        if route is None or self._passes is None or route is MALFORMED:
            return route
        return route if self._passes(header_map(headers)) else None

    def narrow(self, route: Route, value: bytes | None, data: bytes, span: tuple[int, int]) -> Route:
        """The route of an encoded record of this type (`value`) after its filter. `span`: from the number of its headers to its
        end in `data`. Raises Unwalkable."""
        if self._passes is None or route is MALFORMED:
            return route
        known, passes = self._by_type, None
        if known is not None and value is not None and data.count(self.header, *span) == 1:  # no second header of this name
            passes = known.get(value)
            if passes is None and len(value) <= _UNKNOWN_TYPE_BYTES_MAX and len(known) < len(CATALOGUE) + _UNKNOWN_TYPES_MAX:
                passes = known[value] = self._passes({TYPE_HEADER: value})
        if passes is None:
            passes = self._passes(read_headers(data, span, self._names))
        return route if passes else None

    def _handler_of(self, event_type: str) -> Handler | None:
        if not any(type_matches(pattern, event_type) for pattern in self._types):
            return None
        return self._plugin.handler_of(event_type)

    def unknown(self, value: bytes) -> Route:
        """The route of a type that is not in `routes`."""
        try:
            route: Route = self._handler_of(value.decode())
        except UnicodeDecodeError:
            route = MALFORMED
        except TypeError:  # two methods match an unknown type equally well: decoding will reject it
            route = MALFORMED
        if len(value) <= _UNKNOWN_TYPE_BYTES_MAX and len(self.routes) < len(CATALOGUE) + _UNKNOWN_TYPES_MAX:
            self.routes[value] = route
        return route


def _headers_of(filter: Filter) -> set[str]:
    """The names of the headers that the filter uses."""
    names = {"ce_" + name for name, _ in filter.attributes}
    return names.union(*(_headers_of(inner) for inner in filter.filters))
