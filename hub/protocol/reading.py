"""Readers built from definitions: (buffer, position) -> (value, next position).

A struct is read as a plain dict with the same fields in all versions: fields that a version lacks have their default. Readers
never read past the end of the buffer.
"""

import struct
import uuid
from collections.abc import Callable
from typing import Any

from .definition import Field
from .errors import MalformedMessage
from .primitives import INT8, INT16, INT32, INT64, UINT16, read_uvarint, take

Message = dict[str, Any]
Reader = Callable[[bytes, int], tuple[Any, int]]

_FORMS = {"int8": INT8, "int16": INT16, "int32": INT32, "int64": INT64, "uint16": UINT16}


def struct_reader(fields: list[Field], version: int, flexible: bool) -> Reader:
    """A reader of a struct with these fields."""
    present = [entry for entry in fields if entry.in_version(version)]
    plain = [(entry.name, _field_reader(entry, version, flexible)) for entry in present if entry.tag is None]
    tagged = {entry.tag: (entry.name, _field_reader(entry, version, flexible)) for entry in present if entry.tag is not None}
    read_names = {name for name, _ in plain}
    absent = [(entry.name, entry.empty) for entry in fields if entry.name not in read_names]

    def read(buffer: bytes, at: int) -> tuple[Message, int]:
        out: Message = dict(absent)
        for name, reader in plain:
            out[name], at = reader(buffer, at)
        if flexible:
            count, at = read_uvarint(buffer, at)
            for _ in range(count):
                tag, at = read_uvarint(buffer, at)
                size, at = read_uvarint(buffer, at)
                take(buffer, at, size)
                if tag in tagged:
                    name, reader = tagged[tag]
                    out[name] = reader(buffer, at)[0]
                at += size
        return out, at

    return read


def _field_reader(entry: Field, version: int, flexible: bool) -> Reader:
    nullable = entry.nullable_in(version)
    if not entry.array:
        return _element_reader(entry, version, flexible, nullable)
    return _array_reader(None if flexible else INT32, _element_reader(entry, version, flexible, False), nullable)


def _element_reader(entry: Field, version: int, flexible: bool, nullable: bool) -> Reader:
    if entry.kind == "struct":
        return struct_reader(entry.fields, version, flexible)
    if entry.kind in _FORMS:
        return _number_reader(_FORMS[entry.kind])
    if entry.kind == "bool":
        return _read_bool
    if entry.kind == "uuid":
        return _read_uuid
    if entry.kind == "string":
        return _bytes_reader(None if flexible else INT16, lambda raw: raw.decode(), nullable)
    assert entry.kind == "bytes", entry.kind
    return _bytes_reader(None if flexible else INT32, lambda raw: raw, nullable)


def _array_reader(form: struct.Struct | None, element: Reader, nullable: bool) -> Reader:
    read_length = _length_reader(form)

    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        count, at = read_length(buffer, at)
        if count < 0:
            return (None if nullable else []), at
        if count > len(buffer) - at:
            raise MalformedMessage("an array length exceeds the frame")
        items = []
        for _ in range(count):
            item, at = element(buffer, at)
            items.append(item)
        return items, at

    return read


def _bytes_reader(form: struct.Struct | None, decode: Callable[[bytes], Any], nullable: bool) -> Reader:
    read_length = _length_reader(form)

    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        size, at = read_length(buffer, at)
        if size < 0:
            if not nullable:
                raise MalformedMessage("a required field is null")
            return None, at
        return decode(take(buffer, at, size)), at + size

    return read


def _length_reader(form: struct.Struct | None) -> Callable[[bytes, int], tuple[int, int]]:
    """A reader of a length, -1 for null; compact (uvarint of length + 1) if `form` is None."""
    if form is None:

        def compact(buffer: bytes, at: int) -> tuple[int, int]:
            value, at = read_uvarint(buffer, at)
            return value - 1, at

        return compact
    return _number_reader(form)


def _number_reader(form: struct.Struct) -> Reader:
    unpack, size = form.unpack_from, form.size
    return lambda buffer, at: (unpack(buffer, at)[0], at + size)


def _read_bool(buffer: bytes, at: int) -> tuple[bool, int]:
    return buffer[at] != 0, at + 1


def _read_uuid(buffer: bytes, at: int) -> tuple[uuid.UUID, int]:
    return uuid.UUID(bytes=take(buffer, at, 16)), at + 16
