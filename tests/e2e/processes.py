"""Real processes of a hub that tests start, kill, suspend and resume by pid."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from hub.kafka import Cluster
from hub.verify import verify
from tests.ports import free_port

READY_SECONDS = 60.0
END_SECONDS = 60.0
ROOT = Path(__file__).parents[2]
COMMAND = ("hub",)
QUICK = ("tests.quick_members", *COMMAND)


class HubProcess:
    """One `hub ...` process. Its standard error goes to a file beside its output."""

    def __init__(self, name: str, arguments: Iterable[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.command: Sequence[str] = QUICK
        self.arguments = list(arguments)
        self.folder = folder
        self.environment = environment or {}
        self.process: asyncio.subprocess.Process | None = None
        self.about: dict[str, Any] = {}
        self.kills = 0
        self._draining: asyncio.Task[None] | None = None

    async def start(self, *, ready: bool = True) -> Self:
        """Start it, and wait for its ready line."""
        with (self.folder / f"{self.name}.err").open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self.command,
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
            )
        if ready:
            await self.ready()
        return self

    async def ready(self) -> None:
        """Wait for the ready line. Raises RuntimeError with the end of standard error."""
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(READY_SECONDS):
                while line := await self.process.stdout.readline():
                    if line.startswith(b"ready "):
                        self.about = json.loads(line.split(b" ", 2)[2])
                        break
                else:
                    raise RuntimeError(f"{self.name} ended: {self.errors()}")
        except TimeoutError:
            raise RuntimeError(f"{self.name} is not ready: {self.errors()}") from None
        self._draining = asyncio.get_running_loop().create_task(self._drain(self.process.stdout))

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        with (self.folder / f"{self.name}.out").open("ab") as file:
            while chunk := await stream.read(65536):
                file.write(chunk)
                file.flush()

    def errors(self) -> str:
        """The end of its standard error."""
        return (self.folder / f"{self.name}.err").read_text(errors="replace")[-3000:]

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """As if the power failed for this process alone."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        self.kills += 1
        await self._ended()

    async def restart(self) -> None:
        """Kill it and start it again at once."""
        await self.kill()
        await self.start()

    async def stop(self) -> int:
        """SIGTERM, and wait for its end; its exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"{self.name} did not end: {self.errors()}") from None
        await self._ended()
        return int(self.process.returncode or 0)

    async def _ended(self) -> None:
        if self._draining is not None:
            await asyncio.wait([self._draining], timeout=5)
            self._draining = None


class Installation:
    """The processes of one hub. `async with` ends them all; before, the checker finds nothing wrong with what they wrote.

    `command`: the hub's, or that whose group members are missed sooner (`tests/quick_members.py`)."""

    def __init__(
        self, folder: Path, *, bootstrap: str | None = None, partitions: int = 1, command: Sequence[str] = QUICK
    ) -> None:
        self.folder = folder
        self.command = command
        self.partitions = partitions
        self.port = free_port()
        self.bootstrap = bootstrap or f"127.0.0.1:{self.port}"
        self.processes: dict[str, HubProcess] = {}
        self._owed: list[str] | None = None

    def owes_the_end_of(self, acknowledged: list[str]) -> None:
        """Have the checker of the end see that these submissions are there, and that every task has ended."""
        self._owed = [*(self._owed or ()), *acknowledged]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None:
                owed = self._owed or ()
                report = await verify(Cluster.of(self.bootstrap), require_all_ended=self._owed is not None, acknowledged=owed)
                assert report.ok, report.render()
        finally:
            await self._end()

    async def _end(self) -> None:
        for process in reversed(list(self.processes.values())):
            if process.process is not None and process.process.returncode is None:
                process.signal(signal.SIGCONT)
                await process.kill()

    async def _add(self, name: str, *arguments: str, **environment: str) -> HubProcess:
        process = HubProcess(name, arguments, self.folder, environment)
        process.command = self.command
        self.processes[name] = process
        return await process.start()

    async def together(self, *starting: Coroutine[Any, Any, HubProcess]) -> list[HubProcess]:
        """Start processes side by side; they are ready. In the order of the arguments."""
        async with asyncio.TaskGroup() as group:
            started = [group.create_task(one) for one in starting]
        return [one.result() for one in started]

    async def broker(self, *, engine: bool) -> HubProcess:
        """The embedded broker, with the engine inside or without."""
        arguments = [
            "broker",
            "--data",
            str(self.folder / "data"),
            "--port",
            str(self.port),
            "--partitions",
            str(self.partitions),
        ]
        return await self._add("broker", *arguments, *(["--engine"] if engine else []))

    async def engine(self, name: str = "engine") -> HubProcess:
        """An engine of its own process."""
        return await self._add(name, "engine", "--bootstrap", self.bootstrap, "--data", str(self.folder / name))

    async def worker(self, name: str = "worker", *, lease_seconds: float = 3.0, slots: int = 40) -> HubProcess:
        """A worker with the tasks of `app.py`; each run of a task leaves a line in `journal`."""
        arguments = ["--slots", str(slots), "--lease-seconds", str(lease_seconds), "--grace-seconds", "10"]
        journal = str(self.folder / "journal")
        return await self._add(
            name, "worker", "tests.e2e.app:tasks", "--bootstrap", self.bootstrap, *arguments, HUB_TEST_JOURNAL=journal
        )

    def let_go(self) -> None:
        """Let the tasks named `held` come to their end."""
        (self.folder / "journal.go").touch()

    async def delivery(self, subscriber: str = "tests.e2e.listener:Listener") -> HubProcess:
        """The delivery process with one subscriber, which writes what it is given into `delivered`."""
        where = str(self.folder / "delivered")
        return await self._add(
            "delivery", "delivery", "--bootstrap", self.bootstrap, "--subscriber", subscriber, HUB_TEST_DELIVERED=where
        )
