"""Filters: the CloudEvents filter dialect, applied to the headers of a record, so that rejected events are not decoded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FILTER_ATTRIBUTES = frozenset(
    {"specversion", "type", "source", "id", "subject", "time", "namespace", "taskname", "severitynumber", "traceparent"}
)
"""The CloudEvents attributes in the headers of an event, which filters can use."""

Predicate = Callable[[Mapping[str, bytes]], bool]
_OPERATORS = ("exact", "prefix", "suffix", "all", "any", "not")


@dataclass(frozen=True)
class Filter:
    """A filter as a value: `operator` is one of exact, prefix, suffix (on `attributes`), all, any, not (on `filters`)."""

    operator: str
    attributes: tuple[tuple[str, str], ...] = ()
    filters: tuple["Filter", ...] = ()

    def predicate(self) -> Predicate:
        """A function that returns whether a record passes, by its headers. An absent attribute never matches."""
        if self.operator in ("exact", "prefix", "suffix"):
            return _attribute_predicate(self.operator, self.attributes)
        inner = [one.predicate() for one in self.filters]
        if self.operator == "not":
            refused = inner[0]
            return lambda headers: not refused(headers)
        if self.operator == "all":
            return lambda headers: all(one(headers) for one in inner)
        return lambda headers: any(one(headers) for one in inner)

    def to_json(self) -> dict[str, Any]:
        """The filter in the JSON of the CloudEvents Subscriptions API."""
        if self.operator in ("exact", "prefix", "suffix"):
            return {self.operator: dict(self.attributes)}
        if self.operator == "not":
            return {"not": self.filters[0].to_json()}
        return {self.operator: [one.to_json() for one in self.filters]}


def _attribute_predicate(operator: str, attributes: tuple[tuple[str, str], ...]) -> Predicate:
    wanted = [("ce_" + name, value.encode()) for name, value in attributes]
    if operator == "exact":
        return lambda headers: all(headers.get(name) == value for name, value in wanted)
    if operator == "prefix":
        return lambda headers: all(headers.get(name, b"").startswith(value) and name in headers for name, value in wanted)
    return lambda headers: all(headers.get(name, b"").endswith(value) and name in headers for name, value in wanted)


class F:
    """Functions that create filters: `F.all(F.prefix(type="task."), F.not_(F.exact(namespace="sandbox")))`. They raise ValueError
    for unknown attributes and empty values."""

    @staticmethod
    def exact(**attributes: str) -> Filter:
        """Passes if every given attribute has exactly the given value."""
        return _on_attributes("exact", attributes)

    @staticmethod
    def prefix(**attributes: str) -> Filter:
        """Passes if every given attribute begins with the given text."""
        return _on_attributes("prefix", attributes)

    @staticmethod
    def suffix(**attributes: str) -> Filter:
        """Passes if every given attribute ends with the given text."""
        return _on_attributes("suffix", attributes)

    @staticmethod
    def all(*filters: Filter) -> Filter:
        """Passes if all filters pass."""
        return _on_filters("all", filters)

    @staticmethod
    def any(*filters: Filter) -> Filter:
        """Passes if at least one filter passes."""
        return _on_filters("any", filters)

    @staticmethod
    def not_(inner: Filter) -> Filter:
        """Passes if the filter does not pass."""
        return Filter("not", filters=(inner,))


def _on_attributes(operator: str, attributes: Mapping[str, str]) -> Filter:
    if not attributes:
        raise ValueError(f"{operator}: must have at least one attribute")
    for name, value in attributes.items():
        if name not in FILTER_ATTRIBUTES:
            raise ValueError(f"{operator}.{name}: unknown attribute; must be one of {', '.join(sorted(FILTER_ATTRIBUTES))}")
        if not isinstance(value, str) or not value:
            raise ValueError(f"{operator}.{name}: must be a non-empty string")
    return Filter(operator, attributes=tuple(attributes.items()))


def _on_filters(operator: str, filters: tuple[Filter, ...]) -> Filter:
    if not filters:
        raise ValueError(f"{operator}: must have at least one filter")
    return Filter(operator, filters=filters)


def parse_filter(value: Any) -> Filter:
    """The filter in `value`, which is JSON of the CloudEvents Subscriptions API. Raises ValueError, which names the invalid
    part."""
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(f"must be an object with exactly one of {', '.join(_OPERATORS)}")
    ((operator, inner),) = value.items()
    if operator in ("exact", "prefix", "suffix") and isinstance(inner, Mapping):
        return _on_attributes(operator, inner)
    if operator in ("all", "any") and isinstance(inner, list):
        return _on_filters(operator, tuple(parse_filter(one) for one in inner))
    if operator == "not":
        return F.not_(parse_filter(inner))
    raise ValueError(f"{operator!r}: invalid operator or operand; a filter must be an object with one of {', '.join(_OPERATORS)}")
