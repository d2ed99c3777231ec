"""Disk space: processed records of the intake are deleted, and with a full disk new tasks are rejected while running ones
continue."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hub import TaskRegistry
from hub.client import Hub, TaskRejectedError
from hub.core.rows import META_KEY, meta_row_decoder
from hub.engine import EngineSettings, LoopSettings, PartitionLoop
from hub.engine.over_tcp import TcpBroker
from hub.engine.ports import DiskSpace
from hub.kafka import EVENTS, INTAKE, STATE, Cluster, PartitionReader, ensure_topics, read_all
from hub.verify import verify
from hub.worker import Worker, WorkerSettings
from schemas import Event, decode_event

from .running import until

#: What a machine that stalls may take; nothing is measured here.
PATIENCE_SECONDS = 60.0


class Gate:
    """A task `waits` that tells when it runs and ends when it may; `works` ends at once."""

    def __init__(self) -> None:
        self.started, self.release, self.tasks = asyncio.Event(), asyncio.Event(), TaskRegistry()
        self.tasks.task("works")(self.works)
        self.tasks.task("waits")(self.waits)

    async def works(self, number: int) -> int:
        return number

    async def waits(self) -> str:
        self.started.set()
        await self.release.wait()
        return "done"


class FillingDisk(TcpBroker):
    """A broker whose disk has the space that the test says; None: it does not report it."""

    space: DiskSpace | None = DiskSpace(50_000, 100_000)

    async def disk_space(self) -> DiskSpace | None:
        return self.space


class Engine:
    """One partition's loop, with the settings of the test."""

    def __init__(self, broker: TcpBroker, *, retention_seconds: float = 1.0) -> None:
        self.broker = broker
        self.retention_seconds = retention_seconds
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.Event()
        self.loop = PartitionLoop(
            self.broker,
            0,
            1,
            settings=EngineSettings(storage_warn_bytes=20_000, storage_low_bytes=10_000),
            loop_settings=LoopSettings(intake_retention_seconds=self.retention_seconds),
            on_ready=lambda partition: ready.set(),
        )
        self.task = asyncio.get_running_loop().create_task(self.loop.run())
        await until(lambda: ready.is_set() or self.task is not None and self.task.done())

    async def stop(self) -> None:
        self.loop.stop()
        assert self.task is not None
        await self.task

    async def __aenter__(self) -> "Engine":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@pytest.fixture
async def gate(empty_bootstrap: str) -> AsyncIterator[Gate]:
    """The tasks of a worker that runs."""
    gate = Gate()
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    worker = Worker(empty_bootstrap, gate.tasks, WorkerSettings(slots=8, grace_seconds=1))
    await worker.start()
    yield gate
    await worker.stop()


async def first_offset(bootstrap: str) -> int:
    async with PartitionReader(Cluster.of(bootstrap)) as reader:
        await reader.open(INTAKE, 0, 0)
        return await reader.start_offset()


async def decided(bootstrap: str) -> int:
    """The next offset of the intake to decide, by the last `!meta`."""
    rows = [record.value async for record in read_all(Cluster.of(bootstrap), STATE, 0) if record.key == META_KEY]
    return meta_row_decoder.decode(rows[-1] or b"").offset


async def events(bootstrap: str) -> list[Event]:
    return [decode_event(record.value, record.headers) async for record in read_all(Cluster.of(bootstrap), EVENTS, 0)]


async def test_the_intake_is_deleted_behind_what_was_decided_also_by_the_next_owner(empty_bootstrap: str, gate: Gate) -> None:
    async def trimmed_to(offset: int) -> None:
        async def reached() -> bool:
            return await first_offset(empty_bootstrap) > offset

        await until(reached, seconds=PATIENCE_SECONDS)

    async with Hub(empty_bootstrap) as hub:
        async with Engine(TcpBroker(Cluster.of(empty_bootstrap))):
            numbers = [await hub.run("works", {"number": number}) for number in range(20)]
            assert numbers == list(range(20))
            await trimmed_to(20)
            assert await first_offset(empty_bootstrap) <= await decided(empty_bootstrap)
        async with Engine(TcpBroker(Cluster.of(empty_bootstrap))):
            before = await first_offset(empty_bootstrap)
            assert await hub.run("works", {"number": 99}) == 99
            await trimmed_to(before)
    report = await verify(Cluster.of(empty_bootstrap))
    assert report.ok, report.render()


async def level(bootstrap: str, expected: str) -> Event:
    """The event by which the engine changed to this level; waits for it."""
    found: list[Event] = []

    async def reached() -> bool:
        found[:] = [event for event in await events(bootstrap) if event.type == "engine.storage_changed"]
        return bool(found) and found[-1].data.level == expected

    await until(reached, seconds=PATIENCE_SECONDS)
    return found[-1]


async def test_a_broker_that_reports_its_disk_no_more_is_not_taken_for_a_full_one(
    empty_bootstrap: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.housekeeping.STORAGE_SECONDS", 0.05)
    monkeypatch.setattr("hub.engine.housekeeping.ANSWER_HOLDS_SECONDS", 0.2)
    broker = FillingDisk(Cluster.of(empty_bootstrap))
    broker.space = DiskSpace(9_000, 100_000)
    async with Hub(empty_bootstrap) as hub:
        async with Engine(broker):
            await level(empty_bootstrap, "low")
            broker.space = None
            unknown = await level(empty_bootstrap, "ok")
            assert (unknown.data.usable_bytes, unknown.data.total_bytes) == (-1, -1)
            assert await hub.run("works", {"number": 1}) == 1
            broker.space = DiskSpace(9_000, 100_000)
            await level(empty_bootstrap, "low")
        broker.space = None
        async with Engine(broker):  # An owner that never had an answer leaves the level of its predecessor, too.
            await level(empty_bootstrap, "ok")
            assert await hub.run("works", {"number": 2}) == 2
    report = await verify(Cluster.of(empty_bootstrap))
    assert report.ok, report.render()


async def test_a_full_disk_refuses_new_tasks_while_running_ones_end_and_recovers(
    empty_bootstrap: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.housekeeping.STORAGE_SECONDS", 0.05)
    broker = FillingDisk(Cluster.of(empty_bootstrap))

    async with Engine(broker), Hub(empty_bootstrap) as hub:
        running = await hub.submit("waits")
        await asyncio.wait_for(gate.started.wait(), PATIENCE_SECONDS)
        broker.space = DiskSpace(15_000, 100_000)
        await level(empty_bootstrap, "warning")
        assert await hub.run("works", {"number": 1}) == 1
        broker.space = DiskSpace(9_000, 100_000)
        await level(empty_bootstrap, "low")
        with pytest.raises(TaskRejectedError, match="disk is almost full"):
            await hub.run("works", {"number": 2})
        [rejected] = [event.data for event in await events(empty_bootstrap) if event.type == "task.rejected"]
        assert rejected.code == "storage_low"
        gate.release.set()
        assert await running.result(timeout_seconds=PATIENCE_SECONDS) == "done"
        broker.space = DiskSpace(50_000, 100_000)
        await level(empty_bootstrap, "ok")
        assert await hub.run("works", {"number": 3}) == 3
    report = await verify(Cluster.of(empty_bootstrap))
    assert report.ok, report.render()
