"""Checks that a JSON Schema only adds to an earlier one, so that readers and writers of the earlier contract still work.

Rejected are: a removed type, field, header or enum value; another topic; a field with another type, another default (defaults
are omitted from records, so the meaning of existing records would change) or a narrower bound; a new required field or header,
or one that became required; and an object that no longer accepts unknown fields. Fields that the engine writes must not become
optional or get a wider bound, because readers of the earlier contract do not expect that. New enum values are additions:
readers must accept unknown values.
"""

from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

#: Bounds by keyword: whether a new value is at least as wide as the one before.
_WIDER: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), lambda old, new: new <= old),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), lambda old, new: new >= old),
    "pattern": lambda old, new: old == new,
}


def problems_of_contract(old: dict[str, Schema], new: dict[str, Schema], written_by: Callable[[str], str]) -> list[str]:
    """What is not additive between two contracts (type name → schema), as sentences that name type and field.

    `written_by`: "engine" or "outsiders", by type name."""
    gone = [f"{name}: the type is gone" for name in old if name not in new]
    kept = [name for name in old if name in new]
    return gone + [
        f"{name}: {problem}"
        for name in kept
        for problem in problems(old[name], new[name], read_by_others=written_by(name) == "engine")
    ]


def problems(old: Schema, new: Schema, *, read_by_others: bool) -> list[str]:
    """What is not additive between two schemas of one type. `read_by_others`: the engine writes such values."""
    comparison = _Comparison(old, new, read_by_others)
    return [*_of_records(old["x-record"], new["x-record"], read_by_others), *comparison.of_objects(old, new, "")]


def _of_records(old: Schema, new: Schema, read_by_others: bool) -> Iterator[str]:
    """Topic and headers."""
    if old["topic"] != new["topic"]:
        yield f"the topic {old['topic']} became {new['topic']}"
    was, now = old["headers"], new["headers"]
    for name in {**was, **old["optional_headers"]}:
        if name not in now and name not in new["optional_headers"]:
            yield f"header {name} is gone"
        elif read_by_others and name in was and name not in now:
            yield f"header {name} is no longer on every record, and readers rely on it"
    if not read_by_others:
        for name in [name for name in now if name not in was]:
            yield f"header {name} {'became' if name in old['optional_headers'] else 'is new and'} required"


class _Comparison:
    """Two schemas, with the definitions that their references mean."""

    def __init__(self, old: Schema, new: Schema, read_by_others: bool) -> None:
        self._old_below, self._new_below = old.get("$defs", {}), new.get("$defs", {})
        self._read_by_others = read_by_others
        self._seen: set[tuple[str, str]] = set()

    def of_objects(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        """Fields and openness of two schemas with `properties`."""
        was, now = old["properties"], new["properties"]
        for name in was:
            if name not in now:
                yield f"field {at}{name} is gone"
                continue
            yield from self.of_values(was[name], now[name], f"{at}{name}")
            if was[name].get("default") != now[name].get("default") or ("default" in was[name]) != ("default" in now[name]):
                yield f"field {at}{name} has another default"
        yield from self._of_required(old, new, at)
        if old.get("additionalProperties", True) and not new.get("additionalProperties", True):
            yield f"{f'field {at[:-1]}' if at else 'the type'} no longer takes unknown fields"

    def _of_required(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        was, now = set(old["required"]), set(new["required"])
        for name in sorted(now - was):
            yield f"field {at}{name} {'became' if name in old['properties'] else 'is new and'} required"
        if self._read_by_others:
            for name in sorted(was - now):
                if name in new["properties"]:
                    yield f"field {at}{name} is no longer required, and readers rely on it"

    def of_values(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        """Types, bounds, values and parts of two schemas of one value."""
        if (kind := _kind(old)) != _kind(new):
            yield f"field {at} has another type: {_words(old)} became {_words(new)}"
        elif kind == "$ref":
            yield from self._of_references(old["$ref"], new["$ref"], at)
        elif kind == "anyOf":
            yield from self._of_unions(old["anyOf"], new["anyOf"], at)
        elif kind == "enum":
            for value in old["enum"]:
                if value not in new["enum"]:
                    yield f"field {at} no longer has the value {value!r}"
        else:
            yield from self._of_bounds(old, new, at)
            for part in ("items", "additionalProperties"):
                if part in old and part in new:
                    yield from self.of_values(old[part], new[part], f"{at}[]")

    def _of_references(self, old: str, new: str, at: str) -> Iterator[str]:
        pair = (old.rpartition("/")[2], new.rpartition("/")[2])
        if pair not in self._seen:
            self._seen.add(pair)
            yield from self.of_objects(self._old_below[pair[0]], self._new_below[pair[1]], f"{at}.")

    def _of_unions(self, old: list[Schema], new: list[Schema], at: str) -> Iterator[str]:
        was, now = sorted(old, key=_words), sorted(new, key=_words)
        if [_kind(one) for one in was] != [_kind(one) for one in now]:
            yield f"field {at} has another type: {_words({'anyOf': old})} became {_words({'anyOf': new})}"
            return
        for before, after in zip(was, now, strict=True):
            yield from self.of_values(before, after, at)

    def _of_bounds(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        for keyword, wider in _WIDER.items():
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            if after is not None and (before is None or not wider(before, after)):
                yield f"field {at} has a narrower {keyword}: {before} became {after}"
            elif self._read_by_others:
                yield f"field {at} has a wider {keyword}: {before} became {after}, and readers rely on it"


def _kind(schema: Schema) -> str:
    """What decides how two schemas of a value are compared: a keyword, or the name of the JSON type."""
    return next((keyword for keyword in ("anyOf", "enum", "$ref") if keyword in schema), str(schema.get("type", "any JSON")))


def _words(schema: Schema) -> str:
    kind = _kind(schema)
    return (
        " or ".join(_words(one) for one in schema["anyOf"])
        if kind == "anyOf"
        else {"$ref": "object", "enum": "one of some values"}.get(kind, kind)
    )
