"""How the supervisor starts processes: forked from one that has imported their modules, or with an interpreter of their own.

A forked process needs no time for imports, and shares their memory with the others until one of them writes to it. No code of
users is imported before the fork: only the processes that run tasks and subscribers import them. Where a fork is not safe
(macOS), and after the end of the fork server, each process has an interpreter of its own.
"""

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from ..child_process import set_title
from ..fork_server import ForkedProcess, ForkServer, ForkServerEnded, Run
from ..logs import Logger

log = Logger(__name__)

_RUNTIME = ("checks", "cluster", "instruments", "losses", "tuning", "waiting")
_EVERY_ROLE = ("uvloop", "psutil", "hub.kafka", "hub.metrics.process", *(f"hub.runtime.{name}" for name in _RUNTIME))
_ENGINE = ("hub.engine", "hub.engine.embedded")
MODULES = {
    "broker": ("hub.broker",),
    "broker+engine": ("hub.broker", *_ENGINE),
    "engine": _ENGINE,
    "worker": ("hub.worker", "hub.runtime.export"),
    "delivery": ("hub.delivery", "hub.delivery.own_process"),
    "analytics": ("hub.analytics.service",),
}
"""What the processes of each role import when they start."""


class CommandLine(NamedTuple):
    """A command of `hub` with its operands and options. The names of options are those of the parameters of its function."""

    name: str
    operands: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})

    def with_options(self, **options: Any) -> "CommandLine":
        """This command with other values of these options."""
        return self._replace(options={**self.options, **options})

    def arguments(self) -> list[str]:
        """The command line, without `hub`. Options without a value and switches that are off are left out."""
        arguments = [self.name, *self.operands]
        for name, value in self.options.items():
            option = f"--{name.replace('_', '-')}"
            if value is True:
                arguments.append(option)
            elif isinstance(value, list):
                arguments += [part for one in value for part in (option, str(one))]
            elif value is not None and value is not False:
                arguments += [option, str(value)]
        return arguments


class LaunchedProcess(Protocol):
    """One process of a role. `reports`: the file descriptor from which its lines are read; the owner closes it."""

    @property
    def pid(self) -> int:
        """Its id; 0 if the system could not create it."""

    @property
    def reports(self) -> int:
        """See the class."""

    def signal(self, number: int) -> None:
        """Send a signal, if the process has not ended."""

    async def ended(self) -> int:
        """Wait for the end of the process. Returns its exit code (negative: the number of the signal)."""


class Launcher:
    """Starts the processes of one supervisor; with `server`, they are forked from it while it lives."""

    def __init__(self, server: ForkServer | None = None) -> None:
        self._server = server
        self._forks = server is not None

    async def launch(self, command: CommandLine) -> LaunchedProcess:
        """Start a process that runs this command. Raises OSError."""
        if self._server is not None and self._forks:
            try:
                return _ForkedRole(await self._server.fork(pickle.dumps((*command[:2], dict(command.options)))))
            except ForkServerEnded:
                self._forks = False
                log.warning("the fork server ended; new processes get interpreters of their own", action="fork_server_ended")
        return await _SpawnedProcess.start(command)

    def kill(self) -> None:
        """Kill the fork server, and with it its processes: it does not respond to requests to kill them."""
        if self._server is not None:
            self._server.kill()

    def close(self) -> None:
        """End the fork server, and with it its processes."""
        if self._server is not None:
            self._server.close()


def make_launcher(roles: Iterable[str], run: Run) -> Launcher:
    """The launcher for processes of these roles. `run`: what a forked process does, see `become_role`. Call it before
    this process has threads or event loops, and before it imports code of users."""
    if sys.platform != "linux" or threading.active_count() > 1:  # threads of a debugger or an instrumentation, for example
        return Launcher()
    gc.disable()  # modules are no garbage, and a search for it takes a tenth of their import
    for name in dict.fromkeys((*_EVERY_ROLE, *(name for role in roles for name in MODULES[role]))):
        with contextlib.suppress(ImportError):  # uvloop is not available on every system
            import_module(name)
    gc.freeze()  # otherwise the first search looks at all of them
    gc.enable()
    return Launcher(ForkServer(run, "hub up"))


def become_role(job: bytes, descriptors: Sequence[int]) -> CommandLine:
    """Turn a forked process into one that seems to have just started: its session, signals, stdin, path of modules and title.
    Returns its command."""
    command = CommandLine(*pickle.loads(job))
    os.setsid()  # Ctrl-C in the terminal reaches the supervisor alone
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of the script or the current one, where a module may have the name of another one
    sys.argv[1:] = command.arguments()
    set_title(("hub", *sys.argv[1:]))
    return command.with_options(parent=os.getppid(), ready_fd=descriptors[0])


class _ForkedRole:
    """A process of the fork server. If that is killed, so are its processes."""

    def __init__(self, process: ForkedProcess) -> None:
        self._process = process
        self.pid, self.reports, self.signal = process.pid, process.reports, process.signal

    async def ended(self) -> int:
        try:
            return await asyncio.shield(self._process.ended)
        except ForkServerEnded:
            await _until_gone(self.pid)
            return -signal.SIGKILL


async def _until_gone(pid: int) -> None:
    """Wait until a process that this one did not start has ended. A system without pidfd_open(2) does not wait."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


class _SpawnedProcess:
    """A process with an interpreter of its own."""

    def __init__(self, process: asyncio.subprocess.Process, reports: int) -> None:
        self._process, self.reports = process, reports
        self.pid = process.pid

    @classmethod
    async def start(cls, command: CommandLine) -> "_SpawnedProcess":
        reading, writing = os.pipe()
        arguments = command.with_options(parent=os.getpid(), ready_fd=writing).arguments()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "hub", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return cls(process, reading)

    def signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        return await self._process.wait()
