"""Shared by the commands that connect to a hub: the options `--bootstrap` and `--json`, exit codes, running a coroutine."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

Result = TypeVar("Result")

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

#: The task did not complete, the check has findings, or the hub rejected the request.
EXIT_NOT_COMPLETED = 1
#: The command line or a file is invalid.
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

Bootstrap = Annotated[
    str, typer.Option("--bootstrap", envvar="HUB_BOOTSTRAP", metavar="HOST:PORT", help="The address of the hub's Kafka broker.")
]
OptionalBootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="The address of a running hub's Kafka broker; without it, a new hub is started, and stopped at the end.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def run(work: Coroutine[Any, Any, Result], *, fast: bool = False, plugins: bool = False) -> Result:
    """Run `work` and return its result. `fast`: like the hub's processes, on uvloop if it is installed and with a frozen heap.
    `plugins`: it runs subscribers, whose records are also logged if they use structlog.

    Ctrl-C ends the process with 130, and SIGTERM with 143, after `work` has cleaned up (SIGTERM only if `fast`: such work starts
    processes); a closed stdout ends it without an error. Warnings and errors are logged to stderr."""
    from ..telemetry import configure_logging

    configure_logging("cli", "warning", structlog=plugins)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors are raised and reported by the command
    terminated: list[int] = []

    def interrupt(number: int, _: object) -> None:
        terminated.append(number)
        signal.raise_signal(signal.SIGINT)

    if fast:
        gc.freeze()
        signal.signal(signal.SIGTERM, interrupt)
    try:
        with asyncio.Runner(loop_factory=_fast_loop if fast else None) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout at exit
        raise typer.Exit(0) from None


def _fast_loop() -> asyncio.AbstractEventLoop:
    try:
        from uvloop import new_event_loop
    except ImportError:  # not available on this system
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = new_event_loop()
    return loop
