"""Brokers for tests: real sockets, a free port, in memory or in a temporary directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.broker import BrokerServer, BrokerSettings

from .client import LateClock


@pytest.fixture
async def broker() -> AsyncIterator[BrokerServer]:
    """A broker in memory."""
    server = BrokerServer(None)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def disk_broker(tmp_path: Path) -> AsyncIterator[BrokerServer]:
    """A broker on disk."""
    server = BrokerServer(tmp_path / "data")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def clock() -> LateClock:
    """The clock of `short_epoch_broker`."""
    return LateClock()


@pytest.fixture
async def short_epoch_broker(clock: LateClock) -> AsyncIterator[BrokerServer]:
    """A broker whose producers' epochs run out after a few transactions."""
    server = BrokerServer(None, clock=clock, settings=BrokerSettings(producer_epoch_max=4))
    await server.start()
    yield server
    await server.stop()
