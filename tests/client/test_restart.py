"""A client that is connected while its broker restarts, or whose connection hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub.broker import BrokerServer
from hub.client import Hub
from hub.engine.embedded import EmbeddedEngine
from hub.kafka import (
    INTAKE,
    BrokerUnreachable,
    Cluster,
    ConnectionLost,
    KafkaTransport,
    PartitionReader,
    StoredRecord,
    ensure_topics,
    following,
    read_all,
)
from schemas import Event
from tests.components.running import running, until
from tests.worker.test_commands import tasks


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[BrokerServer]:
    server = BrokerServer(tmp_path)
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=1)
    yield server
    await server.stop()


async def restarted(broker: BrokerServer, folder: Path) -> BrokerServer:
    """The same broker in a new process's place: on its data and port."""
    server = BrokerServer(folder, port=broker.port)
    await server.start()
    return server


async def test_the_first_submission_waits_until_the_broker_is_back(broker: BrokerServer, tmp_path: Path) -> None:
    async with Hub(broker.bootstrap) as hub:
        await broker.stop()
        with capture_logs() as logs:
            submitting = asyncio.create_task(hub.submit("add", id="t-1"))
            await until(lambda: any(line.get("action") == "replies_interrupted" for line in logs))
        again = await restarted(broker, tmp_path)
        assert (await submitting).id == "t-1"
        assert [record.key async for record in read_all(Cluster.of(again.bootstrap), INTAKE, 0)] == [b"t-1"]
    await again.stop()


async def test_a_question_fails_after_its_timeout_if_the_broker_stays_away(broker: BrokerServer) -> None:
    async with Hub(broker.bootstrap) as hub:
        await broker.stop()
        with pytest.raises(BrokerUnreachable, match=broker.bootstrap):
            await hub.get("t-1", timeout_seconds=0.1)


class HangsOnce(KafkaTransport):
    """A cluster whose first reader receives nothing although there are records."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.readers = 0

    def reader(self, *, client_id: str) -> PartitionReader:
        self.readers += 1
        return super().reader(client_id=client_id) if self.readers > 1 else Hanging(self._cluster)


class Hanging(PartitionReader):
    """Receives nothing, and notices it when it is checked."""

    async def read(self, max_records: int = 500, timeout_ms: int = 1_000) -> list[StoredRecord]:
        await asyncio.sleep(timeout_ms / 1000)
        return []

    async def ensure_moving(self) -> None:
        if self.position < await self.end_offset():
            raise ConnectionLost("nothing was received")


async def test_a_reader_of_replies_that_hangs_is_replaced(embedded_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHECK_SECONDS", 0.2)
    transport = HangsOnce(Cluster.of(embedded_bootstrap))
    async with running(embedded_bootstrap, tasks), Hub(transport=transport) as hub:
        handle = await hub.submit("quick")
        assert await handle.result(timeout_seconds=60) == "done"
        assert transport.readers > 1


async def test_a_watch_fails_if_the_broker_stays_away(broker: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.client.hub.SEND_SECONDS", 0.1)
    monkeypatch.setattr("hub.kafka.reader.OPEN_SECONDS", 2.0)
    monkeypatch.setattr(following, "CHECK_SECONDS", 0.5)
    engine = EmbeddedEngine(broker.local)
    await engine.start()
    async with Hub(broker.bootstrap) as hub:
        task = await hub.submit("nobody's", id="t-1")
        async with aclosing(hub.watch(task.id)) as events:
            assert (await anext(events)).type == "task.created"
            await engine.stop()
            await broker.stop()
            with pytest.raises(BrokerUnreachable, match=broker.bootstrap):
                await asyncio.wait_for(all_of(events), 60)


async def all_of(events: AsyncIterator[Event]) -> list[Event]:
    """All events up to the last."""
    return [event async for event in events]
