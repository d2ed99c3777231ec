"""What the commands that talk to a hub share: the option `--bootstrap`, exit codes, and running a coroutine to its end."""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

Result = TypeVar("Result")

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

#: The task ended otherwise than completed, the check found something, or the hub refused.
EXIT_NOT_COMPLETED = 1
#: The command line or a file says something that cannot be.
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Bootstrap = Annotated[
    str, typer.Option("--bootstrap", envvar="HUB_BOOTSTRAP", metavar="HOST:PORT", help="The address of the hub's Kafka broker.")
]
OptionalBootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="The address of a running hub's Kafka broker; without one, a hub of its own is started and ended.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]


def run(work: Coroutine[Any, Any, Result], *, fast: bool = False) -> Result:
    """Run `work` to its end, with `fast` as a process of the hub runs: on uvloop where there is one, the heap so far frozen.

    Ctrl-C ends the process with 130, a reader that went away ends it quietly. Logs go to stderr, warnings and worse."""
    from ..telemetry import configure_logging

    configure_logging("cli", "warning")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it is raised, and reported in our own words
    if fast:
        gc.freeze()
    try:
        with asyncio.Runner(loop_factory=_fast_loop if fast else None) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what the interpreter still flushes goes nowhere
        raise typer.Exit(0) from None


def _fast_loop() -> asyncio.AbstractEventLoop:
    try:
        from uvloop import new_event_loop
    except ImportError:  # there is none on this system
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = new_event_loop()
    return loop
