"""Missing heartbeats count only up to the time watermark, over TCP and in the broker's process."""

import asyncio
import time
from typing import Any, cast

import pytest
from msgspec import json

from hub.broker import BrokerServer
from hub.engine import PartitionLoop
from hub.engine.in_process import InProcessBroker
from hub.engine.over_tcp import TcpBroker, TcpIntake
from hub.engine.ports import EngineBroker
from hub.kafka import EVENTS, INTAKE, Cluster, PartitionReader, Seen, StoredRecord, ensure_topics, make_producer, read_all
from hub.kafka.clients import make_transactional_producer
from schemas import decode_event
from tests.brokers import unique
from tests.engine.test_loop import broker

__all__ = ["broker"]  # the fixture

LEASE_SECONDS = 10.0
STEP_US = 2_500_000


class Scene:
    """A loop whose clock is moved on by hand, and a worker that speaks when it is told to."""

    def __init__(self, bootstrap: str, ports: EngineBroker) -> None:
        self.bootstrap = bootstrap
        self.loop = PartitionLoop(ports, 0, 1)
        self._clock, self._later_us, self._asked = self.loop.clock.source, 0, 0
        self.loop.clock.source = self._now_us
        self._producer = make_producer(Cluster.of(bootstrap))
        self._task = asyncio.get_running_loop().create_task(self.loop.run())

    def _now_us(self) -> int:
        self._asked += 1
        return self._clock() + self._later_us

    async def __aenter__(self) -> "Scene":
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        self.loop.stop()
        async with asyncio.timeout(60):
            await self._task

    async def say(self, kind: str, **value: Any) -> None:
        headers = [("ce_type", kind.encode()), ("ce_source", b"/s"), ("ce_id", unique("e").encode())]
        await self._producer.send_and_wait(INTAKE, json.encode(value), partition=0, headers=headers)

    async def beat(self, kind: str = "worker.heartbeat") -> None:
        about = {
            "incarnation": "w1",
            "pool": "default",
            "inbox": 1,
            "queues": ["default"],
            "definitions": [{"name": "t"}],
            "slots": 9,
        }
        await self.say(kind, **about, credit=9, lease_seconds=LEASE_SECONDS)

    async def step(self) -> None:
        """A while later the loop has looked around a few times."""
        self._later_us += STEP_US
        await self.looks(3)

    async def looks(self, count: int) -> None:
        """Until the loop has looked at the clock so many times."""
        wanted = self._asked + count
        async with asyncio.timeout(60):
            while self._asked < wanted:
                await asyncio.sleep(0.005)

    async def types(self) -> list[str]:
        return [
            decode_event(record.value, record.headers).type async for record in read_all(Cluster.of(self.bootstrap), EVENTS, 0)
        ]

    async def until(self, kind: str, *, steps: bool = False) -> None:
        async with asyncio.timeout(60):
            while kind not in await self.types():
                await (self.step() if steps else asyncio.sleep(0.01))


async def hide_heartbeats(scene: Scene, ending: str) -> None:
    """For two leases a transaction of somebody else is open; its end is the last thing on the intake."""
    await scene.beat("worker.registered")
    await scene.say("task.created", name="t", id="t-1")
    await scene.until("task.dispatched")
    outbox = make_transactional_producer(Cluster.of(scene.bootstrap), unique("outbox"), transaction_timeout_ms=60_000)
    await outbox.start()
    await outbox.begin_transaction()
    await outbox.send_and_wait(INTAKE, b"{}", partition=0, headers=[("ce_type", b"task.created")])
    for _ in range(8):
        await scene.beat()
        await scene.step()
    assert "worker.lost" not in await scene.types()
    began = asyncio.get_running_loop().time()
    await scene.looks(20)
    assert asyncio.get_running_loop().time() - began > 0.2, "what is due waits, and the loop does not spin meanwhile"
    await (outbox.commit_transaction() if ending == "commit" else outbox.abort_transaction())
    await outbox.stop()
    await scene.step()
    assert "worker.lost" not in await scene.types()
    await scene.until("worker.lost", steps=True)
    rejected = (await scene.types()).count("task.rejected")
    assert rejected == (1 if ending == "commit" else 0), "what the transaction held is judged if it counts"


@pytest.mark.parametrize("ending", ["commit", "abort"])
async def test_over_tcp_hidden_heartbeats_count_and_real_silence_is_noticed_behind_a_marker(
    empty_bootstrap: str, ending: str
) -> None:
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=1)
    async with Scene(empty_bootstrap, TcpBroker(Cluster.of(empty_bootstrap))) as scene:
        await hide_heartbeats(scene, ending)


@pytest.mark.parametrize("ending", ["commit", "abort"])
async def test_in_the_brokers_process_hidden_heartbeats_count_and_real_silence_is_noticed_behind_a_marker(
    broker: BrokerServer, ending: str
) -> None:
    async with Scene(broker.bootstrap, InProcessBroker(broker.local)) as scene:
        await hide_heartbeats(scene, ending)


class Told:
    """A reader that has read all it was told of."""

    seen: Seen | None = None
    position = 5

    async def read(self, max_records: int, timeout_ms: int) -> list[StoredRecord]:
        await asyncio.sleep(0)
        return []


async def test_a_broker_that_does_not_answer_makes_nobody_silent() -> None:
    told = Told()
    intake = TcpIntake(cast(PartitionReader, told), 0)
    await intake.read(1, 0)
    assert intake.position < intake.end, "before the first answer nothing is known"
    asked_at = asyncio.get_running_loop().time() - 3
    told.seen = Seen(5, 5, 0, 0, time.monotonic() - 3)
    await intake.read(1, 0)
    assert intake.position == intake.end
    known_at = intake.end_at
    assert known_at == pytest.approx(asked_at, abs=1), "a response says what was when it was asked for, however late it is"
    await intake.read(1, 0)
    assert intake.end_at == known_at, "no answer has come since"
    told.seen = Seen(5, 5, 0, 0, time.monotonic() - 1)
    await intake.read(1, 0)
    assert known_at < intake.end_at < asyncio.get_running_loop().time()
