"""Leases are kept partition by partition, and given up in time."""

import asyncio
import time

import pytest

from hub.kafka import BrokerUnreachable, Outgoing
from hub.worker.heartbeats import GIVE_UP_SHARE, Heartbeats
from tests.components.running import until

START = b"a start"


class Cluster:
    """What arrived (when, partition, value), and the partitions whose leader is away."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, int, bytes]] = []
        self.away: set[int] = set()
        self.asked: set[int] = set()
        self.lost: list[tuple[float, int]] = []
        self.starts: list[Outgoing] = []

    def beats(self, partitions: int, lease_seconds: float) -> Heartbeats:
        return Heartbeats(
            "x:1",
            client_id="c",
            partitions=partitions,
            lease_seconds=lease_seconds,
            beat=lambda partition: Outgoing("t", partition, b"", b"beat", ()),
            before=self.take_starts,
            on_lease_lost=lambda partition: self.lost.append((time.monotonic(), partition)),
            on_failed=lambda error: None,
        )

    def take_starts(self) -> list[Outgoing]:
        starts, self.starts = self.starts, []
        return starts

    def times(self, partition: int, value: bytes = b"beat") -> list[float]:
        return [at for at, where, what in self.arrived if (where, what) == (partition, value)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()

    class Senders:
        def __init__(self, *_: object, **__: object) -> None: ...
        async def start(self) -> None: ...
        async def stop(self) -> None: ...
        async def send(self, outgoing: Outgoing, *, timeout_seconds: float) -> None:
            until_time = time.monotonic() + timeout_seconds
            while outgoing.partition in cluster.away:
                cluster.asked.add(outgoing.partition)
                if time.monotonic() >= until_time:
                    raise BrokerUnreachable("x:1", "no leader")
                await asyncio.sleep(0.005)
            cluster.arrived.append((time.monotonic(), outgoing.partition, outgoing.value))

    monkeypatch.setattr("hub.worker.heartbeats.Sender", Senders)
    return cluster


async def test_credit_is_told_at_once_while_another_partition_is_away(cluster: Cluster) -> None:
    cluster.away = {0}
    beats = cluster.beats(2, lease_seconds=30.0)
    await asyncio.to_thread(beats.start)
    beats.soon([0])
    await until(lambda: 0 in cluster.asked)
    beats.soon([1])
    try:
        await until(lambda: bool(cluster.times(1)), seconds=60)
    finally:
        cluster.away = set()
        await asyncio.to_thread(beats.stop)


async def test_a_start_that_did_not_arrive_is_said_again_before_the_next_heartbeat(cluster: Cluster) -> None:
    cluster.away = {0}
    cluster.starts = [Outgoing("t", 0, b"", START, ())]
    beats = cluster.beats(2, lease_seconds=0.6)
    await asyncio.to_thread(beats.start)
    await until(lambda: [partition for _, partition in cluster.lost] == [0])
    cluster.away = set()
    await until(lambda: bool(cluster.times(0)))
    await asyncio.to_thread(beats.stop)
    [said_at] = cluster.times(0, START)
    assert said_at < cluster.times(0)[0]


async def test_leases_are_given_up_before_they_end_also_when_something_has_to_be_said_first(cluster: Cluster) -> None:
    cluster.away = {0}
    cluster.starts = [Outgoing("t", 0, b"", START, ())]
    beats = cluster.beats(1, lease_seconds=1.5)
    began_at = time.monotonic()
    await asyncio.to_thread(beats.start)
    await until(lambda: bool(cluster.lost))
    assert 1.5 * GIVE_UP_SHARE <= cluster.lost[0][0] - began_at < 1.5
    await asyncio.to_thread(beats.stop)
