"""Leases are extended per partition, and given up in time: in virtual time, on a loop instead of in the thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from hub.kafka import BrokerUnreachable, Outgoing
from hub.worker.heartbeats import BEATS_PER_LEASE, GIVE_UP_SHARE, LOOKS, LeaseKeeper, LoopHeartbeats
from tests import virtual_time
from tests.components.running import until

START = b"a start"
LEASE_SECONDS = 10.0


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def beating(keeper: LeaseKeeper) -> AsyncIterator[None]:
    """The heartbeats while they continue."""
    going = asyncio.create_task(keeper.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        keeper.stop()
        await going


class Cluster:
    """Reports and their source: what arrived (when, partition, value), and the partitions whose leader is away."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, int, bytes]] = []
        self.away: set[int] = set()
        self.asked: set[int] = set()
        self.lost: list[tuple[float, int]] = []
        self.starts: list[Outgoing] = []

    def keeper(self, partitions: int) -> LeaseKeeper:
        return LeaseKeeper(
            self,
            self,
            partitions=partitions,
            lease_seconds=LEASE_SECONDS,
            on_lease_lost=lambda partition: self.lost.append((now(), partition)),
        )

    def overdue(self) -> list[Outgoing]:
        starts, self.starts = self.starts, []
        return starts

    def heartbeat(self, partition: int) -> Outgoing:
        return Outgoing("t", partition, b"", b"beat", ())

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = lambda: None) -> None:
        raise AssertionError("heartbeats are sent, and waited for")

    async def flush(self, *, timeout_seconds: float) -> bool:
        raise AssertionError("heartbeats are sent, and waited for")

    async def watch(self) -> None: ...

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = 60.0) -> None:
        until_time = now() + timeout_seconds
        while outgoing.partition in self.away:
            self.asked.add(outgoing.partition)
            if now() >= until_time:
                raise BrokerUnreachable("x:1", "no leader")
            await asyncio.sleep(0.005)
        self.arrived.append((now(), outgoing.partition, outgoing.value))

    def times(self, partition: int, value: bytes = b"beat") -> list[float]:
        return [at for at, where, what in self.arrived if (where, what) == (partition, value)]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_credit_is_reported_at_once_while_another_partition_is_away(cluster: Cluster) -> None:
    async def scene() -> None:
        cluster.away = {0}
        keeper = cluster.keeper(2)
        async with beating(keeper):
            keeper.soon([0])
            await until(lambda: 0 in cluster.asked)
            asked_at = now()
            keeper.soon([1])
            await until(lambda: bool(cluster.times(1)))
            assert cluster.times(1)[0] == asked_at, "no time passes"
            cluster.away = set()

    virtual_time.run(scene())


def test_a_start_that_did_not_arrive_is_sent_again_before_the_next_heartbeat(cluster: Cluster) -> None:
    async def scene() -> None:
        cluster.away = {0}
        cluster.starts = [Outgoing("t", 0, b"", START, ())]
        async with beating(cluster.keeper(2)):
            await until(lambda: [partition for _, partition in cluster.lost] == [0])
            cluster.away = set()
            await until(lambda: bool(cluster.times(0)))
        [sent_at] = cluster.times(0, START)
        assert sent_at <= cluster.times(0)[0]
        values = [value for _, partition, value in cluster.arrived if partition == 0]
        assert values.index(START) < values.index(b"beat")

    virtual_time.run(scene())


def test_leases_are_given_up_before_they_end_also_when_something_has_to_be_reported_first(cluster: Cluster) -> None:
    async def scene() -> None:
        cluster.away = {0}
        cluster.starts = [Outgoing("t", 0, b"", START, ())]
        async with beating(cluster.keeper(1)):
            await until(lambda: bool(cluster.lost))
        give_up = LEASE_SECONDS * GIVE_UP_SHARE
        assert give_up <= cluster.lost[0][0] <= give_up + (LEASE_SECONDS - give_up) / LOOKS < LEASE_SECONDS

    virtual_time.run(scene())


def test_a_partition_that_cannot_be_reached_costs_its_own_leases_only(cluster: Cluster) -> None:
    async def scene() -> None:
        cluster.away = {1}
        async with beating(cluster.keeper(4)):
            await asyncio.sleep(3 * LEASE_SECONDS)
            assert [partition for _, partition in cluster.lost] == [1]
            for partition in (0, 2, 3):
                assert len(cluster.times(partition)) >= 3 * BEATS_PER_LEASE - 1
            cluster.away = set()

    virtual_time.run(scene())


def test_leases_are_lost_once_in_an_outage_and_again_in_the_next(cluster: Cluster) -> None:
    async def scene() -> None:
        async with beating(cluster.keeper(1)):
            for outage in (1, 2):
                cluster.away = {0}
                await asyncio.sleep(3 * LEASE_SECONDS)
                assert len(cluster.lost) == outage
                cluster.away = set()
                await asyncio.sleep(LEASE_SECONDS)

    virtual_time.run(scene())


def test_heartbeats_on_the_callers_loop_are_sent_until_they_are_stopped(cluster: Cluster) -> None:
    async def main() -> None:
        failures: list[BaseException] = []
        heartbeats = LoopHeartbeats(cluster.keeper(2), failures.append)
        heartbeats.soon([1])
        await heartbeats.start()
        await asyncio.sleep(LEASE_SECONDS)
        await heartbeats.stop()
        before = len(cluster.arrived)
        await asyncio.sleep(LEASE_SECONDS)
        assert len(cluster.arrived) == before
        assert [partition for _, partition, _ in cluster.arrived].count(0) >= BEATS_PER_LEASE - 1
        assert cluster.arrived[0][:2] == (0.0, 1)
        assert failures == []

    virtual_time.run(main())


def test_heartbeats_on_the_callers_loop_that_cannot_connect_fail_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise BrokerUnreachable("memory", "nobody is there")

    async def main() -> None:
        failures: list[BaseException] = []
        heartbeats = LoopHeartbeats(cluster.keeper(1), failures.append)
        with pytest.raises(BrokerUnreachable):
            await heartbeats.start()
        await heartbeats.stop()
        assert [type(failure) for failure in failures] == [BrokerUnreachable]

    monkeypatch.setattr(cluster, "start", refuse)
    virtual_time.run(main())
