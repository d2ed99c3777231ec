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
    if fast:
        gc.freeze()
        work = _until_terminated(work)
    try:
        with asyncio.Runner(loop_factory=_fast_loop if fast else None) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except _Terminated:
        raise typer.Exit(EXIT_TERMINATED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout at exit
        raise typer.Exit(0) from None


class _Terminated(Exception):
    """SIGTERM was received, and the work has been cancelled."""


async def _until_terminated(work: Coroutine[Any, Any, Result]) -> Result:
    """Cancel `work` at the first SIGTERM, and raise _Terminated when it has ended; the second one ends the process at once."""
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
    assert task is not None

    def terminate() -> None:
        received.set()
        loop.remove_signal_handler(signal.SIGTERM)
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await work
    except asyncio.CancelledError:
        if received.is_set():
            raise _Terminated from None
        raise


def _fast_loop() -> asyncio.AbstractEventLoop:
    try:
        from uvloop import new_event_loop
    except ImportError:  # not available on this system
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = new_event_loop()
    return loop
