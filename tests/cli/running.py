"""A hub in separate processes, and commands against it as a user runs them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hub.cli.local_hub import LocalHub

SECONDS = 220


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
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    if bootstrap is not None:
        environment["HUB_BOOTSTRAP"] = bootstrap
    environment.update(settings or {})
    return subprocess.run(
        [sys.executable, "-m", "hub", *arguments],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


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
