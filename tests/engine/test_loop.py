"""The loop of a partition in the broker's process: take-over, missing history, foreign transactions."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from hub.broker import BrokerServer
from hub.engine import EngineSettings, LoopSettings, MissingHistory, PartitionLoop
from hub.engine.in_process import InProcessBroker, InProcessIntake, InProcessSession
from hub.engine.loop import IDLE_SECONDS
from hub.engine.ports import EngineBroker
from hub.kafka import (
    EVENTS,
    INTAKE,
    STATE,
    Cluster,
    Kip890Session,
    Record,
    StoredRecord,
    TopicPartition,
    build_batch,
    ensure_topics,
)
from hub.testing.transport import MemoryTransport
from hub.verify import LocalSource, verify_source
from schemas import Event, decode_event


class CheckedBroker(BrokerServer):
    """A broker in memory. `lost`: the invariants that a test broke by removing what a hub needs."""

    lost: frozenset[str] = frozenset()


@pytest.fixture
async def broker() -> AsyncIterator[CheckedBroker]:
    """A broker with the hub's topics; afterwards the checker finds nothing wrong with what the loops wrote."""
    server = CheckedBroker(None)
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=1)
    yield server
    report = await verify_source(LocalSource(server.local), settle_seconds=0.5)
    await server.stop()
    assert set(report.counts) == server.lost, report.render()


class Owner:
    """A loop that runs, and can be stopped in order or dropped as by a crash."""

    def __init__(
        self,
        broker: BrokerServer,
        *,
        snapshots: Path | None = None,
        snapshot_bytes: int = 1 << 26,
        ports: EngineBroker | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.ready = asyncio.Event()
        self.loop = PartitionLoop(
            ports or InProcessBroker(broker.local),
            0,
            1,
            settings=EngineSettings(retention_seconds=60),
            loop_settings=LoopSettings(snapshot_bytes=snapshot_bytes),
            snapshots=snapshots,
            on_ready=lambda partition: self.ready.set(),
            idle_seconds=idle_seconds,
        )
        self.task = asyncio.get_running_loop().create_task(self.loop.run())

    async def started(self) -> "Owner":
        async with asyncio.timeout(60):
            await asyncio.wait([self.task, asyncio.create_task(self.ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        return self

    async def stop(self) -> None:
        self.loop.stop()
        async with asyncio.timeout(60):
            await self.task

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def submission(name: str, number: int, **fields: Any) -> Record:
    headers = [("ce_type", b"task.created"), ("ce_source", b"/test"), ("ce_id", b"%d" % number)]
    return Record(b"k", json.encode({"name": name, "id": f"{name}-{number}", **fields}), headers, 0)


async def records(broker: BrokerServer, topic: str) -> list[StoredRecord]:
    """What is committed on partition 0 of a topic, by the door inside the process: it is asked again and again."""
    return [record async for record in MemoryTransport(broker.local, lambda: 0).read_all(topic, 0)]


async def events(broker: BrokerServer) -> list[Event]:
    await broker.local.stable()
    return [decode_event(record.value, record.headers) for record in await records(broker, EVENTS)]


async def until(broker: BrokerServer, kind: str, count: int) -> list[Event]:
    async with asyncio.timeout(60):
        while True:
            so_far = await events(broker)
            if [event.type for event in so_far].count(kind) >= count:
                return so_far
            await asyncio.sleep(0.01)


async def submit(broker: BrokerServer, numbers: range, **fields: Any) -> None:
    await broker.local.append(INTAKE, 0, build_batch([submission("t", number, **fields) for number in numbers]))


async def test_an_owner_that_stops_says_so_and_the_next_goes_on_where_it_was(broker: BrokerServer) -> None:
    first = await Owner(broker).started()
    await submit(broker, range(3))
    await until(broker, "task.created", 3)
    await first.stop()
    await submit(broker, range(3, 5))
    second = await Owner(broker).started()
    seen = await until(broker, "task.created", 5)
    await second.crash()
    kinds = [event.type for event in seen]
    assert kinds.count("engine.stopped") == 1
    assert [event.epoch for event in seen if event.type == "engine.started"] == [1, 2]
    restored = [event.data for event in seen if event.type == "engine.restored"][-1]
    assert (restored.live_tasks, restored.snapshot) == (3, False)


async def test_an_idle_loop_with_a_long_poll_takes_new_records_and_stops_at_once(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, long = InProcessIntake.read, 3.5
    waits = asyncio.Queue[float]()

    async def counted(self: InProcessIntake, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        waits.put_nowait(timeout_seconds)
        return await read(self, max_records, timeout_seconds)

    async def idle() -> None:
        async with asyncio.timeout(60):
            while await waits.get() != long or not waits.empty():
                pass

    monkeypatch.setattr(InProcessIntake, "read", counted)
    owner = await Owner(broker, idle_seconds=long).started()
    await idle()
    began = asyncio.get_running_loop().time()
    await submit(broker, range(1))
    await until(broker, "task.created", 1)
    await idle()
    await owner.stop()
    assert asyncio.get_running_loop().time() - began < long
    assert (await events(broker))[-1].type == "engine.stopped"


async def test_an_intake_whose_beginning_is_gone_without_state_is_refused(broker: CheckedBroker) -> None:
    await submit(broker, range(10))
    owner = Owner(broker)
    await owner.started()
    await until(broker, "task.created", 10)
    await owner.crash()
    await broker.local.delete_topic(STATE)
    await broker.local.create_topic(STATE, 1)
    broker.broker.state.log(INTAKE, 0).delete_before(5)  # type: ignore[union-attr]  # what DeleteRecords does
    with pytest.raises(MissingHistory, match=r"hub\.state"):
        await Owner(broker).started()
    broker.lost = frozenset({"I7", "I10", "I31"})


async def test_a_second_owner_fences_the_first(broker: BrokerServer) -> None:
    first = await Owner(broker).started()
    second = await Owner(broker).started()
    await submit(broker, range(3))
    seen = await until(broker, "task.created", 3)
    async with asyncio.timeout(60):
        await first.task
    await second.stop()
    assert first.loop.fenced
    assert [event.type for event in seen].count("task.created") == 3


async def test_an_aborted_transaction_of_a_client_on_the_intake_is_never_decided(broker: BrokerServer) -> None:
    owner = await Owner(broker).started()
    session = InProcessSession(broker.local, "client")
    await session.open()
    await session.commit({TopicPartition(INTAKE, 0): [submission("committed", 1)]})
    abandoned = Kip890Session(Cluster.of(broker.bootstrap), "abandoned")
    await abandoned.open()
    for batches in abandoned._build_rounds({TopicPartition(INTAKE, 0): [submission("aborted", 2)]}):
        await abandoned._produce(batches)
    await abandoned.close()
    successor = Kip890Session(Cluster.of(broker.bootstrap), "abandoned")
    await successor.open()
    await successor.close()
    await submit(broker, range(1))
    seen = await until(broker, "task.created", 2)
    await owner.crash()
    assert [event.subject for event in seen if event.type == "task.created"] == ["committed-1", "t-0"]


def test_an_engine_over_tcp_does_not_load_the_embedded_broker() -> None:
    program = "import sys, hub.engine; sys.exit('hub.broker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
