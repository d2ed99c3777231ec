"""The disk of the embedded broker is full up to its reserve: which requests are rejected or served, and how the hub recovers."""

import asyncio
import os
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from hub import TaskRegistry
from hub.broker import BrokerError, BrokerServer, BrokerSettings
from hub.broker.files import FileStorage
from hub.client import Hub
from hub.engine.embedded import EmbeddedEngine
from hub.kafka import Cluster, Record, build_batch, ensure_topics, make_admin
from hub.verify import verify
from hub.worker import Worker, WorkerSettings

from .running import until

DISK_BYTES = 24 << 20
Usage = namedtuple("Usage", ("total", "used", "free"))


class SmallDisk:
    """A disk of DISK_BYTES: what is free depends on the files of the data directory alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def usage(self, _: object) -> Usage:
        sizes = [self._size(Path(folder, name)) for folder, _, names in os.walk(self._directory) for name in names]
        return Usage(DISK_BYTES, sum(sizes), max(0, DISK_BYTES - sum(sizes)))

    @staticmethod
    def _size(path: Path) -> int:
        try:
            return path.stat().st_size
        except FileNotFoundError:  # removed meanwhile, by retention
            return 0


class Gate:
    """A task that waits until it may end."""

    def __init__(self) -> None:
        self.started, self.release, self.tasks = asyncio.Event(), asyncio.Event(), TaskRegistry()
        self.tasks.task("works")(self.works)
        self.tasks.task("waits")(self.waits)

    async def works(self) -> int:
        return 1

    async def waits(self) -> str:
        self.started.set()
        await self.release.wait()
        return "done"


@pytest.fixture
async def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BrokerServer]:
    """A broker on a small disk."""
    monkeypatch.setattr(shutil, "disk_usage", SmallDisk(tmp_path).usage)
    monkeypatch.setattr("hub.broker.flushing.MAINTENANCE_SECONDS", 0.05)
    storage = FileStorage(tmp_path, flush="os", journal_file_bytes=1 << 20, checkpoint_bytes=1 << 20, reserve_bytes=8 << 20)
    server = BrokerServer(tmp_path, storage=storage, settings=BrokerSettings(retention_check_seconds=0.2))
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=1)
    yield server
    await server.stop()


async def fill(server: BrokerServer) -> None:
    """Write to a topic that keeps everything, until the broker refuses it."""
    await server.local.create_topic("filler", 1, {"segment.bytes": str(1 << 20)})
    batch = build_batch([Record(None, bytes(500_000), [], 1)])

    async def write_on() -> None:
        while True:
            await server.local.append("filler", 0, batch)
            await asyncio.sleep(0.001)

    with pytest.raises(BrokerError, match="disk is full"):
        await write_on()


async def shorten_retention(bootstrap: str) -> None:
    """What an operator does."""
    admin = make_admin(Cluster.of(bootstrap))
    await admin.start()
    configs = {"segment.bytes": str(1 << 20), "retention.bytes": str(1 << 20)}
    [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "filler", configs=configs)])
    await admin.close()
    assert answer.resources[0][0] == 0, answer


async def test_a_hub_on_a_full_disk_recovers_by_itself_when_retention_makes_room(
    broker: BrokerServer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    engine = EmbeddedEngine(broker.local)
    await engine.start()
    worker = Worker(broker.bootstrap, gate.tasks, WorkerSettings(slots=8, grace_seconds=1))
    await worker.start()
    storage = broker.broker.storage
    async with Hub(broker.bootstrap) as hub:
        running = await hub.submit("waits")
        await asyncio.wait_for(gate.started.wait(), 60)
        await fill(broker)
        gate.release.set()  # its outcome cannot be written now
        refused = asyncio.create_task(hub.run("works", timeout_seconds=60))
        assert not storage.writable
        await shorten_retention(broker.bootstrap)
        await until(lambda: storage.writable)
        assert await running.result(timeout_seconds=60) == "done"
        assert await refused == 1  # sent again until it was taken
        assert await hub.run("works", timeout_seconds=60) == 1
    await worker.stop()
    await engine.stop()
    report = await verify(Cluster.of(broker.bootstrap))
    assert report.ok, report.render()
    actions = [record.__dict__.get("action") for record in caplog.records]
    assert actions.count("disk_full") == actions.count("disk_has_room") == 1
