"""Common parts of all processes: event loop, signals, `ready` line, exit code.

The first SIGTERM or SIGINT starts a drain; a second one ends the process at once. The process prints `ready <role> <json>`
once, to stdout or, under a supervisor, to the pipe from `--ready-fd`; logs go to stderr.
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

from ..logs import Logger
from ..service import run_until

log = Logger(__name__)

DRAINING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


class Process:
    """The argument of the main function of a role: tells when to stop, and reports readiness."""

    def __init__(self, role: str, ready_fd: int | None = None) -> None:
        self.role = role
        self.stopping = asyncio.Event()
        self.at_once: list[Callable[[], None]] = []  # called on the second signal
        self._ready_fd = ready_fd
        self._facts: dict[str, Any] = {}
        self._is_ready = False

    def on_signal(self, number: int) -> None:
        """First signal: drain. Second signal: end at once."""
        if self.stopping.is_set():
            for end in self.at_once:
                end()
            os._exit(128 + number)
        self.stopping.set()

    def ready(self, **facts: Any) -> None:
        """Report that this process is ready: on stdout, or to the supervisor through its pipe.

        Existing objects (mostly modules) are frozen, so that the garbage collector does not scan them again."""
        gc.freeze()
        line = f"ready {self.role} {json.dumps({'role': self.role, 'pid': os.getpid(), **facts, **self._facts})}"
        self._is_ready = True
        if self._ready_fd is None:
            print_line(line)
        else:
            self._tell_supervisor(line)

    def report(self, **facts: Any) -> None:
        """Report facts that may change: in the `ready` line, and after it to the supervisor, if there is one."""
        self._facts |= facts
        if self._is_ready and self._ready_fd is not None:
            self._tell_supervisor(f"facts {self.role} {json.dumps(facts)}")

    def _tell_supervisor(self, line: str) -> None:
        assert self._ready_fd is not None
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, and this process ends with it
            os.write(self._ready_fd, line.encode() + b"\n")

    def end_at_once(self, why: str, code: int = 0) -> NoReturn:
        """End at once without waiting for threads."""
        log.warning("ending at once", action="process_ended_at_once", role=self.role, reason=why)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    async def until_stopped(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Wait for `work`. Returns True when it is done, False if a signal arrived first (`work` is cancelled). Raises its
        error."""
        task = await run_until(self.stopping, work)
        if task.cancelled():
            return False
        task.result()
        return True


def print_line(line: str) -> None:
    """Print a line to stdout and flush it. A closed pipe is not an error."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


def run_process(
    role: str, main: Callable[[Process], Awaitable[None]], *, uvloop: bool = True, ready_fd: int | None = None
) -> None:
    """Run `main` in a new event loop with signal handlers. Raises the error of `main`."""

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
    except ImportError:  # not available on this system
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop
    return factory


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when the supervisor `parent` ends (Linux only; no effect elsewhere).

    The process then ends as in a crash, from which the hub recovers."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
