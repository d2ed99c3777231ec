"""One child process: start, wait until it reports `ready`, stop. The supervisor handles restarts.

A child inherits stdout and stderr and runs in a session of its own. It reports `ready`, and later changed facts, on a separate
pipe (`--ready-fd`), which output of subscribers cannot disturb.
"""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from .launching import CommandLine, LaunchedProcess, Launcher

LINE_BYTES_MAX = 1 << 20


class ChildSpec(NamedTuple):
    """`name` is unique."""

    name: str
    role: str
    command: CommandLine

    def with_options(self, **options: Any) -> "ChildSpec":
        """With other values of these options of the command."""
        return self._replace(command=self.command.with_options(**options))


class Child:
    """A child with one process at a time. `on_facts` is called when the process reports changed facts."""

    def __init__(self, spec: ChildSpec, launcher: Launcher, on_facts: Callable[[], None]) -> None:
        self.spec = spec
        self._launcher = launcher
        self._on_facts = on_facts
        self.facts: dict[str, Any] = {}
        self.serving = asyncio.Event()
        self.stopping = asyncio.Event()
        self.restarts = 0
        self._process: LaunchedProcess | None = None
        self._pipe: int | None = None
        self._heard = bytearray()

    @property
    def pid(self) -> int | None:
        """The process id, or None if no process is running."""
        return self._process.pid if self._process is not None else None

    async def spawn(self) -> None:
        """Start a process. Raises OSError."""
        self._close_pipe()
        self.facts = {}
        self.serving.clear()
        self._process = await self._launcher.launch(self.spec.command)
        self._pipe = self._process.reports
        os.set_blocking(self._pipe, False)
        asyncio.get_running_loop().add_reader(self._pipe, self._hear)
        if self.stopping.is_set():  # requested during the start
            self.signal(signal.SIGTERM)

    def _hear(self) -> None:
        assert self._pipe is not None
        piece = os.read(self._pipe, 65536)
        *lines, rest = (bytes(self._heard) + piece).split(b"\n")
        self._heard[:] = rest
        for line in lines:
            self._take(line)
        if not piece or len(rest) > LINE_BYTES_MAX:
            self._close_pipe()

    def _take(self, line: bytes) -> None:
        kind, _, facts = line.split(b" ", 2)
        if kind == b"ready":
            self.facts = json.loads(facts)
            self.serving.set()
        elif kind == b"facts":
            self.facts |= json.loads(facts)
            self._on_facts()

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        self._heard.clear()
        if pipe is not None:
            asyncio.get_running_loop().remove_reader(pipe)
            os.close(pipe)

    async def ended(self) -> int:
        """Wait for the end of the process. Returns its exit code (negative: the number of the signal)."""
        assert self._process is not None
        code = await self._process.ended()
        if self._pipe is not None:
            self._hear_rest()
        return code

    def _hear_rest(self) -> None:
        """Read the last lines from the pipe."""
        try:
            while self._pipe is not None:
                self._hear()
        except BlockingIOError:
            self._close_pipe()

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self._process is not None:
            self._process.signal(number)

    def stop(self) -> None:
        """Request the process to drain; it must not be restarted."""
        self.stopping.set()
        self.signal(signal.SIGTERM)
