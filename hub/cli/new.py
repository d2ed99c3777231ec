"""`hub new`: writes the beginning of a plugin."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .tables import print_table

if TYPE_CHECKING:
    from ..scaffold import SubscriberPackage


def register(app: typer.Typer) -> None:
    """Add `hub new` to the command line."""
    new = typer.Typer(no_args_is_help=True, help="Write a package with a plugin, to be completed.")
    new.command("subscriber")(subscriber)
    new.callback()(_nothing)
    app.add_typer(new, name="new")


def _nothing() -> None:
    """Keeps `subscriber` a command of the group."""


def subscriber(
    name: Annotated[str, typer.Argument(help="Name of the subscriber: lower-case letters, digits and '-'.")],
    events: Annotated[
        str, typer.Option(help="Event types that it receives, separated by commas; * matches any text.")
    ] = "task.failed",
    kind: Annotated[
        str,
        typer.Option(
            help="alert: posts a message per event; batch: stores batches; metrics: counts; sink: buffers and writes in flush."
        ),
    ] = "alert",
    directory: Annotated[Path | None, typer.Option(help="Directory of the package (default: taskhub-NAME).")] = None,
) -> None:
    """Write a package with a subscriber: module, settings, tests, entry point, README.

    Its tests pass as it is written. Example: `hub new subscriber pager --events 'task.failed,workflow.failed' --kind alert`.

    Exit codes: 0 success; 2 an argument is invalid, or a file exists already.
    """
    from ..scaffold import SubscriberPackage, write_package

    package = SubscriberPackage.of(name, [one.strip() for one in events.split(",") if one.strip()], kind)
    folder = directory or Path(f"taskhub-{name}")
    for path in write_package(package, folder):
        typer.echo(f"wrote {path}")
    typer.echo("")
    _show_handlers(package)
    typer.echo(f'\nnext: pip install -e "{folder}[dev]" && (cd {folder} && pytest)')


def _show_handlers(package: "SubscriberPackage") -> None:
    from ..scaffold import HANDLERS

    method = f"{package.class_name}.{HANDLERS[package.kind]}"
    print_table(("EVENT", "HANDLER"), [(one, method) for one in package.handled])
