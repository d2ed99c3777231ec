"""`hub up` as a real process in a separate folder."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

HUB = [sys.executable, "-P", "-m", "hub"]
DEADLINE_SECONDS = 60.0

APP = '''
import asyncio
from pathlib import Path
from hub import TaskContext, TaskRegistry

tasks = TaskRegistry()

@tasks.task("add")
async def add(a: int, b: int = 2) -> int:
    return a + b

@tasks.task("hold")
async def hold(ctx: TaskContext, marks: str) -> int:
    """The first attempt does not end by itself."""
    Path(marks, f"attempt-{ctx.attempt}-{ctx.task_id}-{len(list(Path(marks).iterdir()))}").touch()
    if len(list(Path(marks).iterdir())) == 1:
        await asyncio.sleep(600)
    return ctx.attempt
'''


def until(condition: Callable[[], Any], *, seconds: float = DEADLINE_SECONDS) -> Any:
    """Wait until `condition` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    """Is there such a process (one that ended and was not waited for counts as gone)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Up:
    """`hub up`, started by `HubUps`; `about` is its ready line."""

    def __init__(self, process: "Popen[str]", folder: Path, errors: Path) -> None:
        self.process = process
        self.folder = folder
        self._errors = errors
        self.about: dict[str, Any] = {}

    def ready(self) -> "Up":
        """Wait for the ready line; fails with what it said when it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready up "):
                self.about = json.loads(line.removeprefix("ready up "))
                return self
        pytest.fail(f"hub up ended: {self.errors()}")

    def errors(self) -> str:
        """What stands on stderr."""
        return self._errors.read_text()

    @property
    def address(self) -> str:
        """Of the broker."""
        return str(self.about["address"])

    def children(self) -> dict[str, dict[str, Any]]:
        """By name, as `run.json` has them now."""
        content = json.loads((self.folder / "data" / "run.json").read_text())
        return {child["name"]: child for child in content["processes"]}

    def restarted(self, name: str, former: int) -> dict[str, Any] | None:
        """The child of that name, once another process serves."""
        child = self.children()[name]
        return child if child["serving"] and child["pid"] != former else None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


class HubUps:
    """Starts as many as a test wants, and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[Up] = []
        (folder / "app.py").write_text(APP)

    def __call__(self, *arguments: str, data: str = "data", port: int = 0) -> Up:
        errors = self.folder / f"up-{len(self._all)}.err"
        command = [*HUB, "up", "--data", data, "--port", str(port), "--health-port", "0", *arguments]
        with errors.open("w") as stderr:
            process = Popen(command, cwd=self.folder, stdout=PIPE, stderr=stderr, text=True, env=environment())
        up = Up(process, self.folder, errors)
        self._all.append(up)
        return up

    def close(self) -> None:
        """End what still runs."""
        for up in self._all:
            if up.process.poll() is None:
                up.process.kill()  # its children go with it
            up.process.wait()
            assert up.process.stdout is not None
            up.process.stdout.close()


def environment() -> dict[str, str]:
    """Ours, without settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}


@pytest.fixture
def hub_up(tmp_path: Path) -> Iterator[HubUps]:
    """Start `hub up` in a folder with the module `app`."""
    ups = HubUps(tmp_path)
    try:
        yield ups
    finally:
        ups.close()


async def run_task(address: str, name: str, args: dict[str, Any], *, seconds: float = DEADLINE_SECONDS) -> Any:
    """Submit a task and wait for its result."""
    from hub import Hub

    async with asyncio.timeout(seconds), Hub(address) as hub:
        return await hub.run(name, args, timeout_seconds=seconds)
