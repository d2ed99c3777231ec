"""Kills delivery at random times: its process, its fork server, and the processes of its subscribers in turn.

`python -m tests.delivery.kill_delivery [kills] [seed]` (default 100, 1) prints what was killed and what the subscribers received.
Raises AssertionError if an event was lost, changed its id or its place, came out of order, or is no dead letter although it was
rejected; or if a replay is not exactly what it is to be.
"""

import asyncio
import collections
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from hub.delivery.administration.reading import read_range
from hub.kafka import Cluster, describe_offsets, read_committed
from tests.e2e.processes import ROOT, HubProcess, Installation

from .event_log import progress, write
from .must_show_plugins import REJECTED_EVERY
from .waiting import until

HERE = "tests.delivery.must_show_plugins"
TASKS = 16
PARTITIONS = 2
PAUSE_SECONDS = 0.1
STEADY_SECONDS = 1.5
"""Longer than the interval in which offsets are committed."""
FINISH_SECONDS = 120
FORKED = ("witness", "rejects", "pages")
"""Subscribers in processes of their own. One more, `beside`, runs in the process of delivery."""
ALL = (*FORKED, "beside")
TABLE = """
[[subscribers]]
use = "{here}:{plugin}"
id = "{id}"
start_from = "earliest"
isolation = "{isolation}"
settings = {{ path = "{path}" }}
"""


class SeenLine(NamedTuple):
    """A line of a subscriber."""

    task: str
    sequence: int
    key: str
    place: str
    replay: bool
    pid: int


class KilledDelivery:
    """A broker, a delivery process that is killed, and a log that grows. `written`: the bytes of each event."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.installation = Installation(folder, partitions=PARTITIONS)
        self.bootstrap = self.installation.bootstrap
        self.written: dict[tuple[str, int], bytes] = {}
        self.kills: collections.Counter[str] = collections.Counter()
        self._random = random.Random(seed)
        self._over = asyncio.Event()

    @asynccontextmanager
    async def started(self) -> AsyncIterator["KilledDelivery"]:
        """Broker and delivery are ready, and events are written, until `finish`."""
        plugins = {"witness": "Witnesses", "rejects": "Rejects", "pages": "Pages", "beside": "Witnesses"}
        tables = [
            TABLE.format(
                here=HERE, plugin=plugins[id], id=id, isolation="process" if id in FORKED else "thread", path=self.folder / id
            )
            for id in ALL
        ]
        (self.folder / "hub.toml").write_text("".join(tables))
        try:
            await self.installation.broker(engine=False)
            arguments = ["delivery", "--bootstrap", self.bootstrap]
            self.delivery = HubProcess("delivery", arguments, self.folder, {"HUB_CONFIG": str(self.folder / "hub.toml")})
            self.installation.processes["delivery"] = self.delivery
            await self.delivery.start()
            async with asyncio.TaskGroup() as group:
                self._producing = group.create_task(self._produce())
                try:
                    yield self
                finally:
                    self._over.set()
        finally:
            await self.installation._end()

    async def _produce(self) -> None:
        for sequence in range(1, 1_000_000):
            records = [progress(f"t{task}", sequence) for task in range(TASKS)]
            await write(self.bootstrap, "hub.events", records, partition_of=lambda key: int(key[1:]) % PARTITIONS)
            self.written |= {(f"t{task}", sequence): value or b"" for task, (_, value, _) in enumerate(records)}
            try:
                await asyncio.wait_for(self._over.wait(), PAUSE_SECONDS)
                return
            except TimeoutError:
                continue

    # Kills

    async def kill(self, number: int) -> str:
        """Kill one process: with an even number when all subscribers receive events, with an odd one at any time. Returns what
        was killed."""
        if number % 2 == 0:
            before = {id: self._size(id) for id in ALL}
            await until(lambda: all(self._size(id) > before[id] for id in ALL), "events for every subscriber")
        await asyncio.sleep(self._random.uniform(0.0, 0.5))
        target = ("delivery", "fork server", *FORKED)[number % 5]
        await {"delivery": self._kill_delivery, "fork server": self._kill_fork_server}.get(target, self._kill_subscriber)()
        self.kills[target if target not in FORKED else "subscriber"] += 1
        return target

    async def _kill_delivery(self) -> None:
        await self.delivery.restart()

    async def _kill_fork_server(self) -> None:
        (await self._fork_server()).kill()
        assert self.delivery.process is not None
        async with asyncio.timeout(60):
            assert await self.delivery.process.wait() == 1, "delivery fails as a whole"
        await self.delivery.start()

    async def _kill_subscriber(self) -> None:
        server = await self._fork_server()
        await until(server.children, "a process of a subscriber")
        self._random.choice(server.children()).kill()

    async def _fork_server(self) -> psutil.Process:
        process = psutil.Process(self.delivery.pid)
        await until(process.children, "the fork server")
        return process.children()[0]

    # What the subscribers received

    def lines(self, id: str) -> list[SeenLine]:
        """The complete lines of a subscriber."""
        path = self.folder / id
        text = path.read_text() if path.exists() else ""
        return [SeenLine(*json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines() if line.endswith("]")]

    def _size(self, id: str) -> int:
        path = self.folder / id
        return path.stat().st_size if path.exists() else 0

    def expected(self, id: str) -> set[tuple[str, int]]:
        """The events that a subscriber accepts."""
        return {one for one in self.written if id != "rejects" or one[1] % REJECTED_EVERY}

    async def finish(self) -> None:
        """Write no more, and wait until every subscriber has received every event."""
        self._over.set()
        await self._producing
        async with asyncio.timeout(FINISH_SECONDS):
            while any(self.missing(id) for id in ALL):
                await asyncio.sleep(0.2)

    def missing(self, id: str) -> int:
        """The number of events that a subscriber has not received."""
        return len(self.expected(id) - {(line.task, line.sequence) for line in self.lines(id)})

    def check(self, id: str) -> None:
        """Order per task, and the same id at the same place at each delivery."""
        seen: dict[str, list[int]] = collections.defaultdict(list)
        names: dict[tuple[str, int], set[tuple[str, str]]] = collections.defaultdict(set)
        for line in self.lines(id):
            seen[line.task].append(line.sequence)
            names[line.task, line.sequence].add((line.key, line.place))
            assert not line.replay
        accepted: dict[str, list[int]] = collections.defaultdict(list)
        for task, sequence in sorted(self.expected(id)):
            accepted[task].append(sequence)
        for task, sequences in seen.items():
            following = dict(zip(accepted[task], accepted[task][1:], strict=False))
            assert sequences[0] == accepted[task][0]
            for before, after in zip(sequences, sequences[1:], strict=False):
                assert after <= before or after == following[before], f"{id}, {task}: {before} is followed by {after}"
        assert all(len(one) == 1 for one in names.values()), f"{id}: an event has several ids"

    # Dead letters, replays

    async def dead_letters(self) -> dict[tuple[str, int], list[bytes]]:
        """The values of the dead letters of `rejects`, by event."""
        cluster, topic = Cluster.of(self.bootstrap), "hub.dlq.rejects"
        found: dict[tuple[str, int], list[bytes]] = collections.defaultdict(list)
        for partition, offsets in (await describe_offsets(cluster, topic)).items():
            async for record in read_range(cluster, topic, partition, offsets):
                headers = dict(record.headers)
                found[(record.key or b"").decode(), int(headers["ce_sequence"] or b"0")].append(record.value or b"")
        return found

    async def _steady(self) -> dict[str, object]:
        """The committed offsets when everything is committed."""
        found = await self.committed()
        while True:
            await asyncio.sleep(STEADY_SECONDS)
            before, found = found, await self.committed()
            if before == found:
                return found

    async def committed(self) -> dict[str, object]:
        """The committed offsets of every subscriber."""
        cluster = Cluster.of(self.bootstrap)
        return {id: await read_committed(cluster, f"hub.sub.{id}", "hub.events") for id in ALL}

    async def hub(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command with the settings of this hub."""
        command = [sys.executable, "-m", "hub", *arguments, "--bootstrap", self.bootstrap]
        environment = {"HUB_CONFIG": str(self.folder / "hub.toml"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        return await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    async def check_dead_letters(self) -> None:
        """Every rejected event is there with its bytes, and no other."""
        rejected = {one for one in self.written if one[1] % REJECTED_EVERY == 0}
        async with asyncio.timeout(FINISH_SECONDS):
            while len(letters := await self.dead_letters()) < len(rejected):
                await asyncio.sleep(0.2)
        assert letters.keys() == rejected
        for event, values in letters.items():
            assert set(values) == {self.written[event]}

    async def check_replays(self) -> None:
        """A replay delivers each event once and says so; live offsets stay; a pager is not called for the past."""
        before = await self._steady()
        live, paged = len(self.lines("witness")), len(self.lines("pages"))
        done = await self.hub("subscribers", "replay", "witness", "--json")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert (summary["matching"], summary["delivered"], summary["failed"]) == (len(self.written), len(self.written), 0)
        again = self.lines("witness")[live:]
        assert {line.replay for line in again} == {True}
        assert sorted((line.task, line.sequence) for line in again) == sorted(self.written)
        refused = await self.hub("subscribers", "replay", "pages", "--json")
        assert refused.returncode == 2
        assert 'replay = "skip"' in refused.stderr
        assert len(self.lines("pages")) == paged
        assert await self.committed() == before


async def kill_often(folder: Path, kills: int, seed: int) -> KilledDelivery:
    """Kill so often, and check everything."""
    killed = KilledDelivery(folder, seed)
    async with killed.started():
        for number in range(kills):
            await killed.kill(number)
        await killed.finish()
        for id in ALL:
            killed.check(id)
        await killed.check_dead_letters()
        await killed.check_replays()
    return killed


async def main(kills: int, seed: int) -> None:
    """Kill so often, and print what happened."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        killed = await kill_often(Path(folder), kills, seed)
        took = time.monotonic() - began
        print(f"{kills} kills in {took:.0f} s: {dict(killed.kills)}; {len(killed.written):,} events")
        for id in ALL:
            lines = [line for line in killed.lines(id) if not line.replay]
            distinct = len({(line.task, line.sequence) for line in lines})
            print(f"{id}: {distinct:,} different events in {len(lines):,} deliveries")


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:]]
    asyncio.run(main(*numbers, *(100, 1)[len(numbers) :]))
