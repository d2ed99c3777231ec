"""The protocol's encoding: readers and writers made from the definitions in `messages`.

A message is a plain dict, whatever its version: fields that a version lacks have their default after reading and are
left out when writing. Readers and writers are made on first use for each (API, version) and kept. Every read is bounded
by the buffer: bytes that do not fit raise `MalformedRequest`.

Format: https://kafka.apache.org/protocol#protocol_types, flexible versions: KIP-482.
"""

import re
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .errors import MalformedRequest
from .messages import DEFINITIONS

Message = dict[str, Any]
Reader = Callable[[bytes, int], tuple[Any, int]]
Writer = Callable[[list[bytes], Any], None]

INT8, INT16, INT32, INT64 = (struct.Struct(">" + letter) for letter in "bhiq")
UINT16 = struct.Struct(">H")
_NUMBERS = {"int8": INT8, "int16": INT16, "int32": INT32, "int64": INT64, "uint16": UINT16}


@dataclass(slots=True)
class Field:
    """One line of a definition."""

    name: str
    kind: str
    """Type of the field, or of an array's elements; "struct" when `fields` follow."""
    array: bool
    versions: tuple[int, int]
    nullable: tuple[int, int]
    tag: int | None
    default: int | None
    fields: list["Field"] = field(default_factory=list)

    def in_version(self, version: int) -> bool:
        return self.versions[0] <= version <= self.versions[1]

    def nullable_in(self, version: int) -> bool:
        return self.nullable[0] <= version <= self.nullable[1]


@dataclass(slots=True)
class Api:
    """One API: its key, the versions served, the first flexible one, and its two messages."""

    name: str
    key: int
    lowest: int
    highest: int
    flexible_from: int
    request: list[Field] = field(default_factory=list)
    response: list[Field] = field(default_factory=list)

    def serves(self, version: int) -> bool:
        return self.lowest <= version <= self.highest

    def flexible(self, version: int) -> bool:
        return version >= self.flexible_from


_ALWAYS, _NEVER = (0, 32767), (1, 0)
_LINE = re.compile(
    r"(?P<name>\w+)(?P<array>\[\])?(?:\s(?P<kind>[a-z]+\d*))?(?P<null>\?(?P<nullfrom>\d+\+)?)?"
    r"(?:\s(?P<versions>\d+(?:\+|-\d+)))?(?:\stag=(?P<tag>\d+))?(?:\s=(?P<default>-?\d+))?$"
)


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.rstrip("+").partition("-")
    return int(low), int(high) if high else 32767


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


def parse_definitions(text: str) -> dict[int, Api]:
    """APIs by key, from the text format described in `messages`."""
    apis: dict[int, Api] = {}
    stack: list[tuple[int, list[Field]]] = []
    for line in filter(None, map(str.rstrip, text.splitlines())):
        indent, body = len(line) - len(line.lstrip()), line.strip()
        if indent == 0:
            name, key, versions, *flexible = body.split()
            low, high = _range(versions)
            api = apis[int(key)] = Api(name, int(key), low, high, int(flexible[1].rstrip("+")) if flexible else 32767)
        elif indent == 2:
            stack = [(indent, api.request if body == "request" else api.response)]
        else:
            while stack[-1][0] >= indent:
                stack.pop()
            entry = _parse_field(body)
            stack[-1][1].append(entry)
            stack.append((indent, entry.fields))
    return apis


APIS: dict[int, Api] = parse_definitions(DEFINITIONS)


# --- primitive readers: (buffer, position) -> (value, next position)


def _number_reader(form: struct.Struct) -> Reader:
    unpack, size = form.unpack_from, form.size
    return lambda buffer, at: (unpack(buffer, at)[0], at + size)


def read_uvarint(buffer: bytes, at: int) -> tuple[int, int]:
    """Unsigned varint of at most five bytes."""
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise MalformedRequest("varint too long")


def write_uvarint(value: int) -> bytes:
    """Unsigned varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _take(buffer: bytes, at: int, size: int) -> bytes:
    end = at + size
    if end > len(buffer):
        raise MalformedRequest("a length reaches beyond the frame")
    return buffer[at:end]


def _length_reader(form: struct.Struct | None) -> Callable[[bytes, int], tuple[int, int]]:
    """Reader of a length, -1 for null: compact (uvarint, plus one) when `form` is None."""
    if form is None:

        def compact(buffer: bytes, at: int) -> tuple[int, int]:
            value, at = read_uvarint(buffer, at)
            return value - 1, at

        return compact
    return _number_reader(form)


def _bytes_reader(form: struct.Struct | None, decode: Callable[[bytes], Any], nullable: bool) -> Reader:
    read_length = _length_reader(form)

    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        size, at = read_length(buffer, at)
        if size < 0:
            if not nullable:
                raise MalformedRequest("null where a value is required")
            return None, at
        return decode(_take(buffer, at, size)), at + size

    return read


def _array_reader(form: struct.Struct | None, element: Reader, nullable: bool) -> Reader:
    read_length = _length_reader(form)

    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        count, at = read_length(buffer, at)
        if count < 0:
            return (None if nullable else []), at
        if count > len(buffer) - at:
            raise MalformedRequest("an array longer than its frame")
        items = []
        for _ in range(count):
            item, at = element(buffer, at)
            items.append(item)
        return items, at

    return read


def _read_bool(buffer: bytes, at: int) -> tuple[bool, int]:
    return buffer[at] != 0, at + 1


def _read_uuid(buffer: bytes, at: int) -> tuple[uuid.UUID, int]:
    return uuid.UUID(bytes=_take(buffer, at, 16)), at + 16


def _element_reader(entry: Field, version: int, flexible: bool, nullable: bool) -> Reader:
    if entry.kind == "struct":
        return _struct_reader(entry.fields, version, flexible)
    if entry.kind in _NUMBERS:
        return _number_reader(_NUMBERS[entry.kind])
    if entry.kind == "bool":
        return _read_bool
    if entry.kind == "uuid":
        return _read_uuid
    if entry.kind == "string":
        return _bytes_reader(None if flexible else INT16, lambda raw: raw.decode(), nullable)
    assert entry.kind == "bytes", entry.kind
    return _bytes_reader(None if flexible else INT32, lambda raw: raw, nullable)


def _field_reader(entry: Field, version: int, flexible: bool) -> Reader:
    nullable = entry.nullable_in(version)
    if not entry.array:
        return _element_reader(entry, version, flexible, nullable)
    return _array_reader(None if flexible else INT32, _element_reader(entry, version, flexible, False), nullable)


def default_of(entry: Field) -> Any:
    """What a field holds when a message lacks it."""
    if entry.default is not None:
        return entry.default
    if entry.array:
        return None if entry.nullable == _ALWAYS else []
    if entry.kind in _NUMBERS:
        return 0
    if entry.kind == "uuid":
        return uuid.UUID(int=0)
    if entry.nullable != _NEVER:
        return None
    return {"string": "", "bytes": b"", "bool": False, "struct": {}}[entry.kind]


def _struct_reader(fields: list[Field], version: int, flexible: bool) -> Reader:
    present = [entry for entry in fields if entry.in_version(version)]
    plain = [(entry.name, _field_reader(entry, version, flexible)) for entry in present if entry.tag is None]
    tagged = {entry.tag: (entry.name, _field_reader(entry, version, flexible)) for entry in present if entry.tag is not None}
    read_names = {name for name, _ in plain}
    absent = [(entry.name, default_of(entry)) for entry in fields if entry.name not in read_names]

    def read(buffer: bytes, at: int) -> tuple[Message, int]:
        out: Message = dict(absent)
        for name, reader in plain:
            out[name], at = reader(buffer, at)
        if flexible:
            count, at = read_uvarint(buffer, at)
            for _ in range(count):
                tag, at = read_uvarint(buffer, at)
                size, at = read_uvarint(buffer, at)
                _take(buffer, at, size)
                if tag in tagged:
                    name, reader = tagged[tag]
                    out[name] = reader(buffer, at)[0]
                at += size
        return out, at

    return read


def skip_tags(buffer: bytes, at: int) -> int:
    """Position after a tag section whose tags do not matter."""
    count, at = read_uvarint(buffer, at)
    for _ in range(count):
        _, at = read_uvarint(buffer, at)
        size, at = read_uvarint(buffer, at)
        at += size
    return at


# --- writers: append to a list of bytes


def _number_writer(form: struct.Struct) -> Writer:
    pack = form.pack
    return lambda out, value: out.append(pack(value))


def _length_writer(form: struct.Struct | None) -> Callable[[int], bytes]:
    return (lambda size: write_uvarint(size + 1)) if form is None else form.pack


def _bytes_writer(form: struct.Struct | None, encode: Callable[[Any], bytes]) -> Writer:
    length = _length_writer(form)

    def write(out: list[bytes], value: Any) -> None:
        if value is None:
            out.append(length(-1))
        else:
            raw = encode(value)
            out.append(length(len(raw)))
            out.append(raw)

    return write


def _array_writer(form: struct.Struct | None, element: Writer) -> Writer:
    length = _length_writer(form)

    def write(out: list[bytes], value: Any) -> None:
        out.append(length(-1 if value is None else len(value)))
        for item in value or ():
            element(out, item)

    return write


def _write_bool(out: list[bytes], value: Any) -> None:
    out.append(b"\1" if value else b"\0")


def _element_writer(entry: Field, version: int, flexible: bool) -> Writer:
    if entry.kind == "struct":
        return _struct_writer(entry.fields, version, flexible)
    if entry.kind in _NUMBERS:
        return _number_writer(_NUMBERS[entry.kind])
    if entry.kind == "bool":
        return _write_bool
    if entry.kind == "uuid":
        return lambda out, value: out.append(value.bytes)
    if entry.kind == "string":
        return _bytes_writer(None if flexible else INT16, lambda text: text.encode())
    assert entry.kind == "bytes", entry.kind
    return _bytes_writer(None if flexible else INT32, lambda raw: raw)


def _field_writer(entry: Field, version: int, flexible: bool) -> Writer:
    element = _element_writer(entry, version, flexible)
    return _array_writer(None if flexible else INT32, element) if entry.array else element


def _struct_writer(fields: list[Field], version: int, flexible: bool) -> Writer:
    present = [entry for entry in fields if entry.in_version(version)]
    plain = [(e.name, default_of(e), _field_writer(e, version, flexible)) for e in present if e.tag is None]
    tagged = [(e.tag, e.name, _field_writer(e, version, flexible)) for e in present if e.tag is not None]
    tagged.sort(key=lambda item: item[0])

    def write(out: list[bytes], value: Message) -> None:
        get = value.get
        for name, default, writer in plain:
            writer(out, get(name, default))
        if flexible:
            given = [(tag, name, writer) for tag, name, writer in tagged if name in value]
            out.append(write_uvarint(len(given)))
            for tag, name, writer in given:
                body: list[bytes] = []
                writer(body, value[name])
                out.append(write_uvarint(tag))
                out.append(write_uvarint(sum(map(len, body))))
                out.extend(body)

    return write


@cache
def request_reader(key: int, version: int) -> Reader:
    """Reader of a request body."""
    api = APIS[key]
    return _struct_reader(api.request, version, api.flexible(version))


@cache
def response_writer(key: int, version: int) -> Writer:
    """Writer of an answer's body."""
    api = APIS[key]
    return _struct_writer(api.response, version, api.flexible(version))


@cache
def request_writer(key: int, version: int) -> Writer:
    """Writer of a request body (for clients inside tests and benchmarks)."""
    api = APIS[key]
    return _struct_writer(api.request, version, api.flexible(version))


@cache
def response_reader(key: int, version: int) -> Reader:
    """Reader of an answer's body (for clients inside tests and benchmarks)."""
    api = APIS[key]
    return _struct_reader(api.response, version, api.flexible(version))


def decode_request(key: int, version: int, buffer: bytes, at: int) -> Message:
    """The request whose body starts at `at`. Raises `MalformedRequest`."""
    try:
        message: Message = request_reader(key, version)(buffer, at)[0]
    except MalformedRequest:
        raise
    except (struct.error, IndexError, ValueError) as error:
        raise MalformedRequest(f"{APIS[key].name} v{version}: {error}") from error
    return message


def encode_response(key: int, version: int, message: Message) -> bytes:
    """The body of an answer."""
    out: list[bytes] = []
    response_writer(key, version)(out, message)
    return b"".join(out)
