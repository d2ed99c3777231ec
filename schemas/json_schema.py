"""Generates the JSON Schema (draft 2020-12) and an example of a struct.

`msgspec.json.schema` rejects structs in which a field of raw JSON has a default (msgspec 0.22), and its output may change
between versions, while exported schemas are compared with earlier ones. So this module generates them with `msgspec.inspect`.
"""

from collections.abc import Iterable
from inspect import getdoc
from typing import Any

from msgspec import NODEFAULT, Raw, Struct, inspect, json

JsonSchema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Constraints of a type: attribute in `msgspec.inspect`, JSON Schema keyword.
_CONSTRAINTS: dict[type[inspect.Type], tuple[tuple[str, str], ...]] = {
    inspect.IntType: (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"), ("lt", "exclusiveMaximum")),
    inspect.FloatType: (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"), ("lt", "exclusiveMaximum")),
    inspect.StrType: (("min_length", "minLength"), ("max_length", "maxLength"), ("pattern", "pattern")),
    inspect.ListType: (("min_length", "minItems"), ("max_length", "maxItems")),
    inspect.DictType: (("min_length", "minProperties"), ("max_length", "maxProperties")),
}
_NAMES: dict[type[inspect.Type], str] = {
    inspect.NoneType: "null",
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.ListType: "array",
    inspect.DictType: "object",
}


def schema_of_struct(struct: type[Struct]) -> JsonSchema:
    """The schema of a struct; schemas of nested structs are in `$defs`."""
    below: dict[str, JsonSchema] = {}
    schema = _object(_inspected(struct), below)
    return {**schema, "$defs": dict(sorted(below.items()))} if below else schema


def described_fields(struct: type[Struct]) -> list[tuple[inspect.Field, str]]:
    """The fields of a struct with their descriptions ("" if missing)."""
    return [(field, _facts(field.type).get("description", "")) for field in _inspected(struct).fields]


def default_of(field: inspect.Field) -> Any:
    """The default of a field, as JSON types; NODEFAULT for a required field, and for raw JSON that stays absent."""
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if default is NODEFAULT or (isinstance(default, Raw) and not bytes(default)):
        return NODEFAULT
    return json.decode(json.encode(default))


def example_of_struct(struct: type[Struct]) -> dict[str, Any]:
    """An example of a struct as JSON types, from the first example of each field and of nested structs.

    Raises ValueError with the name of the field if a required field has no example."""
    example: dict[str, Any] = {}
    for field in _inspected(struct).fields:
        value = _example(field.type)
        if value is not NODEFAULT:
            example[field.encode_name] = value
        elif field.required:
            raise ValueError(f"required field {struct.__name__}.{field.name} has no example")
    return example


def _inspected(struct: type[Struct]) -> inspect.StructType:
    found = inspect.type_info(struct)
    assert isinstance(found, inspect.StructType)
    return found


def _object(struct: inspect.StructType, below: dict[str, JsonSchema]) -> JsonSchema:
    schema: JsonSchema = {
        "title": struct.cls.__name__,
        "description": " ".join((getdoc(struct.cls) or "").split()),
        "type": "object",
        "properties": {field.encode_name: _property(field, below) for field in struct.fields},
        "required": [field.encode_name for field in struct.fields if field.required],
    }
    return {**schema, "additionalProperties": False} if struct.forbid_unknown_fields else schema


def _property(field: inspect.Field, below: dict[str, JsonSchema]) -> JsonSchema:
    schema, default = _schema(field.type, below), default_of(field)
    return schema if default is NODEFAULT else {**schema, "default": default}


def _schema(kind: inspect.Type, below: dict[str, JsonSchema]) -> JsonSchema:
    facts, kind = _facts(kind), _bare(kind)
    if isinstance(kind, inspect.StructType):
        return {**facts, "$ref": _reference(kind, below)}
    if isinstance(kind, inspect.UnionType):
        return {**facts, "anyOf": [_schema(one, below) for one in _in_order(kind.types)]}
    if isinstance(kind, inspect.LiteralType):
        return {**facts, "enum": sorted(kind.values)}
    if isinstance(kind, inspect.AnyType | inspect.RawType):
        return facts
    schema = {**facts, "type": _NAMES[type(kind)]}
    for attribute, keyword in _CONSTRAINTS.get(type(kind), ()):
        if (bound := getattr(kind, attribute)) is not None:
            schema[keyword] = bound
    if isinstance(kind, inspect.ListType):
        schema["items"] = _schema(kind.item_type, below)
    if isinstance(kind, inspect.DictType):
        schema["additionalProperties"] = _schema(kind.value_type, below)
    return schema


def _reference(struct: inspect.StructType, below: dict[str, JsonSchema]) -> str:
    name = struct.cls.__name__
    if name not in below:
        below[name] = {}  # a struct may contain itself
        below[name] = _object(struct, below)
    return f"#/$defs/{name}"


def _in_order(kinds: Iterable[inspect.Type]) -> list[inspect.Type]:
    """Sort the types of a union by name, null last: their order has no meaning."""
    return sorted(kinds, key=lambda kind: (isinstance(_bare(kind), inspect.NoneType), type(_bare(kind)).__name__))


def _facts(kind: inspect.Type) -> JsonSchema:
    """Description and examples; those of the outermost declaration take precedence."""
    facts: JsonSchema = {}
    while isinstance(kind, inspect.Metadata):
        facts = {**(kind.extra_json_schema or {}), **facts}
        kind = kind.type
    return facts


def _bare(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _example(kind: inspect.Type) -> Any:
    examples = _facts(kind).get("examples")
    if examples:
        return examples[0]
    kind = _bare(kind)
    if isinstance(kind, inspect.UnionType):
        return next((value for one in kind.types if (value := _example(one)) is not NODEFAULT), NODEFAULT)
    return example_of_struct(kind.cls) if isinstance(kind, inspect.StructType) else NODEFAULT
