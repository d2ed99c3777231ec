"""Leases are extended per partition, and given up in time: in virtual time, on a loop instead of in the thread; what the thread
adds, at the end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from hub.kafka import BrokerUnreachable, Outgoing
from hub.worker.heartbeats import (
    AGAIN_SECONDS,
    BEATS_PER_LEASE,
    GIVE_UP_SHARE,
    LOOKS,
    Heartbeats,
    LeaseKeeper,
    LoopHeartbeats,
)
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

    def keeper(self, partitions: int, *, lease_seconds: float = LEASE_SECONDS) -> LeaseKeeper:
        return LeaseKeeper(
            self,
            self,
            partitions=partitions,
            lease_seconds=lease_seconds,
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


def test_a_start_that_is_found_on_the_way_to_one_partition_is_sent_at_once_to_its_own(cluster: Cluster) -> None:
    async def scene() -> None:
        keeper = cluster.keeper(2)
        async with beating(keeper):
            cluster.starts = [Outgoing("t", 1, b"", START, ())]
            keeper.soon([0])
            await until(lambda: bool(cluster.arrived))
        assert [(at, where) for at, where, what in cluster.arrived if what == START] == [(0.0, 1)]

    virtual_time.run(scene())


def test_a_heartbeat_that_was_refused_is_sent_again_after_a_pause_and_the_outage_is_logged_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_at: list[float] = []
    send = cluster.send

    async def refuse_three(outgoing: Outgoing, *, timeout_seconds: float = 60.0) -> None:
        if len(refused_at) < 3:
            refused_at.append(now())
            raise BrokerUnreachable("x:1", "refused")
        await send(outgoing, timeout_seconds=timeout_seconds)

    async def scene() -> None:
        async with beating(cluster.keeper(1)):
            await until(lambda: bool(cluster.arrived))

    monkeypatch.setattr(cluster, "send", refuse_three)
    with capture_logs() as logs:
        virtual_time.run(scene())
    due = LEASE_SECONDS / BEATS_PER_LEASE
    assert [*refused_at, cluster.times(0)[0]] == pytest.approx([due + again * AGAIN_SECONDS for again in range(4)])
    assert [line["action"] for line in logs if line["log_level"] == "warning"] == ["heartbeat_failed", "heartbeats_acknowledged"]


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
        assert give_up <= cluster.lost[0][0] < give_up + (LEASE_SECONDS - give_up) / LOOKS

    virtual_time.run(scene())


@pytest.mark.parametrize(("suspended", "earliest"), [(19.0, 51.0), (21.0, 51.0 + 51.0)])
def test_after_a_suspension_of_more_than_the_time_between_heartbeats_and_a_second_the_leases_count_from_its_end(
    cluster: Cluster, suspended: float, earliest: float
) -> None:
    """A lease of 60 s: a heartbeat is due every 20 s, the leases are checked every 3 s and given up after 51 s."""

    async def scene() -> None:
        cluster.away = {0}
        async with beating(cluster.keeper(1, lease_seconds=60.0)):
            await asyncio.sleep(31.0)  # one second after a check
            asyncio.get_running_loop()._leaping.now += suspended  # type: ignore[attr-defined]
            await until(lambda: bool(cluster.lost), seconds=200)
            cluster.away = set()
        assert earliest <= cluster.lost[0][0] < earliest + 5.0

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
        await asyncio.sleep(LEASE_SECONDS + 1)
        await heartbeats.stop()
        assert now() == LEASE_SECONDS + 1, "it stops at once"
        before = len(cluster.arrived)
        await asyncio.sleep(LEASE_SECONDS)
        assert len(cluster.arrived) == before
        assert [partition for _, partition, _ in cluster.arrived].count(0) >= BEATS_PER_LEASE - 1
        assert cluster.arrived[0][:2] == (0.0, 1)
        assert failures == []

    virtual_time.run(main())


def test_a_sender_that_can_send_nothing_more_ends_the_heartbeats_with_its_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        await asyncio.sleep(LEASE_SECONDS)
        raise ValueError("a mistake of ours")

    async def main() -> None:
        failures: list[BaseException] = []
        heartbeats = LoopHeartbeats(cluster.keeper(2), failures.append)
        await heartbeats.start()
        await asyncio.sleep(LEASE_SECONDS + 1)
        assert ["a mistake of ours" in str(getattr(failure, "exceptions", "")) for failure in failures] == [True]
        before = len(cluster.arrived)
        await asyncio.sleep(LEASE_SECONDS)
        assert len(cluster.arrived) == before
        await heartbeats.stop()

    monkeypatch.setattr(cluster, "watch", broken)
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


# In the thread

LONG_SECONDS = 1e6


async def test_heartbeats_in_a_thread_are_sent_when_they_are_asked_for_until_they_are_stopped(cluster: Cluster) -> None:
    failures: list[BaseException] = []
    heartbeats = Heartbeats(cluster.keeper(2, lease_seconds=LONG_SECONDS), failures.append)
    await heartbeats.start()
    heartbeats.soon([1])
    await until(lambda: bool(cluster.arrived))
    await heartbeats.stop()
    heartbeats.soon([0])
    assert [(where, what) for _, where, what in cluster.arrived] == [(1, b"beat")]
    assert failures == []
    await until(lambda: "heartbeats" not in {thread.name for thread in threading.enumerate()})


async def test_heartbeats_in_a_thread_that_fail_say_why_to_their_owner(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(partition: int) -> Outgoing:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(cluster, "heartbeat", fails)
    failures: list[BaseException] = []
    heartbeats = Heartbeats(cluster.keeper(1, lease_seconds=LONG_SECONDS), failures.append)
    with capture_logs() as logs:
        await heartbeats.start()
        heartbeats.soon([0])
        await until(lambda: bool(failures))
        await heartbeats.stop()
    assert "a mistake of ours" in str(getattr(failures[0], "exceptions", failures))
    assert [(line["action"], line["log_level"]) for line in logs] == [("heartbeats_ended", "error")]
