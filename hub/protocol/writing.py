"""Writers built from definitions: they append to a list of bytes. Fields that a version lacks are omitted."""

import struct
from collections.abc import Callable
from typing import Any

from .definition import Field
from .primitives import INT8, INT16, INT32, INT64, UINT16, write_uvarint

Writer = Callable[[list[bytes], Any], None]

_FORMS = {"int8": INT8, "int16": INT16, "int32": INT32, "int64": INT64, "uint16": UINT16}


def struct_writer(fields: list[Field], version: int, flexible: bool) -> Writer:
    """A writer of a struct with these fields from a dict; missing fields have their default."""
    present = [entry for entry in fields if entry.in_version(version)]
    plain = [(e.name, e.empty, _field_writer(e, version, flexible)) for e in present if e.tag is None]
    tagged = [(e.tag, e.name, _field_writer(e, version, flexible)) for e in present if e.tag is not None]
    tagged.sort(key=lambda item: item[0])

    def write(out: list[bytes], value: dict[str, Any]) -> None:
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


def _field_writer(entry: Field, version: int, flexible: bool) -> Writer:
    element = _element_writer(entry, version, flexible)
    return _array_writer(None if flexible else INT32, element) if entry.array else element


def _element_writer(entry: Field, version: int, flexible: bool) -> Writer:
    if entry.kind == "struct":
        return struct_writer(entry.fields, version, flexible)
    if entry.kind in _FORMS:
        return _number_writer(_FORMS[entry.kind])
    if entry.kind == "bool":
        return _write_bool
    if entry.kind == "uuid":
        return lambda out, value: out.append(value.bytes)
    if entry.kind == "string":
        return _bytes_writer(None if flexible else INT16, lambda text: text.encode())
    assert entry.kind == "bytes", entry.kind
    return _bytes_writer(None if flexible else INT32, lambda raw: raw)


def _array_writer(form: struct.Struct | None, element: Writer) -> Writer:
    length = _length_writer(form)

    def write(out: list[bytes], value: Any) -> None:
        out.append(length(-1 if value is None else len(value)))
        for item in value or ():
            element(out, item)

    return write


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


def _length_writer(form: struct.Struct | None) -> Callable[[int], bytes]:
    return (lambda size: write_uvarint(size + 1)) if form is None else form.pack


def _number_writer(form: struct.Struct) -> Writer:
    pack = form.pack
    return lambda out, value: out.append(pack(value))


def _write_bool(out: list[bytes], value: Any) -> None:
    out.append(b"\1" if value else b"\0")
