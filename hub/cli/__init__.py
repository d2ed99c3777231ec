"""The command line: tables for people, JSON for machines, one sentence for what goes wrong. See README.md.

Each module of commands has `register(app)`; nothing heavy is imported before a command runs.
"""

import gc
import sys
from importlib import import_module
from inspect import cleandoc, getdoc
from typing import Annotated

import typer
import typer.main

from .. import __version__
from ..config import LOG_LEVEL_VARIABLE, check_log_level, is_configured, variables
from ..errors import HubError

#: When the garbage collector looks for circles. The interpreter's own (700, 10, 10) has a busy hub spend a quarter of its time in
#: there, for hardly any circles: a task's objects are gone when their last name is.
COLLECT_AFTER = (10_000, 10, 10)

MODULES = ("up", "status", "processes", "config", "task", "definitions", "events", "schema", "verify", "bench", "demo")


def build() -> typer.Typer:
    """The command line with every command."""
    app = typer.Typer(
        name="hub",
        help="taskhub: every task's lifecycle is an ordered, durable, replayable log.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=(
            "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 nothing answers at the address, "
            "4 a port or data directory is in use, 5 the time of --timeout is over, 130 ended by Ctrl-C."
        ),
    )
    app.callback()(_hub)
    for name in MODULES:
        import_module(f".{name}", __name__).register(app)
    _join_lines_of_help(app)
    return app


def _join_lines_of_help(app: typer.Typer) -> None:
    """The paragraphs of a docstring as one line each: the terminal's width decides where they are broken."""
    for command in app.registered_commands:
        text = cleandoc(command.help or getdoc(command.callback) or "")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _join_lines_of_help(group.typer_instance)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"taskhub {__version__}")
        raise typer.Exit


def _hub(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before every command."""


def main() -> None:
    """Entry point of `hub`. What a user can act on ends as a sentence on stderr and the exit code of its class."""
    gc.set_threshold(*COLLECT_AFTER)
    try:
        if (level := variables().get(LOG_LEVEL_VARIABLE)) is not None:
            check_log_level(level, f"The variable {LOG_LEVEL_VARIABLE}")
        command = typer.main.get_command(build())
        if is_configured():
            from ..settings import Settings
            from .defaults import apply_settings

            apply_settings(command, Settings.load())
        command()
    except HubError as error:
        if not error.reported:
            from ..telemetry import masked

            sys.stderr.write(f"hub: {masked(str(error))}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # so early that no command runs yet
        from .shell import EXIT_INTERRUPTED

        sys.exit(EXIT_INTERRUPTED)
