"""A hub in separate processes, and commands against it as a user runs them."""

import asyncio
import functools
import gc
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import structlog
import typer.main

from hub.cli import build, main
from hub.cli.local_hub import LocalHub

SECONDS = 220


class Done(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str


@contextmanager
def served(*registries: str, partitions: int = 1) -> Iterator[str]:
    """A broker with the engine inside, and a worker for each of `registries`; the address."""
    with asyncio.Runner() as runner:
        local = LocalHub()
        try:
            address = runner.run(local.start_broker(partitions=partitions))
            for registry in registries:
                runner.run(local.start_worker(registry))
            yield address
        finally:
            runner.run(local.__aexit__())


def hub(
    *arguments: str, stdin: str = "", bootstrap: str | None = None, settings: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `hub ...` to its end, without a terminal. `settings`: variables of its environment, which has no others of the hub."""
    return subprocess.run(
        [sys.executable, "-m", "hub", *arguments],
        input=stdin,
        env=environment_of(bootstrap, settings),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def hub_inside(
    *arguments: str,
    stdin: str = "",
    bootstrap: str | None = None,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Done:
    """The same in this process, from the entry point: for tests of what a command prints and its exit code. A process takes half
    a second of CPU time to start. A test with an event loop calls it in a thread. One at a time: it replaces the streams, the
    environment and, with `folder`, the current directory of the process."""
    out, err = io.StringIO(), io.StringIO()
    code: str | int | None = 0
    with (
        _process_as_before(),
        chdir(folder or Path()),
        mock.patch.dict(os.environ, environment_of(bootstrap, settings), clear=True),
        mock.patch.multiple(sys, argv=["hub", *arguments], stdin=io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int), code
    return Done(code or 0, out.getvalue(), err.getvalue())


@functools.cache
def every_command() -> Any:
    """The group of all commands, made once: it takes longer than most of them."""
    return typer.main.get_command(build())


def hub_alone(*arguments: str) -> Done:
    """Run a command that needs neither settings nor a hub, in this process. Raises HubError."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            every_command()(list(arguments), prog_name="hub")
        except SystemExit as end:
            return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("typer ends each command with SystemExit")


@contextmanager
def _process_as_before() -> Iterator[None]:
    """Restores what a command configures for its whole process: logging and the garbage collector."""
    root, client = logging.getLogger(), logging.getLogger("aiokafka")
    before = root.handlers[:], root.level, client.level
    thresholds = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        root.handlers[:], level, client_level = before
        root.setLevel(level)
        client.setLevel(client_level)
        structlog.reset_defaults()


def environment_of(bootstrap: str | None, settings: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a command: ours without variables of the hub, with its address and `settings`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    if bootstrap is not None:
        environment["HUB_BOOTSTRAP"] = bootstrap
    return environment | dict(settings or {})


@contextmanager
def followed(*arguments: str, bootstrap: str) -> "Iterator[subprocess.Popen[str]]":
    """A running `hub events tail ...`, killed at the end."""
    tail = subprocess.Popen(
        [sys.executable, "-m", "hub", "events", "tail", *arguments, "--bootstrap", bootstrap],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with tail:
        try:
            yield tail
        finally:
            tail.kill()
