"""`hub schema`: the contract with other programs, as JSON Schemas and examples."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .fields import print_struct
from .render import encode_json, print_fields, print_json
from .shell import Json
from .tables import print_table

if TYPE_CHECKING:
    from schemas.contract import WireType
    from schemas.records import RecordForm

DEFAULT_FOLDER = Path("hub-schemas")
TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="A type from `hub schema list`, for example reports/task.created.")]


def register(app: typer.Typer) -> None:
    """Add `hub schema` to the command line."""
    schema = typer.Typer(no_args_is_help=True, help="Show the contract with other programs: all record types, as JSON Schemas.")
    schema.command("list")(list_types)
    schema.command("show")(show)
    schema.command("export")(export)
    app.add_typer(schema, name="schema")


def list_types(as_json: Json = False) -> None:
    """List all types of records on the hub's topics.

    The engine writes events, commands and replies; workers and other programs write reports.
    """
    from schemas.contract import CONTRACT

    if as_json:
        print_json(
            [
                {"type": row.name, "value_of": row.value_of, "written_by": row.written_by, "when": row.when}
                for row in CONTRACT.values()
            ]
        )
        return
    print_table(("TYPE", "WRITTEN BY", "MEANING"), [(row.name, row.written_by, row.when) for row in CONTRACT.values()], text=True)


def show(
    name: TypeName,
    example: Annotated[bool, typer.Option("--example", help="Print an example, as JSON.")] = False,
    as_json: Json = False,
) -> None:
    """Show a type: topic, key, headers, and the meaning of each field.

    With --json: its JSON Schema; with --example: a value that matches the schema.

    The kind before the slash may be omitted if the name is unique. Examples: `hub schema show reports/task.created`, `hub schema
    show attempt.execute --example`.

    Exit codes: 0 success; 2 the type is unknown, or several kinds have a type of this name.
    """
    from schemas.contract import example as example_of
    from schemas.contract import json_schema

    row = _find(name)
    if example:
        print_json(example_of(row.name))
        return
    if as_json:
        print_json(json_schema(row.name))
        return
    about = (
        ("type", row.name),
        ("meaning", row.when),
        ("value of", row.value_of),
        ("written by", row.written_by),
        ("key", row.form.key),
    )
    print_fields(about, wrapped=True)
    print()
    print_table(("HEADER", "", "MEANING"), _headers(row.form), text=True)
    print()
    print_struct(row.struct)


def _headers(form: "RecordForm") -> list[tuple[str, str, str]]:
    always = [(name, "required", meaning) for name, meaning in form.headers.items()]
    return always + [(name, "", meaning) for name, meaning in form.optional.items()]


def _find(name: str) -> "WireType":
    from difflib import get_close_matches

    from schemas.contract import CONTRACT, find_types

    found = find_types(name)
    if len(found) == 1:
        return CONTRACT[found[0]]
    if found:
        raise typer.BadParameter(f"{name!r} is ambiguous: specify {' or '.join(found)}.", param_hint="TYPE")
    close = get_close_matches(name, [*CONTRACT, *(one.partition("/")[2] for one in CONTRACT)], 1)
    hint = f" Did you mean {close[0]}?" if close else " See `hub schema list`."
    raise typer.BadParameter(f"unknown type {name!r}.{hint}", param_hint="TYPE")


def export(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The directory to write to; created if it does not exist.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Write a JSON Schema (draft 2020-12) and an example of each type, as `<kind>/<type>.schema.json` and `.example.json`.

    Files with these names are overwritten; others in the directory are kept. Example: `hub schema export --out contract`.

    Exit codes: 0 success; 1 the directory cannot be written to.
    """
    from schemas.contract import CONTRACT, json_schema
    from schemas.contract import example as example_of

    try:
        for name in CONTRACT:
            _write(out / f"{name}.schema.json", json_schema(name))
            _write(out / f"{name}.example.json", example_of(name))
    except OSError as error:
        from ..errors import HubError

        raise HubError(f"The schemas cannot be written to {out}: {error.strerror or error}; use another --out.") from error
    typer.echo(f"{len(CONTRACT)} types written to {out}")


def _write(path: Path, document: dict[str, Any]) -> None:
    import msgspec

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(encode_json(document), indent=2) + b"\n")
