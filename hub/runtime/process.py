"""The frame of every process: one loop, two signals, one `ready` line, an exit code.

The first SIGTERM or SIGINT drains; a second ends the process at once. The process says `ready <role> <json>`, once, on stdout
or, under a supervisor, on the pipe that it was given; logs go to stderr.
"""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

import structlog

from ..service import run_until

log = structlog.get_logger(__name__)

DRAINING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


class Process:
    """What a role's main function is given: when to stop, and how to say that it serves."""

    def __init__(self, role: str, ready_fd: int | None = None) -> None:
        self.role = role
        self.stopping = asyncio.Event()
        self.at_once: list[Callable[[], None]] = []  # called on the second signal
        self._ready_fd = ready_fd
        self._facts: dict[str, Any] = {}
        self._is_ready = False

    def on_signal(self, number: int) -> None:
        """First: drain. Second: end at once."""
        if self.stopping.is_set():
            for end in self.at_once:
                end()
            os._exit(128 + number)
        self.stopping.set()

    def ready(self, **facts: Any) -> None:
        """Say that this process serves: on stdout, or to the supervisor through its pipe.

        What exists by now (modules, mostly) stays: the garbage collector need not walk over it again and again."""
        gc.freeze()
        line = f"ready {self.role} {json.dumps({'role': self.role, 'pid': os.getpid(), **facts, **self._facts})}"
        self._is_ready = True
        if self._ready_fd is None:
            print_line(line)
        else:
            self._tell_supervisor(line)

    def report(self, **facts: Any) -> None:
        """Facts that change while it serves: in the `ready` line, and after it told to the supervisor, where there is one."""
        self._facts |= facts
        if self._is_ready and self._ready_fd is not None:
            self._tell_supervisor(f"facts {self.role} {json.dumps(facts)}")

    def _tell_supervisor(self, line: str) -> None:
        assert self._ready_fd is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone, and this process ends with it
            os.write(self._ready_fd, line.encode() + b"\n")

    def end_at_once(self, why: str, code: int = 0) -> NoReturn:
        """End now, whatever threads there are: the interpreter would wait for them."""
        log.warning("ending at once", action="process_ended_at_once", role=self.role, reason=why)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    async def until_stopped(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Wait for `work`: True when it is done, False when a signal came first (`work` is cancelled). Raises what it raises."""
        task = await run_until(self.stopping, work)
        if task.cancelled():
            return False
        task.result()
        return True


def print_line(line: str) -> None:
    """One line on stdout, at once. Nobody reading is not a failure."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


def run_process(
    role: str, main: Callable[[Process], Awaitable[None]], *, uvloop: bool = True, ready_fd: int | None = None
) -> None:
    """Run `main` to its end in a new event loop, with the two signals. Raises what `main` raises."""

    async def supervised() -> None:
        process = Process(role, ready_fd)
        loop = asyncio.get_running_loop()
        for number in DRAINING_SIGNALS:
            loop.add_signal_handler(number, process.on_signal, number)
        await main(process)

    with asyncio.Runner(loop_factory=_uvloop_factory() if uvloop else None) as runner:
        runner.run(supervised())


def _uvloop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop
    except ImportError:  # there is none on this system
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop
    return factory


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the supervisor `parent` is gone (Linux; elsewhere nothing happens).

    Whatever runs is then ended like in a crash, which the log is made for: nobody is left to drain in order."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before we asked
        os._exit(1)
