"""A broker in memory with the hub's topics."""

from collections.abc import AsyncIterator

import pytest

from hub.broker import BrokerServer

PARTITIONS = 2


@pytest.fixture
async def broker() -> AsyncIterator[BrokerServer]:
    server = BrokerServer(None)
    await server.start()
    keep = {"retention.ms": "-1"}  # histories of tests are dated years back
    for topic in ("hub.intake", "hub.events", "hub.state", "hub.commands.default"):
        await server.local.create_topic(topic, 16 if topic.startswith("hub.commands") else PARTITIONS, keep)
    await server.local.create_topic("hub.replies", 8, keep)
    yield server
    await server.stop()
