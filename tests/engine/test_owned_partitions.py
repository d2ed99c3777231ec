"""The loops of the partitions that a process owns: which run, when the others have ended, and what is logged of outages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from hub.broker import BrokerServer
from hub.engine import service
from hub.engine.in_process import InProcessBroker
from hub.engine.service import OwnedPartitions
from hub.kafka import EVENTS, Cluster, TransactionalSession, ensure_topics
from hub.kafka.errors import BrokerUnreachable
from hub.testing.transport import MemoryTransport
from schemas import decode_event
from tests.engine.test_loop import submit

PARTITIONS = 3


class Ports(InProcessBroker):
    """The broker of this process, which is out of reach where the test says so, or does not come to the end of a commit."""

    def __init__(self, server: BrokerServer) -> None:
        super().__init__(server.local)
        self.away: set[int] = set()
        self.refused = asyncio.Event()
        self.hangs: set[int] = set()

    async def session(self, partition: int) -> TransactionalSession:
        if partition in self.away:
            self.refused.set()
            raise BrokerUnreachable("nowhere:1", "refused")
        session = await super().session(partition)
        return Hanging(session, self, partition)


class Hanging:
    """A session whose commits do not end while its partition hangs."""

    def __init__(self, session: Any, ports: Ports, partition: int) -> None:
        self._session, self._ports, self._partition = session, ports, partition

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def commit(self, outputs: Any) -> Any:
        if self._partition in self._ports.hangs:
            await asyncio.Event().wait()
        return await self._session.commit(outputs)


@pytest.fixture
async def server() -> AsyncIterator[BrokerServer]:
    """A broker with the topics of three partitions."""
    server = BrokerServer(None)
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=PARTITIONS)
    yield server
    await server.stop()


@pytest.fixture
def ports(server: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> Ports:
    """What loops have of it; they try again soon."""
    monkeypatch.setattr("hub.engine.loop.RETRY_SECONDS", (0.01, 0.01))
    return Ports(server)


@pytest.fixture
async def owned(ports: Ports) -> AsyncIterator[OwnedPartitions]:
    """No partition yet."""
    owned = OwnedPartitions(ports, PARTITIONS, None, None, None)
    yield owned
    await owned.stop()


def running() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("engine-")}


async def kinds(server: BrokerServer, partition: int) -> list[str]:
    """The types of the events of a partition."""
    await server.local.stable()
    transport = MemoryTransport(server.local, lambda: 0)
    records = [record async for record in transport.read_all(EVENTS, partition)]
    return [decode_event(record.value, record.headers).type for record in records]


async def until_ready(owned: OwnedPartitions, wanted: set[int]) -> None:
    async with asyncio.timeout(60):
        await owned.taken_over(lambda: wanted)


async def test_what_is_no_longer_wanted_has_ended_and_the_rest_goes_on(server: BrokerServer, owned: OwnedPartitions) -> None:
    await owned.own({0, 1})
    await until_ready(owned, {0, 1})
    kept = owned.loops[1]
    await owned.own({1, 2})
    assert running() == {"engine-1", "engine-2"}
    assert (await kinds(server, 0))[-1] == "engine.stopped"
    assert owned.loops[1] is kept
    await until_ready(owned, {1, 2})
    assert owned.ready == {1, 2}
    assert [entry["partition"] for entry in owned.status()] == [1, 2]
    await owned.stop()
    assert running() == set()
    assert [(await kinds(server, partition))[-1] for partition in (1, 2)] == ["engine.stopped"] * 2
    assert owned.ready == set()


async def test_who_waits_for_partitions_learns_that_fewer_are_wanted(owned: OwnedPartitions, ports: Ports) -> None:
    ports.away = {0}
    wanted = {0}
    await owned.own(wanted)
    waiting = asyncio.create_task(until_ready(owned, wanted))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    wanted.clear()
    await owned.own(set())
    await waiting


async def test_a_partition_that_is_owned_again_is_ready_when_it_has_been_taken_over_again(
    owned: OwnedPartitions, ports: Ports
) -> None:
    await owned.own({0})
    await until_ready(owned, {0})
    await owned.own(set())
    ports.away = {0}
    await owned.own({0})
    assert owned.ready == set()
    ports.away = set()
    await until_ready(owned, {0})


async def test_a_partition_that_does_not_end_is_given_up(
    server: BrokerServer, owned: OwnedPartitions, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LEAVE_SECONDS", 0.05)
    await owned.own({0, 1})
    await until_ready(owned, {0, 1})
    ports.hangs = {0}
    await owned.own({1})
    assert running() == {"engine-1"}
    assert "engine.stopped" not in await kinds(server, 0)
    ports.hangs = set()
    await owned.own({0, 1})
    await until_ready(owned, {0, 1})


async def test_a_partition_that_another_took_over_begins_again_when_it_is_wanted(
    server: BrokerServer, owned: OwnedPartitions
) -> None:
    await owned.own({0})
    await until_ready(owned, {0})
    other = OwnedPartitions(InProcessBroker(server.local), PARTITIONS, None, None, None)
    await other.own({0})
    await until_ready(other, {0})
    await submit(server, range(1))  # to write, it must be the owner
    async with asyncio.timeout(60):
        while owned.loops:
            await asyncio.sleep(0.01)
    assert owned.ready == set()
    await other.stop()
    await owned.own({0})
    await until_ready(owned, {0})


@pytest.mark.parametrize("how", ["the broker is back", "the partition is another's"])
async def test_an_outage_is_logged_once_and_its_end_too(owned: OwnedPartitions, ports: Ports, how: str) -> None:
    ports.away = {0, 1}
    with capture_logs() as logs:
        await owned.own({0, 1})
        async with asyncio.timeout(60):
            await ports.refused.wait()
            ports.refused.clear()
            await ports.refused.wait()
        if how == "the broker is back":
            ports.away = set()
            await until_ready(owned, {0, 1})
        else:
            await owned.own(set())
    said = [entry["action"] for entry in logs if entry["log_level"] == "warning" and "engine" in entry["action"]]
    assert said == ["engine_retry", "engine_outage_over"]
