"""A running hub, on both brokers, with arbitrary records on every topic but the intake: all readers continue, an ordinary task
ends after each record and is watched and delivered, and the number of log lines is limited.

HUB_HOSTILE: number of generated records per topic after the predefined ones (default 20).
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from random import Random

import aiokafka
import pytest
from structlog.testing import capture_logs

from hub import Hub, TaskRegistry
from hub.cli.listing import read_tasks
from hub.delivery import DeliveryService, SubscriberConfig
from hub.kafka import EVENTS, REPLIES, STATE, Cluster, commands_topic, partition_of
from hub.runtime.status import gather_status
from tests.brokers import unique
from tests.cli.test_hostile_records import ROWS
from tests.client.test_replies import EXAMPLES as REPLY_EXAMPLES
from tests.delivery.plugins import SEEN
from tests.records import Damage, Example, WholeRecord
from tests.schemas.test_envelope import EXAMPLES as EVENT_EXAMPLES
from tests.worker.test_commands import FOR_EVERYBODY

from .running import PARTITIONS, Running, running, until

GENERATED = int(os.environ.get("HUB_HOSTILE", "20"))
HUGE = 2_000_000
SECONDS = 60.0

tasks = TaskRegistry()


@tasks.task("double")
async def double(number: int) -> int:
    return 2 * number


def chosen(kind: bytes) -> list[WholeRecord]:
    """Records of a type that each once ended some reader, or could."""
    everybody = ("worker", b"*")
    return [
        WholeRecord(b"k", b"{}", [("ce_type", None), everybody]),
        WholeRecord(None, b"{}", [("ce_type", kind), ("ce_id", None), ("worker", None)]),
        WholeRecord(b"k", None, [("ce_type", kind), everybody]),
        WholeRecord(b"k", b"[" * 100_000, [("ce_type", kind), everybody]),
        WholeRecord(b"k", b'{"task":"M\xfcnchen"}', [("ce_type", kind), everybody]),
        WholeRecord(b"k", b'{"partition":99,"waiting":1,"partitions":1,"epoch":1}', [("ce_type", kind), everybody]),
        WholeRecord(b"\x01" * HUGE, b"{", [("ce_type", kind), everybody]),
        WholeRecord(b"k", b'{"' + b"\x01" * HUGE + b'":1}', [("ce_type", b"\x1b[2J" * 1_000), everybody]),
        WholeRecord(b"k", b"{}", [("ce_type", kind), ("ce_type", b"task.completed"), ("n" * 20_000, b"v"), everybody]),
    ]


def records_for(kind: bytes, examples: Mapping[str, Sequence[Example]]) -> list[WholeRecord]:
    source, random = Damage(examples, structured_mode=False, huge_bytes_max=HUGE), Random(11)
    return [*chosen(kind), *[source.record(random) for _ in range(GENERATED)]]


class Publisher:
    """A plain producer, and an ordinary task after each of its records."""

    def __init__(self, world: Running, producer: aiokafka.AIOKafkaProducer) -> None:
        self._world, self._producer = world, producer
        self._count = 0

    async def publish(self, topic: str, partitions: Sequence[int], records: Sequence[WholeRecord]) -> None:
        for number, record in enumerate(records):
            key = b"" if record.key is None and (topic == STATE or record.value is None) else record.key
            place = partitions[number % len(partitions)]
            await self._producer.send_and_wait(topic, record.value, key=key, headers=record.headers, partition=place)
            await self.ordinary(place % PARTITIONS)

    async def ordinary(self, partition: int) -> str:
        """A task of this partition runs, and its result arrives; its id."""
        self._count += 1
        task = next(text for n in range(10_000) if partition_of(text := f"t{self._count}.{n}", PARTITIONS) == partition)
        async with asyncio.timeout(SECONDS):
            assert await self._world.hub.run("double", {"number": self._count}, id=task) == 2 * self._count
        return task


async def watched(hub: Hub, task: str) -> list[str]:
    async with asyncio.timeout(SECONDS):
        return [event.type async for event in hub.watch(task)]


@pytest.mark.timeout(600)
async def test_whatever_lies_on_its_other_topics_a_hub_works_on(empty_bootstrap: str) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=empty_bootstrap, max_request_size=8 << 20)
    tag = unique("recorder")
    subscriber = SubscriberConfig(use="tests.delivery.plugins:Recorder", id=tag, settings={"tag": tag}, start_from="earliest")
    with capture_logs() as logs:
        async with running(empty_bootstrap, tasks, foreign=True) as world:
            delivery = DeliveryService(Cluster.of(empty_bootstrap), [subscriber])
            await delivery.start()
            await producer.start()
            publisher, everywhere = Publisher(world, producer), list(range(PARTITIONS))
            try:
                await delivery.ready(SECONDS)
                inbox = [world.workers[0].inbox]
                await publisher.publish(commands_topic("default"), inbox, records_for(b"attempt.execute", FOR_EVERYBODY))
                await publisher.ordinary(0)
                assert world.hub._replies is not None
                await publisher.publish(REPLIES, [world.hub._replies.partition], records_for(b"reply.ended", REPLY_EXAMPLES))
                await publisher.publish(subscriber.dead_letter_topic, [0], chosen(b"task.failed"))
                await publisher.publish(EVENTS, everywhere, records_for(b"task.ready", EVENT_EXAMPLES))
                await publisher.publish(STATE, everywhere, records_for(b"task", ROWS))
                lasts = [await publisher.ordinary(partition) for partition in everywhere]
                for last in lasts:
                    assert (await watched(world.hub, last))[-1] == "task.completed"
                await until(lambda: set(lasts) <= {subject for subject, _ in SEEN[tag].events})
                status = delivery.status()[0]
                assert (status.restarts, status.reconnects, status.malformed > 5) == (0, 0, True)
                assert set(lasts) <= {task.id for task in (await read_tasks(Cluster.of(empty_bootstrap))).tasks}
                assert (await gather_status(Cluster.of(empty_bootstrap), None))["malformed_rows"] > 0
                assert world.workers[0].stats()["malformed"] > 5
            finally:
                await producer.stop()
                await delivery.stop()
    actions = [entry.get("action") for entry in logs]
    assert not {"worker_failed", "worker_inbox_retry", "engine_poison", "engine_failed"} & set(actions)
    assert actions.count("worker_command_malformed") <= 10
    assert max(len(str(entry)) for entry in logs) < 20_000
