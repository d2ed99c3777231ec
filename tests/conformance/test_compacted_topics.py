"""Reading a compacted topic from its start yields the last value of every key, on the embedded broker and on Apache Kafka."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from hub.broker import BrokerSettings
from hub.kafka import Cluster, make_admin
from tests.brokers import BROKERS, broker_in_thread, unique

CONFIGS = {"cleanup.policy": "compact", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}
KEYS = 25
RECORDS = 400


@pytest.fixture(params=BROKERS)
def compacting_bootstrap(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """host:port of a broker that looks often whether there is something to compact."""
    if request.param == "kafka":
        yield request.getfixturevalue("kafka_bootstrap")
        return
    with broker_in_thread(tmp_path, settings=BrokerSettings(retention_check_seconds=0.1)) as server:
        yield server.bootstrap


async def create(bootstrap: str, topic: str) -> None:
    admin = make_admin(Cluster.of(bootstrap))
    try:
        await admin.start()
        answer = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=CONFIGS)])
        assert answer.topic_errors[0][1] == 0, answer
    finally:
        await admin.close()


async def read_all(bootstrap: str, topic: str, committed: int) -> list[tuple[int, bytes, bytes | None]]:
    """(offset, key, value) of all committed records from the start, once the one at offset `committed` is visible: Apache Kafka
    acknowledges the end of a transaction before its marker is written."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        async with asyncio.timeout(60):
            while (end := (await consumer.end_offsets([place]))[place]) <= committed:
                await asyncio.sleep(0.01)
        found: list[tuple[int, bytes, bytes | None]] = []
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.offset, record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


async def test_the_last_value_of_every_key_stays_at_its_offset(compacting_bootstrap: str) -> None:
    bootstrap, topic = compacting_bootstrap, unique("compacted")
    await create(bootstrap, topic)
    dice, last = random.Random(1), dict[bytes, tuple[int, bytes | None]]()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=unique("tx"), transaction_timeout_ms=60_000)
    await producer.start()
    try:
        for number in range(RECORDS // 10):
            sent: dict[bytes, tuple[int, bytes | None]] = {}
            await producer.begin_transaction()
            for _ in range(10):
                key, value = b"k%d" % dice.randrange(KEYS), None if dice.random() < 0.1 else dice.randbytes(100)
                sent[key] = (await producer.send_and_wait(topic, value, key=key)).offset, value
            if number % 4 == 3:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                last |= sent
        found = await read_all(bootstrap, topic, max(offset for offset, _ in last.values()))
        async with asyncio.timeout(120):
            while len(found) > 3 * KEYS:  # a segment is closed by a later append only
                async with producer.transaction():
                    last[b"tick"] = (await producer.send_and_wait(topic, b"tock", key=b"tick")).offset, b"tock"
                found = await read_all(bootstrap, topic, last[b"tick"][0])
    finally:
        await producer.stop()
    offsets = [offset for offset, *_ in found]
    assert offsets == sorted(set(offsets))
    assert {key: (offset, value) for offset, key, value in found} == last
