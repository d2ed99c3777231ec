"""One child process: started, awaited until it says `ready`, ended. Restarts are the supervisor's business.

A child inherits stdout and stderr, and has a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone.
It says `ready` on a pipe of its own (`--ready-fd`): what subscribers print stays out of it.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any, NamedTuple

READY_BYTES_MAX = 1 << 20


class ChildSpec(NamedTuple):
    """`name` is unique. `arguments` are those of the `hub` command line, the role's command first."""

    name: str
    role: str
    arguments: tuple[str, ...]


class Child:
    """A place for a process: it holds one after another."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.facts: dict[str, Any] = {}
        self.serving = asyncio.Event()
        self.stopping = asyncio.Event()
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._pipe: int | None = None
        self._heard = bytearray()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None else None

    async def spawn(self) -> None:
        """Start a process. Raises OSError."""
        self._close_pipe()
        self.facts = {}
        self.serving.clear()
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "hub", *self.spec.arguments),
                *("--parent", str(os.getpid()), "--ready-fd", str(writing)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pipe = reading
        os.set_blocking(reading, False)
        asyncio.get_running_loop().add_reader(reading, self._hear)
        if self.stopping.is_set():  # asked for while it was being started
            self.signal(signal.SIGTERM)

    def _hear(self) -> None:
        assert self._pipe is not None
        piece = os.read(self._pipe, 65536)
        self._heard += piece
        if not piece or b"\n" in self._heard or len(self._heard) > READY_BYTES_MAX:
            line = bytes(self._heard).partition(b"\n")[0].split(b" ", 2)
            self._close_pipe()
            if len(line) == 3 and line[0] == b"ready":
                self.facts = json.loads(line[2])
                self.serving.set()

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        self._heard.clear()
        if pipe is not None:
            asyncio.get_running_loop().remove_reader(pipe)
            os.close(pipe)

    async def ended(self) -> int:
        """Wait for the end; the exit code (negative: the signal's number)."""
        assert self._process is not None
        code = await self._process.wait()
        if self._pipe is not None:
            self._hear_rest()
        return code

    def _hear_rest(self) -> None:
        """What it said just before its end."""
        try:
            self._hear()
        except BlockingIOError:
            self._close_pipe()

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to drain; it is not to be started again."""
        self.stopping.set()
        self.signal(signal.SIGTERM)


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
