"""A client that is connected while its broker restarts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub.broker import BrokerServer
from hub.client import Hub
from hub.kafka import INTAKE, BrokerUnreachable, Cluster, ensure_topics, read_all
from tests.components.running import until


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[BrokerServer]:
    server = BrokerServer(tmp_path)
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=1)
    yield server
    await server.stop()


async def test_the_first_submission_waits_until_the_broker_is_back(broker: BrokerServer, tmp_path: Path) -> None:
    async with Hub(broker.bootstrap) as hub:
        await broker.stop()
        with capture_logs() as logs:
            submitting = asyncio.create_task(hub.submit("add", id="t-1"))
            await until(lambda: any(line.get("action") == "replies_interrupted" for line in logs))
        restarted = BrokerServer(tmp_path, port=broker.port)
        await restarted.start()
        assert (await submitting).id == "t-1"
        assert [record.key async for record in read_all(Cluster.of(restarted.bootstrap), INTAKE, 0)] == [b"t-1"]
    await restarted.stop()


async def test_a_question_fails_after_its_timeout_if_the_broker_stays_away(broker: BrokerServer) -> None:
    async with Hub(broker.bootstrap) as hub:
        await broker.stop()
        with pytest.raises(BrokerUnreachable, match=broker.bootstrap):
            await hub.get("t-1", timeout_seconds=0.1)
