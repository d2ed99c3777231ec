"""The command line: tables for people, JSON for programs, one sentence per error. See README.md.

Each module of commands has `register(app)`; the other rooms are imported only when a command runs.
"""

import gc
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import cleandoc, getdoc
from typing import Annotated

import typer
import typer.main

from .. import __version__
from ..config import LOG_LEVEL_VARIABLE, check_log_level, is_configured, variables
from ..errors import HubError

#: Thresholds of the garbage collector. With the default (700, 10, 10) a busy hub spends a quarter of its time in the collector,
#: although it creates almost no reference cycles.
COLLECT_AFTER = (10_000, 10, 10)

MODULES = (
    "up",
    "status",
    "health",
    "processes",
    "analytics",
    "config",
    "task",
    "definitions",
    "events",
    "stats",
    "alerts",
    "subscribers",
    "schema",
    "new",
    "verify",
    "dashboards",
    "bench",
    "demo",
)
OTHER_MODULES = dict.fromkeys(("broker", "engine", "worker", "delivery", "init"), "processes")
"""The module of a command that has another name."""


def build(command: str = "") -> typer.Typer:
    """The typer application with all commands; with the name of a `command` only with those of its module, so that a process
    does not load the others."""
    app = typer.Typer(
        name="hub",
        help="taskhub: runs tasks and workflows on an event log in Kafka topics.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=(
            "Exit codes: 0 success, 1 failure, 2 invalid usage or configuration, 3 no response at the address, "
            "4 a port or a data directory is in use, 5 --timeout expired, 130 interrupted with Ctrl-C, "
            "143 terminated (benchmarks)."
        ),
    )
    app.callback()(_hub)
    module = OTHER_MODULES.get(command, command)
    for name in (module,) if module in MODULES else MODULES:
        import_module(f".{name}", __name__).register(app)
    _join_lines_of_help(app)
    return app


def _join_lines_of_help(app: typer.Typer) -> None:
    """Join the lines of each paragraph of a docstring, so that they are wrapped at the width of the terminal."""
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
    """The options before all commands."""


def main() -> None:
    """Entry point of `hub`. A HubError is printed to stderr as one sentence, and its class determines the exit code."""
    from ..child_process import notice_ends_of_children, open_standard_streams
    from .forked import ForkedCommand

    open_standard_streams()
    notice_ends_of_children()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        _run(_run_command_line)
    except ForkedCommand as forked:
        run = forked.run  # called outside of this clause, so that the frames of the supervisor are released
    else:
        return
    _run(run)


def _run_command_line() -> None:
    if (level := variables().get(LOG_LEVEL_VARIABLE)) is not None:
        check_log_level(level, f"The variable {LOG_LEVEL_VARIABLE}")
    command = typer.main.get_command(build(*sys.argv[1:2]))
    if is_configured():
        from ..settings import Settings
        from .defaults import apply_settings

        apply_settings(command, Settings.load())
    command()


def _run(command: Callable[[], None]) -> None:
    """Run a command; its errors end the process."""
    try:
        command()
    except HubError as error:
        if not error.reported:
            from ..telemetry import masked

            sys.stderr.write(f"hub: {masked(str(error))}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before a command runs
        from .shell import EXIT_INTERRUPTED

        sys.exit(EXIT_INTERRUPTED)
