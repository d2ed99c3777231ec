"""Starts processes of a temporary hub for a command (the demo, a benchmark), and stops them. They also end when this process ends
for any reason.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import psutil

from ..errors import HubError

if TYPE_CHECKING:
    from ..kafka import Cluster

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
LOG_TAIL_LINES = 8


class NotReady(HubError):
    """A process did not become ready. The message is its own error message, or contains the end of its log."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class HubProcess:
    """One process, with its role and the path of its log."""

    def __init__(self, role: str, process: asyncio.subprocess.Process, log: Path, command: list[str]) -> None:
        self.role, self.process, self.log, self.command = role, process, log, command

    async def ready(self) -> dict[str, Any]:
        """Wait for its line `ready <role> <json>` and return the decoded JSON. Raises NotReady."""
        assert self.process.stdout is not None, "its stdout is a pipe"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while line := await self.process.stdout.readline():
                    word, _, rest = line.decode().partition(" ")
                    if word == "ready":
                        facts: dict[str, Any] = msgspec.json.decode(rest.partition(" ")[2])
                        return facts
        except TimeoutError:
            raise NotReady(f"The {self.role} is not ready after {READY_SECONDS:g} s. {self._last_words()}") from None
        code = await self.process.wait()
        said = self.log.read_text(errors="replace").rstrip().rpartition("\n")[2]
        if said.startswith("hub: "):
            raise NotReady(said.removeprefix("hub: "), code)
        raise NotReady(f"The {self.role} ended before it was ready. {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(["The end of its log:", *lines]) if lines else "Its log is empty."

    def cpu_seconds(self) -> float:
        """The CPU time that it and the processes that it has started have used, in seconds; 0 if it has ended."""
        from ..bench import cpu_seconds, family

        try:
            return sum(map(cpu_seconds, family(self.process.pid)))
        except HubError:
            return 0.0

    def memory_bytes(self) -> int:
        """The memory of it and of the processes that it has started, in bytes: the PSS (own pages and a part of shared ones) if
        the system provides it, else the RSS; 0 if it has ended."""
        try:
            process = psutil.Process(self.process.pid)
            all_of_it = [one.memory_full_info() for one in (process, *process.children(recursive=True))]
        except psutil.NoSuchProcess:
            return 0
        return int(sum(getattr(one, "pss", one.rss) for one in all_of_it))

    async def stop(self) -> None:
        """Request it to drain and end; kill it if it does not end within STOP_SECONDS."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class LocalHub:
    """`async with LocalHub() as local: await local.start_broker()`. At the end of the block the processes are stopped in reverse
    order."""

    def __init__(self, bootstrap: str | None = None) -> None:
        """`bootstrap`: the broker for workers and engines, unless `start_broker` starts one."""
        self.bootstrap = bootstrap or ""
        self.children: list[HubProcess] = []
        self._started = 0
        self._folder = Path(tempfile.mkdtemp(prefix="taskhub-"))

    @property
    def cluster(self) -> "Cluster":
        """The cluster of the broker, for clients in this process."""
        from ..runtime.cluster import cluster_at

        return cluster_at(self.bootstrap)

    @property
    def data_dir(self) -> Path:
        """The data directory of the embedded broker that it starts."""
        return self._folder / "data"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in reversed(self.children):
            await child.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def start_broker(self, *, engine: bool = True, flush: str = "always", partitions: int = 1) -> str:
        """Start the embedded broker on a free port, with an embedded engine; returns its address. Raises NotReady."""
        where = ["--data", str(self.data_dir), "--host", "127.0.0.1", "--port", "0"]
        arguments = [*where, "--flush", flush, "--partitions", str(partitions), *(["--engine"] if engine else [])]
        facts = await self._start("broker", arguments, role="broker+engine" if engine else "broker")
        self.bootstrap = str(facts["address"])
        return self.bootstrap

    async def start_engine(self) -> None:
        """Start an engine process, with a directory for its snapshots. Raises NotReady."""
        await self._start("engine", ["--bootstrap", self.bootstrap, "--data", str(self._folder / "engine")])

    async def start_worker(self, registry: str, *, slots: int = 64) -> None:
        """Start a worker with the tasks at `registry`. Raises NotReady."""
        await self._start("worker", [registry, "--bootstrap", self.bootstrap, "--slots", str(slots)])

    async def start_delivery(self, subscriber: str) -> None:
        """Start a delivery process with one subscriber. Raises NotReady."""
        await self._start("delivery", ["--bootstrap", self.bootstrap, "--subscriber", subscriber])

    async def start_up(self, registry: str, subscriber: str, options: Sequence[str] = ()) -> dict[str, int]:
        """Start `hub up` with a worker for `registry`, a subscriber, health pages and more `options`; returns the process ids of
        the supervisor (`up`) and of its processes by name. Raises NotReady."""
        where = ["--data", str(self.data_dir), "--host", "127.0.0.1", "--port", "0", "--health-port", str(_free_port())]
        facts = await self._start("up", [*where, *options, "--worker", registry, "--subscriber", subscriber])
        self.bootstrap = str(facts["address"])
        return {"up": self.children[-1].process.pid, **{one["name"]: one["pid"] for one in facts["processes"]}}

    async def restart_killed(self, role: str) -> float:
        """Kill the process of this role (SIGKILL) and restart it; returns the seconds from its start until it is ready.

        Raises NotReady."""
        return await self.start_again(await self.kill(role))

    async def kill(self, role: str) -> HubProcess:
        """Kill the process of this role (SIGKILL), with the processes that it has started; returns when they have ended."""
        (child,) = (one for one in self.children if one.role == role)
        started = psutil.Process(child.process.pid).children(recursive=True)
        child.process.kill()
        await child.process.wait()
        await asyncio.to_thread(psutil.wait_procs, started, STOP_SECONDS)  # the kernel kills them when their parent is gone
        return child

    async def start_again(self, child: HubProcess) -> float:
        """Start a process that was killed; returns the seconds from its start until it is ready. Raises NotReady."""
        place = self.children.index(child)
        self.children.remove(child)
        name, *arguments = child.command
        if "--port" in arguments:  # keep the port: the other processes have the address
            arguments[arguments.index("--port") + 1] = self.bootstrap.rpartition(":")[2]
        began = time.perf_counter()
        await self._start(name, arguments, role=child.role)
        self.children.insert(place, self.children.pop())  # they are stopped in reverse order: the broker last
        return time.perf_counter() - began

    async def _start(self, command: str, arguments: list[str], *, role: str | None = None) -> dict[str, Any]:
        self._started += 1
        log = self._folder / f"{command}-{self._started}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hub", command, *arguments, "--log-level", "warning", "--parent", str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C must reach this process only, which stops them in order
            )
        child = HubProcess(role or command, process, log, [command, *arguments])
        self.children.append(child)
        return await child.ready()

    def filesystem(self) -> str:
        """The type of the file system of the data directory (an fsync on a tmpfs takes no time)."""
        mounted = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
        return next((mounted[folder] for folder in (self._folder, *self._folder.parents) if folder in mounted), "unknown")

    def memory_bytes(self) -> int:
        """Memory of all started processes, in bytes."""
        return sum(child.memory_bytes() for child in self.children)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of all started processes in seconds, by role."""
        used: dict[str, float] = {}
        for child in self.children:
            used[child.role] = used.get(child.role, 0.0) + child.cpu_seconds()
        return used


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
