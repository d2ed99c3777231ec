"""What a broker counts: requests and how long they take, sizes, syncs, connections, free space."""

import asyncio
from pathlib import Path

import pytest

from hub.broker import BrokerFigures, BrokerServer
from hub.kafka import Cluster, Outgoing, PartitionReader, Record, Sender, build_batch
from hub.protocol import ApiKey


class Durations:
    """A distribution that keeps its values."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def record(self, value: float) -> None:
        """Keep one."""
        assert value >= 0
        self.values.append(value)


def durations_of(figures: BrokerFigures, api: ApiKey) -> list[float]:
    distribution = figures.request_seconds[api]
    assert isinstance(distribution, Durations)
    return distribution.values


def append_one(server: BrokerServer) -> None:
    server.local.append_soon("t", 0, build_batch([Record(b"k", b"x" * 100, [], 0)]))
    server.local.request_flush()


async def test_requests_are_counted_and_timed_with_the_time_that_they_wait(tmp_path: Path) -> None:
    server = BrokerServer(tmp_path / "data", figures=BrokerFigures(Durations))
    await server.start()
    await server.local.create_topic("t", 1)
    before = server.amounts()
    cluster = Cluster.of(server.bootstrap)
    sender = Sender(cluster)
    await sender.start()
    await sender.send_many([Outgoing("t", 0, b"k", b"x" * 100, [])] * 3, timeout_seconds=60)
    assert server.amounts().connections > 0
    await sender.stop()
    async with PartitionReader(cluster) as reader:
        await reader.open("t", 0, 0)
        assert len(await reader.read(10, 5000)) == 3
        asyncio.get_running_loop().call_later(0.2, append_one, server)
        assert len(await reader.read(10, 5000)) == 1, "it waits until there is one more"
    figures, amounts = server.figures, server.amounts()
    await server.stop()
    assert figures.requests[ApiKey.PRODUCE] == len(durations_of(figures, ApiKey.PRODUCE)) >= 1
    assert max(durations_of(figures, ApiKey.FETCH)) > 0.1
    assert figures.requests[ApiKey.FETCH] >= len(durations_of(figures, ApiKey.FETCH))
    assert amounts.appended_records - before.appended_records == 4
    assert amounts.appended_bytes - before.appended_bytes > 300
    assert figures.fetched_bytes == amounts.log_bytes == amounts.appended_bytes
    assert amounts.usable_bytes is not None
    assert isinstance(figures.sync_seconds, Durations)
    assert len(figures.sync_seconds.values) > 1


@pytest.mark.parametrize(("flush", "syncs"), [("os", False), ("interval:1", True)])
async def test_writes_without_a_sync_are_not_counted_as_syncs(tmp_path: Path, flush: str, syncs: bool) -> None:
    server = BrokerServer(tmp_path / "data", flush=flush, figures=BrokerFigures(Durations))
    await server.start()
    await server.local.create_topic("t", 1)
    distribution = server.figures.sync_seconds
    assert isinstance(distribution, Durations)
    async with asyncio.timeout(60):
        while syncs and not distribution.values:
            await asyncio.sleep(0.01)
    assert bool(distribution.values) is syncs
    await server.stop()


async def test_a_broker_in_memory_has_no_disk(broker: BrokerServer) -> None:
    assert broker.amounts().usable_bytes is None
    assert broker.amounts().connections == 0
