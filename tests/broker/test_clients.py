"""Ordinary clients (aiokafka) over TCP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from hub.broker import BrokerServer

from .client import LateClock, until


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    await client.start()
    try:
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def producer(broker: BrokerServer, **options: Any) -> Any:
    return started(AIOKafkaProducer(bootstrap_servers=broker.bootstrap, retry_backoff_ms=2, **options))


def consumer(broker: BrokerServer, *topics: str, **options: Any) -> Any:
    options = {"auto_offset_reset": "earliest", "isolation_level": "read_committed", **options}
    return started(AIOKafkaConsumer(*topics, bootstrap_servers=broker.bootstrap, retry_backoff_ms=2, **options))


def admin(broker: BrokerServer) -> Any:
    return started(AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap))


async def take(reader: Any, count: int, seconds: float = 60.0) -> list[bytes]:
    """Values of the next `count` records."""
    found: list[bytes] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            for records in (await reader.getmany(timeout_ms=200)).values():
                found += [record.value for record in records]
    assert len(found) == count
    return found


async def nothing_more(reader: Any) -> None:
    assert await reader.getmany(timeout_ms=150) == {}


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd", "snappy"])
async def test_records_come_back_in_order(broker: BrokerServer, compression: str | None) -> None:
    await broker.local.create_topic("t", 1)
    sent = [b"value-%d" % index for index in range(500)]
    async with producer(broker, compression_type=compression, enable_idempotence=True) as sender:
        await asyncio.gather(*[await sender.send("t", value) for value in sent])
    async with consumer(broker, "t") as reader:
        assert await take(reader, 500) == sent


async def test_a_waiting_consumer_gets_a_record_at_once(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    patient = {"fetch_max_wait_ms": 600_000, "request_timeout_ms": 700_000}
    async with producer(broker) as sender, consumer(broker, "t", **patient) as reader:
        await sender.send_and_wait("t", b"first")
        await take(reader, 1)
        waiting = asyncio.create_task(reader.getone())
        for _ in range(20):
            await asyncio.sleep(0)
        await sender.send_and_wait("t", b"second")
        async with asyncio.timeout(60):
            assert (await waiting).value == b"second"


async def test_a_group_continues_where_it_committed(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    async with producer(broker) as sender:
        for value in (b"a", b"b"):
            await sender.send_and_wait("t", value)
        async with consumer(broker, "t", group_id="g", enable_auto_commit=False) as reader:
            assert await take(reader, 2) == [b"a", b"b"]
            await reader.commit()
        await sender.send_and_wait("t", b"c")
    async with consumer(broker, "t", group_id="g") as reader:
        assert await take(reader, 1) == [b"c"]


async def test_two_members_share_the_partitions_and_one_takes_over(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 4)
    timing = {"group_id": "g", "session_timeout_ms": 2000, "heartbeat_interval_ms": 50, "rebalance_timeout_ms": 2000}
    async with consumer(broker, "t", **timing) as first:
        async with consumer(broker, "t", **timing) as second:
            await until(lambda: len(first.assignment()) == len(second.assignment()) == 2)
            assert not first.assignment() & second.assignment()
        await until(lambda: len(first.assignment()) == 4)


async def test_a_silent_member_loses_its_place(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 2)
    timing = {"group_id": "g", "session_timeout_ms": 300, "heartbeat_interval_ms": 50}
    async with consumer(broker, "t", **timing) as first, consumer(broker, "t", **timing) as second:
        await until(lambda: len(first.assignment()) == len(second.assignment()) == 1)
        second._coordinator._coordination_task.cancel()
        second._coordinator._heartbeat_task.cancel()
        await until(lambda: len(first.assignment()) == 2)


async def test_transactions_show_committed_records_only(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 2)
    async with producer(broker, transactional_id="tx") as sender, consumer(broker, "t") as reader:
        await sender.begin_transaction()
        await sender.send_and_wait("t", b"aborted", partition=0)
        async with consumer(broker, "t", isolation_level="read_uncommitted") as curious:
            assert await take(curious, 1) == [b"aborted"]
        await nothing_more(reader)
        await sender.abort_transaction()
        async with sender.transaction():
            for partition in (0, 1):
                await sender.send_and_wait("t", b"committed", partition=partition)
        assert await take(reader, 2) == [b"committed", b"committed"]
        await nothing_more(reader)


async def test_an_open_transaction_holds_back_later_records(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    async with (
        producer(broker, transactional_id="tx") as slow,
        producer(broker) as plain,
        consumer(broker, "t") as reader,
    ):
        await slow.begin_transaction()
        await slow.send_and_wait("t", b"first")
        await plain.send_and_wait("t", b"second")
        await nothing_more(reader)
        assert await reader.end_offsets([TopicPartition("t", 0)]) == {TopicPartition("t", 0): 0}
        await slow.commit_transaction()
        assert await take(reader, 2) == [b"first", b"second"]


async def test_offsets_are_committed_with_the_transaction(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    partition = TopicPartition("t", 0)
    async with producer(broker, transactional_id="tx") as sender, admin(broker) as admins:
        await sender.begin_transaction()
        await sender.send_offsets_to_transaction({partition: 5}, "g")
        await sender.abort_transaction()
        assert (await admins.list_consumer_group_offsets("g")).get(partition) is None
        await sender.begin_transaction()
        await sender.send_and_wait("t", b"x")
        await sender.send_offsets_to_transaction({partition: 7}, "g")
        await sender.commit_transaction()
        assert (await admins.list_consumer_group_offsets("g"))[partition].offset == 7


async def test_a_successor_fences_and_aborts(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    async with producer(broker, transactional_id="tx") as old:
        await old.begin_transaction()
        await old.send_and_wait("t", b"lost")
        async with producer(broker, transactional_id="tx") as new, consumer(broker, "t") as reader:
            async with new.transaction():
                await new.send_and_wait("t", b"kept")
            with pytest.raises((ProducerFenced, InvalidProducerEpoch)):
                await old.commit_transaction()
            assert await take(reader, 1) == [b"kept"]


async def test_a_transaction_that_takes_too_long_is_aborted() -> None:
    clock = LateClock()
    broker = BrokerServer(None, clock=clock)
    await broker.start()
    try:
        await broker.local.create_topic("t", 1)
        async with (
            producer(broker, transactional_id="tx", transaction_timeout_ms=600_000) as slow,
            producer(broker) as plain,
            consumer(broker, "t") as reader,
        ):
            await slow.begin_transaction()
            await slow.send_and_wait("t", b"late")
            await plain.send_and_wait("t", b"plain")
            await nothing_more(reader)
            clock.advance(broker, 601)
            assert await take(reader, 1) == [b"plain"]
            with pytest.raises(KafkaError):
                await slow.commit_transaction()
    finally:
        await broker.stop()


async def test_topics_are_created_described_grown_and_deleted(broker: BrokerServer) -> None:
    async with admin(broker) as admins:
        await admins.create_topics([NewTopic("t", 2, 1, topic_configs={"cleanup.policy": "compact"})])
        with_error = await admins.create_topics([NewTopic("t", 2, 1)])
        assert with_error.topic_errors[0][1] == TopicAlreadyExistsError.errno
        answers = await admins.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "t")])
        settings = {entry[0]: entry[1] for entry in answers[0].resources[0][4]}
        assert settings["cleanup.policy"] == "compact"
        await admins.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "t", {"retention.ms": "1000"})])
        assert broker.broker.state.topics["t"].configs == {"retention.ms": "1000"}
        await admins.create_partitions({"t": NewPartitions(5)})
        assert len((await admins.describe_topics(["t"]))[0]["partitions"]) == 5
        assert await admins.list_topics() == ["t"]
        await admins.delete_topics(["t"])
        assert await admins.list_topics() == []
        assert (await admins.describe_topics(["t"]))[0]["error_code"] == UnknownTopicOrPartitionError.errno


async def test_groups_are_listed_and_described(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    async with consumer(broker, "t", group_id="g"), admin(broker) as admins:
        await until(lambda: broker.broker.groups.groups["g"].phase.value == "Stable")
        assert (await admins.describe_consumer_groups(["g"]))[0].groups[0][2] == "Stable"
        assert ("g", "consumer") in await admins.list_consumer_groups()


async def test_offsets_are_found_by_timestamp(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1, {"retention.ms": "-1"})
    partition = TopicPartition("t", 0)
    async with producer(broker, linger_ms=20) as sender:
        await asyncio.gather(
            *[await sender.send("t", b"x", timestamp_ms=1000 + 10 * index) for index in range(10)],
        )
        await asyncio.gather(
            *[await sender.send("t", b"y", timestamp_ms=2000 + 10 * index) for index in range(10)],
        )
    async with consumer(broker, "t") as reader:
        for timestamp_ms, offset in ((0, 0), (1000, 0), (1031, 4), (1999, 10), (2000, 10), (2090, 19)):
            found = await reader.offsets_for_times({partition: timestamp_ms})
            assert found[partition].offset == offset
        assert (await reader.offsets_for_times({partition: 3000}))[partition] is None
        assert await reader.beginning_offsets([partition]) == {partition: 0}
        assert await reader.end_offsets([partition]) == {partition: 20}


async def test_an_unknown_topic_is_not_created(broker: BrokerServer) -> None:
    async with producer(broker) as sender:
        sender.client._request_timeout_ms = 300  # how long it looks for the topic; to connect it had the usual time
        with pytest.raises(KafkaError):
            await sender.send_and_wait("missing", b"x")
    assert broker.local.topics() == {}


async def test_a_message_beyond_the_topics_limit_is_refused(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1, {"max.message.bytes": "2000"})
    async with producer(broker) as sender:
        with pytest.raises(KafkaError, match="MessageSizeTooLarge"):
            await sender.send_and_wait("t", bytes(3000))
        await sender.send_and_wait("t", bytes(1000))
