"""`hub definitions`: the registered tasks by name and version; deprecation of a version."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from schemas import FIRST_VERSION, one_line

from .render import clock, print_fields, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from .definition_rows import ListedDefinition

Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="The namespace of the definition, if it has one.")
]
Version = Annotated[str, typer.Option("--version", metavar="VERSION", help="The version.")]
Name = Annotated[str, typer.Argument(help="The name of the task, as registered by its worker.")]


def register(app: typer.Typer) -> None:
    """Add `hub definitions` to the command line."""
    definitions = typer.Typer(
        no_args_is_help=True, help="Show the tasks that workers have registered: names, versions, options; deprecate versions."
    )
    definitions.command("list")(list_definitions)
    definitions.command("show")(show)
    definitions.command("deprecate")(deprecate)
    app.add_typer(definitions, name="definitions")


def list_definitions(
    name: Annotated[str | None, typer.Option(metavar="GLOB", help="Only tasks with this name; * matches any text.")] = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """List all tasks that workers have registered, by name and version, with the default version of each name.

    Reads the topic hub.state. Exit codes: 0 success; 3 no broker responds.
    """
    found = _read(bootstrap, name)
    if as_json:
        print_json({"definitions": [_plain(one) for one in found]})
        return
    rows = [
        (
            one.name,
            one.version,
            one.namespace or "*",
            one.state,
            "yes" if one.default else "",
            clock(one.registered_at),
            _remark(one),
        )
        for one in found
    ]
    print_table(("NAME", "VERSION", "NAMESPACE", "STATE", "DEFAULT", "REGISTERED", "REMARK"), rows, text=True)


def show(
    name: Name,
    version: Annotated[str | None, typer.Option("--version", help="Only this version (default: all versions).")] = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Show the definitions of a task: options, worker, and time of registration.

    Exit codes: 0 success; 1 no such definition; 3 no broker responds.
    """
    found = [one for one in _read(bootstrap, None) if one.name == name and version in (None, one.version)]
    if not found:
        which = "" if version is None else f" in version {one_line(version)}"
        typer.echo(
            f"No worker has registered {one_line(name)}{which}. `hub definitions list` shows what is registered.", err=True
        )
        raise typer.Exit(EXIT_NOT_COMPLETED)
    if as_json:
        print_json({"definitions": [_plain(one) for one in found]})
        return
    for index, one in enumerate(found):
        if index:
            print()
        print_fields(_fields(one))


def deprecate(
    name: Name,
    version: Version = FIRST_VERSION,
    namespace: Namespace = None,
    reason: Annotated[str, typer.Option(help="The reason, which is recorded in the events.")] = "",
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Deprecate a version: it is no longer the default version, unless all versions of the name are deprecated.

    Submissions that name the version are still accepted, with a warning in the reply; existing tasks of the version are not
    affected. A deprecation cannot be undone: register another version instead. Exit codes: 0 deprecated on all partitions, or it
    already was; 1 rejected; 3 no broker or no engine responds.
    """

    async def ask() -> None:
        from ..client import Hub
        from ..runtime.cluster import cluster_at

        async with Hub(cluster_at(bootstrap)) as hub:
            await hub.deprecate(name, version, namespace=namespace, reason=reason)

    run(ask())
    if as_json:
        print_json({"name": name, "version": version, "namespace": namespace, "deprecated": True})
    else:
        print(f"{one_line(name)} in version {one_line(version)} is deprecated.")


def _read(bootstrap: str, name: str | None) -> "list[ListedDefinition]":
    from ..runtime.cluster import cluster_at
    from .definition_rows import read_definitions

    return run(read_definitions(cluster_at(bootstrap), name=name))


def _remark(one: "ListedDefinition") -> str:
    return f"known to {one.partitions} of {one.of} partitions" if one.partitions < one.of else one.reason


def _plain(one: "ListedDefinition") -> dict[str, Any]:
    plain: dict[str, Any] = to_builtins(one)
    return plain


def _fields(one: "ListedDefinition") -> tuple[tuple[str, Any], ...]:
    options = one.options
    retry = None if options.retry is None else to_builtins(options.retry)
    return (
        ("name", one.name),
        ("version", one.version + (" (default)" if one.default else "")),
        ("namespace", one.namespace or "every"),
        ("state", one.state),
        ("queue", options.queue),
        ("priority", options.priority),
        ("retry", retry or None),
        ("timeout_seconds", options.timeout_seconds),
        ("delivery", options.delivery),
        ("registered", one.registered_at),
        ("worker", one.worker),
        ("deprecated", one.deprecated_at),
        ("reason", one.reason or None),
        ("by", one.by),
        ("partitions", f"{one.partitions} of {one.of}"),
    )
