"""Decides by the headers alone whether a subscriber gets a record, and which of its methods handles it.

Called for every record of the log and every subscriber: the most expensive code of this package.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from schemas import CATALOGUE, header_map
from subscribers import Filter, Handler, Subscriber, SubscriberSettings, type_matches

Headers = tuple[tuple[str, bytes | None], ...]
TYPE_HEADER = "ce_type"
_UNKNOWN_TYPES_MAX = 1000
_UNKNOWN_TYPE_BYTES_MAX = 255


class Malformed:
    """The route of a record without a valid type: it cannot be filtered out."""


MALFORMED: Final = Malformed()
Route = Handler | Malformed | None


class Selection:
    """The compiled types and filter of one subscriber."""

    def __init__(self, plugin: type[Subscriber[Any]], settings: SubscriberSettings, filter: Filter | None) -> None:
        self._plugin = plugin
        self._types = plugin.event_types(settings)
        self._passes: Callable[[Mapping[str, bytes]], bool] | None = None if filter is None else filter.predicate()
        self._routes: dict[bytes | None, Route] = {None: MALFORMED}
        for event_type in CATALOGUE:
            self._routes[event_type.encode()] = self._handler_of(event_type)

    def route(self, headers: Headers) -> Route:
        """The handler for a record with these headers; None if the subscriber does not get it."""
        event_type = None
        for name, value in headers:
            if name == TYPE_HEADER:
                event_type = value
                break
        try:
            route = self._routes[event_type]
        except KeyError:
            route = self._unknown(event_type or b"")
        if route is None or self._passes is None or route is MALFORMED:
            return route
        return route if self._passes(header_map(headers)) else None

    def _handler_of(self, event_type: str) -> Handler | None:
        if not any(type_matches(pattern, event_type) for pattern in self._types):
            return None
        return self._plugin.handler_of(event_type)

    def _unknown(self, event_type: bytes) -> Route:
        try:
            route: Route = self._handler_of(event_type.decode())
        except UnicodeDecodeError:
            route = MALFORMED
        except TypeError:  # two methods match an unknown type equally well: decoding will reject it
            route = MALFORMED
        if len(event_type) <= _UNKNOWN_TYPE_BYTES_MAX and len(self._routes) < len(CATALOGUE) + _UNKNOWN_TYPES_MAX:
            self._routes[event_type] = route
        return route
