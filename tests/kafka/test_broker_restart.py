"""Sessions across a crash of the broker: acknowledged records exist once, records with an unknown outcome once or never."""

import asyncio

import pytest

from hub.kafka import ClassicSession, Cluster, Kip890Session, SessionFailed, SessionFenced, TopicPartition, read_all
from tests.brokers import unique
from tests.conformance.session.worlds import World, record
from tests.kafka_nodes import KafkaNode

OPEN_SECONDS = 60.0
"""A broker that has just restarted responds before it has loaded the transaction log."""

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("kind", [Kip890Session, ClassicSession])
async def test_a_killed_broker_costs_the_session_and_nothing_else(
    own_kafka: KafkaNode, kind: type[Kip890Session] | type[ClassicSession]
) -> None:
    acknowledged, tried, topic = await commit_across_a_kill(own_kafka, World(own_kafka.bootstrap, kind))
    values = [int(r.value or b"") async for r in read_all(Cluster.of(own_kafka.bootstrap), topic, 0)]
    assert values == sorted(set(values))
    assert set(acknowledged) <= set(values) <= set(tried)
    assert len(acknowledged) > 400


async def commit_across_a_kill(broker: KafkaNode, world: World) -> tuple[list[int], list[int], str]:
    """Kill and restart the broker while a session commits numbers; a new session continues after a failure, when the broker has
    restarted."""
    topic, owner = await world.topic(), unique("owner")
    session = world.session(owner, open_seconds=OPEN_SECONDS)
    await session.open()
    acknowledged: list[int] = []
    tried: list[int] = []
    running = asyncio.Event()
    running.set()

    async def restart() -> None:
        running.clear()
        await asyncio.to_thread(power_off_and_on, broker)
        running.set()

    async def commit_until(count: int) -> None:
        nonlocal session
        while len(acknowledged) < count:
            tried.append(len(tried))
            try:
                await session.commit({TopicPartition(topic, 0): [record(f"{tried[-1]}")]})
                acknowledged.append(tried[-1])
            except (SessionFailed, SessionFenced):
                await session.close()
                await running.wait()
                session = world.session(owner, open_seconds=OPEN_SECONDS)
                await session.open()

    async with asyncio.timeout(150):
        await commit_until(200)
        async with asyncio.TaskGroup() as group:
            group.create_task(restart())
            await commit_until(201)
        await commit_until(401)
    await session.close()
    return acknowledged, tried, topic


def power_off_and_on(broker: KafkaNode) -> None:
    """Kill and start; returns when the broker responds."""
    broker.kill()
    broker.start()
