"""kill -9 of the brokers of a three-node Apache Kafka, one after another, under load: nothing is lost or duplicated.

The default is one kill per node and at least HUB_TASKS tasks (400); set HUB_KILLS=10 HUB_TASKS=5000 for the long form.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from hub.kafka import (
    EVENTS,
    Cluster,
    KafkaTransport,
    Outgoing,
    PartitionUnavailable,
    RecordReader,
    Sender,
    describe_storage,
    ensure_topics,
    follow,
    make_admin,
    read_all,
)
from tests.apache_kafka import KafkaUnavailable
from tests.brokers import missing, unique
from tests.kafka_cluster import NODES, KafkaCluster, kafka_cluster

from .load import KILLS, SECONDS, TASKS, Load, everything_was_delivered
from .processes import COMMAND, Installation

PARTITIONS = 4
ROUND = 120
"""Tasks that are submitted at once; the next ones follow when these have ended."""
STEP_MS = 100
"""How long each of them takes: the load lasts as long as the kills, and leaves time for the three nodes."""
TIMES = max(KILLS, NODES)
PER_OUTAGE = 6
"""Warnings of one process in one outage: for each leader that is away, or slow until its followers caught up, and for none."""

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(SECONDS * 2 + 60 * TIMES + 120)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A cluster of this file alone."""
    try:
        with kafka_cluster(tmp_path_factory.mktemp("cluster")) as running:
            yield running
    except KafkaUnavailable as reason:
        missing("kafka", reason)


async def test_a_killed_broker_of_three_costs_nothing(tmp_path: Path, cluster: KafkaCluster) -> None:
    await cluster.settled()
    await ensure_topics(Cluster.of(cluster.bootstrap), partitions=PARTITIONS)
    topic = await replicated_topic(cluster)
    async with Installation(tmp_path, bootstrap=cluster.bootstrap, command=COMMAND) as hub:
        await hub.together(hub.engine(), hub.worker(), hub.delivery())
        killing = asyncio.create_task(kill_one_after_another(cluster))
        numbering = asyncio.create_task(number_records(cluster, topic, killing))
        async with following(hub.bootstrap):
            acknowledged = await load_during(hub.bootstrap, killing)
        await numbering
        assert len(acknowledged) >= TASKS // 4
        hub.owes_the_end_of(acknowledged)
        await everything_was_delivered(hub.bootstrap, PARTITIONS, tmp_path / "delivered")
    check_what_was_said(tmp_path)


@asynccontextmanager
async def following(bootstrap: str) -> AsyncIterator[None]:
    """Follow the events of all partitions meanwhile: each is read once and in order, in spite of the kills."""
    found: list[list[int]] = [[] for _ in range(PARTITIONS)]
    tasks = [asyncio.create_task(follow_events(bootstrap, partition, seen)) for partition, seen in enumerate(found)]
    try:
        yield
        async with asyncio.timeout(60):
            for partition, seen in enumerate(found):
                stored = [record.offset async for record in read_all(Cluster.of(bootstrap), EVENTS, partition)]
                while len(seen) < len(stored) and not tasks[partition].done():
                    await asyncio.sleep(0.01)
                assert seen[: len(stored)] == stored
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def follow_events(bootstrap: str, partition: int, seen: list[int]) -> None:
    """Note the offset of every event."""

    async def first(reader: RecordReader) -> int:
        return await reader.start_offset()

    transport = KafkaTransport(Cluster.of(bootstrap))
    async for records in follow(transport, EVENTS, partition, first, client_id="follower", outage_seconds=SECONDS):
        seen.extend(record.offset for record in records)


def check_what_was_said(folder: Path) -> None:
    """Nobody says that no broker answers while two do; each outage is warned of once per cause and partition leader."""
    for role, action, over in (
        ("engine", "engine_retry", "engine_outage_over"),
        ("worker", "heartbeat_failed", "heartbeats_acknowledged"),
    ):
        lines = (folder / f"{role}.err").read_text().splitlines()
        assert not [line for line in lines if "No Kafka broker responds" in line]
        outages = 0
        causes: list[str] = []
        for line in lines:
            if f"action={action} " in line:
                causes.append(line)
                assert len(causes) <= PER_OUTAGE, causes
            elif f"action={over} " in line:
                assert causes, line
                assert "seconds=" in line
                outages, causes = outages + 1, []
        assert causes == [], f"the {role} does not say that this is over"
        assert outages > 0 or role == "worker", lines  # whose heartbeats may all be in time
    said = (folder / "delivery.err").read_text()
    assert "No Kafka broker responds" not in said
    assert said.count("action=broker_silent ") <= 2 * TIMES, "once per outage, and once more by a consumer that was replaced"


async def replicated_topic(cluster: KafkaCluster) -> str:
    """A topic with a partition per node, and a replica of each on every node."""
    topic = unique("led")
    admin = make_admin(Cluster.of(cluster.bootstrap))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, NODES, NODES)])
    finally:
        await admin.close()
    await cluster.settled()
    return topic


async def test_while_a_leader_is_away_its_partition_is_named_and_not_the_cluster(cluster: KafkaCluster) -> None:
    """Last in this file: with one node of three there is no new leader, so what is said does not depend on time."""
    await cluster.settled()
    topic = await replicated_topic(cluster)
    admin = make_admin(Cluster.of(cluster.bootstrap))
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    leaders = {part["partition"]: part["leader"] for part in described["partitions"]}
    stays = cluster.nodes[leaders[0] - 1]
    partition = next(number for number, leader in leaders.items() if leader != stays.number)
    sender = Sender(Cluster.of(cluster.bootstrap))
    await sender.start()
    try:
        await sender.send(Outgoing(topic, partition, b"k", b"v", []))
        for node in cluster.nodes:
            if node is not stays:
                node.kill()
        gone = cluster.nodes[leaders[partition] - 1].bootstrap
        with pytest.raises(PartitionUnavailable) as unavailable:
            await sender.send(Outgoing(topic, partition, b"k", b"v", []), timeout_seconds=1.0)
    finally:
        await sender.stop()
    assert unavailable.value.leader == gone
    assert f"The leader of {topic}-{partition}, {gone}, does not respond" in str(unavailable.value)
    storage = await describe_storage(Cluster.of(cluster.bootstrap))
    assert list(storage.dirs) == [stays.bootstrap]
    assert storage.usable_bytes is not None


async def number_records(cluster: KafkaCluster, topic: str, harm: "asyncio.Task[None]") -> None:
    """Post numbers to the partitions of a topic in turn until `harm` is done. Each is stored once and in order."""
    sender = Sender(Cluster.of(cluster.bootstrap))
    await sender.start()
    posted = 0
    try:
        while not harm.done():
            await sender.post(Outgoing(topic, posted % NODES, b"k", b"%d" % posted, []))
            posted += 1
            await asyncio.sleep(0 if posted % 7 else 0.02)
        assert await sender.flush(timeout_seconds=SECONDS)
    finally:
        await sender.stop()
    for partition in range(NODES):
        values = [int(record.value or b"") async for record in read_all(Cluster.of(cluster.bootstrap), topic, partition)]
        assert values == list(range(partition, posted, NODES))


async def kill_one_after_another(cluster: KafkaCluster) -> None:
    """Each kill at a random moment, of a node that is back and in sync before the next one's turn comes."""
    chance = random.Random(1)
    for number in range(TIMES):
        await cluster.settled()
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        node = cluster.nodes[number % NODES]
        node.kill()
        await cluster.left(node.number)
        await asyncio.to_thread(node.start)
    await cluster.settled()


async def load_during(bootstrap: str, harm: "asyncio.Task[None]") -> list[str]:
    """Round after round of tasks until `harm` is done and TASKS have ended; the ids of what was acknowledged."""
    acknowledged: list[str] = []
    try:
        while not harm.done() or 4 * len(acknowledged) < TASKS:
            load = Load(bootstrap, ROUND, ms=STEP_MS)
            await load.run(timeout_seconds=SECONDS)
            acknowledged += load.acknowledged
        await harm
    finally:
        harm.cancel()
        await asyncio.wait([harm])
    return acknowledged
