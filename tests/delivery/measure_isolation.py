"""What subscribers cost, and what bad ones cost the others: `python -m tests.delivery.measure_isolation [seconds] [tasks/s]`.

Not a test: nothing is asserted. First a healthy subscriber alone, then with five that hang, raise, sleep, spin and are killed
every KILL_SECONDS: the delay from the time of an event to the call of the handler, the rate of the engine, and CPU by process.
Then 1, 6 and 20 subscribers whose filter rejects everything, in processes and in threads: CPU per task, idle CPU, memory (PSS).
"""

import asyncio
import itertools
import os
import platform
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from hub import Hub
from hub.delivery.administration import describe_subscribers
from hub.kafka import Cluster
from tests.e2e.processes import HubProcess, Installation

from .measured_plugins import DELAY

BAD = ("Hangs", "Raises", "Sleeps", "Spins", "Killed")
COUNTS = (1, 6, 20)
TICK_SECONDS = 0.1
KILL_SECONDS = 3.0
SAMPLE_SECONDS = 0.25
IDLE_SECONDS = 4.0
SETTLE_SECONDS = 30.0
TABLE = """
[[subscribers]]
use = "tests.delivery.measured_plugins:{plugin}"
id = "{id}"
isolation = "{isolation}"
settings = {{ folder = "{folder}" }}
"""


class Load(NamedTuple):
    """What was submitted, and how. `latencies`: from submission to acknowledgement of each batch, sorted, in seconds."""

    tasks: int
    seconds: float
    latencies: Sequence[float]


class CpuBook:
    """CPU time by process, also of processes that have ended in between."""

    def __init__(self) -> None:
        self._used: dict[int, float] = {}
        self._before: dict[int, float] = {}

    def sample(self, processes: Sequence[psutil.Process]) -> None:
        """Note the CPU time of processes that run."""
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._used[process.pid] = times.user + times.system

    def begin(self) -> None:
        """Count from here on."""
        self._before = dict(self._used)

    def seconds(self, *pids: int) -> float:
        """CPU seconds of these processes since `begin`."""
        return sum(self._used.get(pid, 0.0) - self._before.get(pid, 0.0) for pid in pids)

    @property
    def pids(self) -> list[int]:
        """All processes that were seen."""
        return list(self._used)


class MeasuredHub:
    """A broker with the engine, and one delivery process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.installation = Installation(folder, command=("hub",))
        self.bootstrap = self.installation.bootstrap

    @asynccontextmanager
    async def started(self) -> AsyncIterator["MeasuredHub"]:
        """With its broker, which is killed at the end."""
        try:
            self.broker = await self.installation.broker(engine=True)
            yield self
        finally:
            await self.installation._end()

    @asynccontextmanager
    async def delivering(self, plugins: dict[str, str], isolation: str = "process") -> AsyncIterator[HubProcess]:
        """With a delivery process for these plugins by id."""
        settings = self.folder / f"{next(iter(plugins))}.toml"
        tables = [TABLE.format(plugin=plugin, id=id, isolation=isolation, folder=self.folder) for id, plugin in plugins.items()]
        settings.write_text("".join(tables))
        arguments = ["delivery", "--bootstrap", self.bootstrap]
        process = HubProcess("delivery", arguments, self.folder, {"HUB_CONFIG": str(settings)})
        process.command = ("hub",)
        self.installation.processes["delivery"] = process
        await process.start()
        try:
            yield process
        finally:
            await process.kill()

    def pids_of(self, id: str) -> list[int]:
        """The processes that ran a subscriber."""
        path = self.folder / f"{id}.pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def delays_of(self, id: str) -> list[float]:
        """The delays that a healthy subscriber has written, sorted."""
        data = (self.folder / f"{id}.delays").read_bytes()
        whole = len(data) // DELAY.size * DELAY.size
        return sorted(value for (value,) in struct.iter_unpack(DELAY.format, data[:whole]))

    async def submit(self, seconds: float, per_second: float) -> Load:
        """Submit tasks that no worker runs, at a steady rate."""
        latencies: list[float] = []
        count = max(1, int(per_second * TICK_SECONDS))
        async with Hub(self.bootstrap) as client:
            began = time.monotonic()
            for tick in range(int(seconds / TICK_SECONDS)):
                sent = time.monotonic()
                await client.submit_many([{"name": "nobody"}] * count)
                latencies.append(time.monotonic() - sent)
                await asyncio.sleep(max(0.0, began + (tick + 1) * TICK_SECONDS - time.monotonic()))
            return Load(count * len(latencies), time.monotonic() - began, sorted(latencies))

    async def caught_up(self, *ids: str) -> bool:
        """Wait until these subscribers have acknowledged everything, for at most SETTLE_SECONDS; whether they have."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while True:
                    known = {one.id: one.lag for one in await describe_subscribers(Cluster.of(self.bootstrap), [])}
                    if all(known.get(id) == 0 for id in ids):
                        return True
                    await asyncio.sleep(SAMPLE_SECONDS)
        except TimeoutError:
            return False


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def share(values: Sequence[float], part: float) -> float:
    """A quantile of sorted values."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def pss_mib(processes: Sequence[psutil.Process]) -> float:
    """Proportional set size, in MiB: shared pages are divided among those that share them."""
    return sum(process.memory_full_info().pss for process in processes) / 2**20


# One healthy subscriber among bad ones


async def healthy_among(plugins: dict[str, str], seconds: float, per_second: float) -> None:
    """Print what a healthy subscriber and the engine do."""
    with tempfile.TemporaryDirectory() as folder:
        async with MeasuredHub(Path(folder)).started() as hub, hub.delivering(plugins) as delivery:
            book, over = CpuBook(), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(watch(book, [hub.broker.pid, delivery.pid], over))
                if "killed" in plugins:
                    group.create_task(kill_again(hub, over))
                book.sample([*family(hub.broker.pid), *family(delivery.pid)])
                book.begin()
                began = time.monotonic()
                load = await hub.submit(seconds, per_second)
                done = await hub.caught_up("healthy")
                took = time.monotonic() - began
                over.set()
            print_healthy(hub, load, done)
            print_cpu(hub, book, took, ["healthy", *(id for id in plugins if id != "healthy")], delivery.pid)


async def watch(book: CpuBook, roots: Sequence[int], over: asyncio.Event) -> None:
    """Sample CPU times until the end."""
    while not over.is_set():
        for root in roots:
            book.sample(family(root))
        await asyncio.sleep(SAMPLE_SECONDS)


async def kill_again(hub: MeasuredHub, over: asyncio.Event) -> None:
    """Kill the process of `killed` every KILL_SECONDS."""
    while not over.is_set():
        await asyncio.sleep(KILL_SECONDS)
        pids = hub.pids_of("killed")
        if pids and psutil.pid_exists(pids[-1]):
            psutil.Process(pids[-1]).kill()


def print_healthy(hub: MeasuredHub, load: Load, done: bool) -> None:
    delays = hub.delays_of("healthy")
    rate = load.tasks / load.seconds
    p50, p99 = share(load.latencies, 0.5), share(load.latencies, 0.99)
    print(f"  engine: {load.tasks:,} tasks, {rate:,.0f}/s; acknowledged after p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms")
    figures = ", ".join(
        f"{name} {share(delays, part) * 1e3:.0f} ms" for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    )
    print(f"  healthy: {len(delays):,} events, delay {figures}{'' if done else ' (NOT CAUGHT UP)'}")
    if processes := hub.pids_of("killed"):
        print(f"  killed: {len(processes)} processes, at least {len(hub.delays_of('killed')):,} events")


def print_cpu(hub: MeasuredHub, book: CpuBook, seconds: float, ids: Sequence[str], delivery: int) -> None:
    parts = {"broker and engine": [hub.broker.pid], "delivery": [delivery]}
    parts |= {id: hub.pids_of(id) for id in ids}
    named = ", ".join(f"{name} {book.seconds(*pids) / seconds:.0%}" for name, pids in parts.items())
    print(f"  CPU of one core during {seconds:.0f} s: {named}", flush=True)


# Many subscribers that filter everything


async def many(hub: MeasuredHub, count: int, isolation: str, seconds: float, per_second: float) -> str:
    """A row: CPU per task, idle CPU, and memory of so many subscribers."""
    plugins = {f"{isolation}-{count}-{number}": "Refuses" for number in range(count)}
    async with hub.delivering(plugins, isolation) as delivery:
        await hub.caught_up(*plugins)
        book = CpuBook()
        book.sample(family(delivery.pid))
        book.begin()
        await asyncio.sleep(IDLE_SECONDS)
        book.sample(family(delivery.pid))
        idle = book.seconds(*book.pids) / IDLE_SECONDS
        book.begin()
        began = time.monotonic()
        load = await hub.submit(seconds, per_second)
        done = await hub.caught_up(*plugins)
        book.sample(family(delivery.pid))
        used = book.seconds(*book.pids) - idle * (time.monotonic() - began)
        memory = pss_mib(family(delivery.pid))
        note = "" if done else " (not caught up)"
        return f"| {count} | {isolation} | {used / load.tasks * 1e6:.0f} | {idle:.1%} | {memory:.0f} |{note}"


async def main(seconds: float, per_second: float) -> None:
    """Print all measurements, with the conditions."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()}")
    for title, plugins in (("healthy alone", ()), ("healthy with five bad ones", BAD)):
        print(f"{title}, {per_second:g} tasks/s offered for {seconds:g} s (load {os.getloadavg()[0]:.1f})", flush=True)
        await healthy_among({"healthy": "Healthy", **{name.lower(): name for name in plugins}}, seconds, per_second)
    print("| subscribers | isolation | CPU us per task | idle CPU | PSS MiB |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        async with MeasuredHub(Path(folder)).started() as hub:
            for isolation, count in itertools.product(("process", "thread"), COUNTS):
                print(await many(hub, count, isolation, seconds / 2, per_second), flush=True)
    print(f"load at the end {os.getloadavg()}")


if __name__ == "__main__":
    numbers = [float(one) for one in sys.argv[1:]]
    asyncio.run(main(*numbers, *(20.0, 1000.0)[len(numbers) :]))
