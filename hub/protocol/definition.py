"""The notation for message definitions, and its parser.

All definitions are taken from Kafka (``clients/src/main/resources/common/message``). Each API is a block: name, key, the
supported versions, the first flexible version; then the fields in wire order. A field is ``name type [versions] [tag=n]
[=default]``; ``name[]`` is an array (of structs if no type follows); ``?`` marks a nullable field, ``?7+`` a field that is
nullable from version 7. Optional tagged fields that the project does not use are omitted; readers skip unknown tags. The tests
compare every version with an independent implementation.
"""

import re
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

NUMBERS = frozenset({"int8", "int16", "int32", "int64", "uint16"})
_NEWEST = 32767
_ALWAYS, _NEVER = (0, _NEWEST), (1, 0)
_LINE = re.compile(
    r"(?P<name>\w+)(?P<array>\[\])?(?:\s(?P<kind>[a-z]+\d*))?(?P<null>\?(?P<nullfrom>\d+\+)?)?"
    r"(?:\s(?P<versions>\d+(?:\+|-\d+)))?(?:\stag=(?P<tag>\d+))?(?:\s=(?P<default>-?\d+))?$"
)


@dataclass(slots=True)
class Field:
    """One line of a definition."""

    name: str
    kind: str
    """Type of the field or of the elements of an array; "struct" if it has `fields`."""
    array: bool
    versions: tuple[int, int]
    nullable: tuple[int, int]
    tag: int | None
    default: int | None
    fields: list["Field"] = field(default_factory=list)

    def in_version(self, version: int) -> bool:
        """Whether messages of this version have the field."""
        return self.versions[0] <= version <= self.versions[1]

    def nullable_in(self, version: int) -> bool:
        """Whether the field may be null in this version."""
        return self.nullable[0] <= version <= self.nullable[1]

    @property
    def empty(self) -> Any:
        """The value of the field if a message lacks it."""
        if self.default is not None:
            return self.default
        if self.array:
            return None if self.nullable == _ALWAYS else []
        if self.kind in NUMBERS:
            return 0
        if self.kind == "uuid":
            return uuid.UUID(int=0)
        if self.nullable != _NEVER:
            return None
        return {"string": "", "bytes": b"", "bool": False, "struct": {}}[self.kind]


@dataclass
class Api:
    """One API: its key, the supported versions, the first flexible version (KIP-482), and its request and response.

    The fields are parsed on first use, because a process uses few of the APIs."""

    name: str
    key: int
    lowest: int
    highest: int
    flexible_from: int
    text: str

    def knows(self, version: int) -> bool:
        """Whether this version is supported."""
        return self.lowest <= version <= self.highest

    def flexible(self, version: int) -> bool:
        """Whether this version uses compact lengths and tagged fields."""
        return version >= self.flexible_from

    @cached_property
    def request(self) -> list[Field]:
        """The fields of the request."""
        return _parse_fields(self._section("request"))

    @cached_property
    def response(self) -> list[Field]:
        """The fields of the response."""
        return _parse_fields(self._section("response"))

    def _section(self, name: str) -> list[str]:
        request, _, response = self.text.partition("\n  response")
        return (request if name == "request" else response).splitlines()[1:]


def parse_definitions(text: str) -> dict[int, Api]:
    """Parse blocks in the notation of this module, separated by empty lines. Returns APIs by key."""
    apis = map(_parse_block, text.strip("\n").split("\n\n"))
    return {api.key: api for api in apis}


def _parse_block(block: str) -> Api:
    head, _, text = block.partition("\n")
    name, key, versions, *flexible = head.split()
    low, high = _range(versions)
    return Api(name, int(key), low, high, int(flexible[1].rstrip("+")) if flexible else _NEWEST, text)


def _parse_fields(lines: list[str]) -> list[Field]:
    top: list[Field] = []
    stack: list[tuple[int, list[Field]]] = [(0, top)]
    for line in lines:
        indent = len(line) - len(line.lstrip())
        while stack[-1][0] >= indent:
            stack.pop()
        entry = _parse_field(line.strip())
        stack[-1][1].append(entry)
        stack.append((indent, entry.fields))
    return top


def _parse_field(text: str) -> Field:
    match = _LINE.match(text)
    assert match, text
    null = _NEVER if not match["null"] else _range(match["nullfrom"]) if match["nullfrom"] else _ALWAYS
    return Field(
        name=match["name"],
        kind=match["kind"] or "struct",
        array=bool(match["array"]),
        versions=_range(match["versions"]) if match["versions"] else _ALWAYS,
        nullable=null,
        tag=int(match["tag"]) if match["tag"] else None,
        default=int(match["default"]) if match["default"] else None,
    )


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.rstrip("+").partition("-")
    return int(low), int(high) if high else _NEWEST
