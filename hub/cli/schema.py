"""`hub schema`: the contract of the hub with others, as JSON Schemas and examples."""

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
TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="A type of `hub schema list`, for example reports/task.created.")]


def register(app: typer.Typer) -> None:
    """Add `hub schema` to the command line."""
    schema = typer.Typer(no_args_is_help=True, help="The contract with other programs: what each record says, as JSON Schemas.")
    schema.command("list")(list_types)
    schema.command("show")(show)
    schema.command("export")(export)
    app.add_typer(schema, name="schema")


def list_types(as_json: Json = False) -> None:
    """List every type of record that crosses a topic of the hub.

    Events, commands and replies are written by the engine; reports are what other programs and workers write.
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
    print_table(
        ("TYPE", "WRITTEN BY", "WHAT IT SAYS"), [(row.name, row.written_by, row.when) for row in CONTRACT.values()], text=True
    )


def show(
    name: TypeName,
    example: Annotated[bool, typer.Option("--example", help="Print an example of it, as JSON.")] = False,
    as_json: Json = False,
) -> None:
    """Show one type: topic, key, headers, and what each field means.

    With --json: its JSON Schema; with --example: a value that the schema describes.

    The kind before the slash may be left out where only one kind has the type. For example: `hub schema show
    reports/task.created`, `hub schema show attempt.execute --example`.

    Exit codes: 0 shown; 2 there is no such type, or several kinds have one of that name.
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
        ("says", row.when),
        ("is the", row.value_of),
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
        raise typer.BadParameter(f"{name!r} may be {' or '.join(found)}; give one of them.", param_hint="TYPE")
    close = get_close_matches(name, [*CONTRACT, *(one.partition("/")[2] for one in CONTRACT)], 1)
    hint = f" Did you mean {close[0]}?" if close else " See `hub schema list`."
    raise typer.BadParameter(f"there is no type {name!r}.{hint}", param_hint="TYPE")


def export(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The directory to write to; it is created if it is missing.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Write a JSON Schema (draft 2020-12) and an example of every type, as `<kind>/<type>.schema.json` and `.example.json`.

    Files of these names are replaced; others in the directory stay. For example: `hub schema export --out contract`.

    Exit codes: 0 written; 1 the directory cannot be written.
    """
    from schemas.contract import CONTRACT, json_schema
    from schemas.contract import example as example_of

    try:
        for name in CONTRACT:
            _write(out / f"{name}.schema.json", json_schema(name))
            _write(out / f"{name}.example.json", example_of(name))
    except OSError as error:
        from ..errors import HubError

        raise HubError(f"The schemas cannot be written to {out}: {error.strerror or error}; give another --out.") from error
    typer.echo(f"{len(CONTRACT)} types written to {out}")


def _write(path: Path, document: dict[str, Any]) -> None:
    import msgspec

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(encode_json(document), indent=2) + b"\n")
