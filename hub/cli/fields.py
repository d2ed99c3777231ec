"""The fields of a struct of the contract as a table: name, type, default and meaning."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .render import print_fields
from .tables import print_table

if TYPE_CHECKING:
    from msgspec import Struct


COLUMNS = ("FIELD", "TYPE", "DEFAULT", "MEANING")
SHORTEN = ("DEFAULT", "TYPE")


def print_struct(struct: "type[Struct]") -> None:
    """Print the fields of a struct, followed by those of the structs that it contains, each once."""
    from schemas.json_schema import schema_of_struct

    schema = schema_of_struct(struct)
    print_table(COLUMNS, _rows(schema), text=True, shorten=SHORTEN)
    for name, below in schema.get("$defs", {}).items():
        print()
        print_fields([(f"{name}:", below["description"])], wrapped=True)
        print()
        print_table(COLUMNS, _rows(below), text=True, shorten=SHORTEN)


def _rows(schema: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in schema["properties"].items():
        yield name, type_text(field), _default(name, field, schema["required"]), field.get("description", "")


def _default(name: str, field: dict[str, Any], required: list[str]) -> str:
    from .render import encode_json

    if name in required:
        return "required"
    return encode_json(field["default"]).decode() if "default" in field else "absent"


def type_text(schema: dict[str, Any]) -> str:
    """A short description of the type in a JSON Schema: `list of string`, `number or null`, `Backoff`."""
    if "anyOf" in schema:
        return " or ".join(type_text(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {type_text(schema['items'])}"
    if schema.get("type") == "object":
        return f"object of {type_text(schema['additionalProperties'])}"
    return str(schema.get("type", "any JSON"))
