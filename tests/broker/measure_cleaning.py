"""Measures how long the broker's event loop is blocked while a topic is compacted under load. Not a test.

    python -m tests.broker.measure_cleaning 500 /tmp/somewhere     # megabytes, and an empty folder for the data

Prints the pauses of the event loop without and during a cleaning, and the longest time that the cleaning thread computed
without a pause. On a busy machine only the latter is meaningful."""

import asyncio
import os
import random
import resource
import sys
import time
from pathlib import Path

from hub.broker import BrokerServer, BrokerSettings
from hub.broker.cleaning import Pace
from hub.broker.log import PartitionLog

from .test_compaction import keyed

QUIET_SECONDS = 20
KEYS = 400_000


class MeasuredPace(Pace):
    """Keeps the longest slice of computing."""

    longest_seconds = 0.0

    def __call__(self) -> None:
        self.longest_seconds = max(self.longest_seconds, time.thread_time() - self._computed_at)
        super().__call__()


class Watch:
    """Pauses of the loop, and times of appends, while it is entered."""

    async def __aenter__(self) -> "Watch":
        self.pauses: list[float] = []
        self.appends: list[float] = []
        self._tasks = [asyncio.create_task(self._loop()), asyncio.create_task(self._traffic())]
        return self

    def __init__(self, server: BrokerServer) -> None:
        self._server = server

    async def _loop(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.pauses.append(time.perf_counter() - before - 0.001)

    async def _traffic(self) -> None:
        raw = keyed([(b"k", b"v" * 100)] * 5)
        while True:
            before = time.perf_counter()
            await self._server.local.append("traffic", 0, raw)
            self.appends.append(time.perf_counter() - before)
            await asyncio.sleep(0.002)

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def __str__(self) -> str:
        return f"loop pauses {_milliseconds(self.pauses)}; appends {_milliseconds(self.appends)}"


def _milliseconds(values: list[float]) -> str:
    ordered = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 for name, share in shares.items()}
    return ", ".join(f"{name} {value:.1f} ms" for name, value in found.items())


async def fill(server: BrokerServer, log: PartitionLog, size: int) -> None:
    """Records of about 250 bytes with random keys, one in five a tombstone."""
    dice, value = random.Random(1), os.urandom(200)
    while log.file_bytes + log.memory_bytes < size:
        keys = [b"task:%032d" % dice.randrange(KEYS) for _ in range(400)]
        raw = keyed([(key, value if dice.random() > 0.2 else None) for key in keys])
        for _ in range(4):
            await server.local.append("t", 0, raw)


async def measure(size: int, directory: Path) -> None:
    """Fill a topic, watch a quiet time, compact, watch."""
    server = BrokerServer(directory, settings=BrokerSettings(retention_check_seconds=1.0))
    await server.start()
    for topic in ("t", "traffic"):
        await server.local.create_topic(topic, 1, {"retention.ms": "-1"})
    log = server.broker.state.topics["t"].logs[0]
    await fill(server, log, size)
    async with Watch(server) as quiet:
        await asyncio.sleep(QUIET_SECONDS)
    print(f"quiet, {QUIET_SECONDS} s: {quiet}")
    assert server._housekeeper is not None
    pace = server._housekeeper._compactor._pace = MeasuredPace(server.broker.state.settings.cleaner_share)
    before, started, computed = log.file_bytes, time.perf_counter(), time.process_time()
    server.broker.state.record("configs", log.key.topic_number, {"cleanup.policy": "compact"})
    store = server.broker.storage.segments
    assert store is not None
    async with Watch(server) as busy:
        while (spans := store.cleaned(log.key)) == [] or spans[-1][0] < store.views(log.key)[-1].base:
            await asyncio.sleep(0.1)
    took, computed = time.perf_counter() - started, time.process_time() - computed
    print(f"compacting {before >> 20} MB to {log.file_bytes >> 20} MB in {took:.0f} s, {computed:.0f} s of CPU: {busy}")
    print(f"longest slice of the cleaning thread: {pace.longest_seconds * 1000:.1f} ms")
    print(f"largest resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
    await server.stop()


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) << 20, Path(sys.argv[2])))
