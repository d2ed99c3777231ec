"""Topic settings are implemented, or rejected with INVALID_CONFIG and the name of the setting."""

import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kio.static.primitive import i8, i16, i32

from hub.broker import BrokerError, BrokerServer
from hub.broker.topic_settings import SETTINGS, check_settings, effective, typed, valid_settings
from hub.kafka.topics import durability, hub_topics
from hub.protocol import ErrorCode

from .client import RawClient, batch, kio_class
from .test_restart import idempotent, running

REFUSED = [
    ("no.such.setting", "1"),
    ("cleanup.policy", "forget"),
    ("cleanup.policy", ""),
    ("compression.type", "gzip"),
    ("flush.messages", "1"),
    ("message.timestamp.type", "Whenever"),
    ("message.timestamp.after.max.ms", "3600000"),
    ("min.insync.replicas", "2"),
    ("min.cleanable.dirty.ratio", "1.5"),
    ("min.cleanable.dirty.ratio", "nan"),
    ("max.compaction.lag.ms", "0"),
    ("max.message.bytes", "many"),
    ("preallocate", "true"),
    ("retention.ms", "-2"),
    ("retention.bytes", "1e3"),
    ("segment.bytes", "1"),
    ("segment.ms", "0"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
async def test_what_is_not_acted_on_is_refused_by_name_at_creation_and_later(broker: BrokerServer, name: str, value: str) -> None:
    await broker.local.create_topic("t", 1)
    for api, answer in (("create", await create(broker, {name: value})), ("alter", await alter(broker, {name: value}))):
        assert int(answer.error_code.value) == ErrorCode.INVALID_CONFIG, api
        assert name in answer.error_message
    assert broker.broker.state.topics["t"].configs == {}
    assert "u" not in broker.local.topics()


async def test_lags_that_contradict_each_other_are_refused(broker: BrokerServer) -> None:
    answer = await create(broker, {"min.compaction.lag.ms": "5000", "max.compaction.lag.ms": "1000"})
    assert int(answer.error_code.value) == ErrorCode.INVALID_CONFIG
    assert "min.compaction.lag.ms" in answer.error_message


async def create(broker: BrokerServer, configs: dict[str, str]) -> Any:
    """CreateTopics for `u`, as a client sends it."""
    config = kio_class("create_topics", 7, "request", "CreatableTopicConfig")
    topic = kio_class("create_topics", 7, "request", "CreatableTopic")(
        name="u",
        num_partitions=i32(1),
        replication_factor=i16(1),
        assignments=(),
        configs=tuple(config(name=name, value=value) for name, value in configs.items()),
    )
    import datetime

    from kio.static.primitive import i32Timedelta

    timeout = i32Timedelta.parse(datetime.timedelta(seconds=5))
    async with RawClient(broker.host, broker.port) as client:
        answer = await client.ask("create_topics", 7, topics=(topic,), timeout=timeout, validate_only=False)
    return answer.topics[0]


async def alter(broker: BrokerServer, configs: dict[str, str]) -> Any:
    """IncrementalAlterConfigs for `t`."""
    change = kio_class("incremental_alter_configs", 1, "request", "AlterableConfig")
    entry = kio_class("incremental_alter_configs", 1, "request", "AlterConfigsResource")(
        resource_type=i8(2),
        resource_name="t",
        configs=tuple(change(name=name, config_operation=i8(0), value=value) for name, value in configs.items()),
    )
    async with RawClient(broker.host, broker.port) as client:
        answer = await client.ask("incremental_alter_configs", 1, resources=(entry,), validate_only=False)
    return answer.responses[0]


async def described(broker: BrokerServer, topic: str) -> dict[str, Any]:
    """DescribeConfigs, by setting."""
    entry = kio_class("describe_configs", 4, "request", "DescribeConfigsResource")(
        resource_type=i8(2), resource_name=topic, configuration_keys=None
    )
    async with RawClient(broker.host, broker.port) as client:
        answer = await client.ask("describe_configs", 4, resources=(entry,), include_synonyms=False, include_documentation=False)
    return {config.name: config for config in answer.results[0].configs}


async def test_what_holds_is_shown_with_defaults_and_types(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1, {"retention.ms": "60000", "cleanup.policy": "compact,delete"})
    shown = await described(broker, "t")
    assert set(shown) == set(SETTINGS)
    assert (shown["retention.ms"].value, shown["retention.ms"].config_source) == ("60000", 1)
    assert (shown["segment.bytes"].value, shown["segment.bytes"].config_source) == ("67108864", 5)
    assert shown["flush.ms"].read_only
    assert not shown["retention.ms"].read_only
    assert (shown["cleanup.policy"].config_type, shown["min.cleanable.dirty.ratio"].config_type) == (7, 6)


def test_every_setting_of_the_hubs_own_topics_is_acted_on() -> None:
    for spec in hub_topics(4, pools=["default"], subscribers=["s"]):
        assert check_settings({**spec.config, **durability(1)[1]}) == spec.config
        assert not any(SETTINGS[name].fixed for name in spec.config)


def test_settings_are_typed() -> None:
    settings = typed({"cleanup.policy": "compact, delete", "retention.ms": "1000", "segment.ms": "5000"})
    assert (settings.compact, settings.delete, settings.retention_ms, settings.min_dirty_ratio) == (True, True, 1000, 0.5)
    assert settings.roll_ms == 500
    assert typed({"max.compaction.lag.ms": "9", "cleanup.policy": "compact"}).roll_ms == 9
    assert typed({"retention.ms": "-1"}).roll_ms == int(effective({})["segment.ms"])


def test_settings_that_an_earlier_broker_accepted_do_not_stop_this_one() -> None:
    assert valid_settings({"min.insync.replicas": "2", "retention.ms": "5"}) == {"retention.ms": "5"}


async def test_a_batch_larger_than_the_topic_allows_is_refused(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1, {"max.message.bytes": "500"})
    assert (await idempotent(broker, batch([bytes(600)])))[0] is ErrorCode.MESSAGE_TOO_LARGE
    assert (await idempotent(broker, batch([bytes(300)])))[0] is ErrorCode.NONE
    with pytest.raises(BrokerError, match="MESSAGE_TOO_LARGE"):
        await broker.local.append("t", 0, batch([bytes(600)]))
    await alter(broker, {"max.message.bytes": "1000"})
    assert (await idempotent(broker, batch([bytes(600)])))[0] is ErrorCode.NONE


async def test_a_compacted_topic_takes_no_record_without_a_key(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1, {"cleanup.policy": "compact"})
    assert (await idempotent(broker, batch([b"keyless"])))[0] is ErrorCode.INVALID_RECORD
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, compression_type="gzip")
    await producer.start()
    assert (await producer.send_and_wait("t", b"v", key=b"k")).offset == 0
    await producer.stop()


async def test_log_append_time_replaces_the_producers_timestamps(tmp_path: Path) -> None:
    """Records, the answer to the producer, and searches by time; also after a restart."""
    before = int(time.time() * 1000)
    async with running(tmp_path) as server:
        await server.local.create_topic("t", 1, {"message.timestamp.type": "LogAppendTime"})
        producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap)
        await producer.start()
        sent = await producer.send_and_wait("t", b"old", timestamp_ms=1000)
        await producer.stop()
        assert (sent.timestamp_type, before <= sent.timestamp <= int(time.time() * 1000)) == (1, True)
        await server.local.append("t", 0, batch([b"older", b"oldest"], timestamp_ms=5))
    async with running(tmp_path) as server:
        consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap)
        await consumer.start()
        place = TopicPartition("t", 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        records = [await consumer.getone() for _ in range(3)]
        assert [record.value for record in records] == [b"old", b"older", b"oldest"]
        assert {record.timestamp_type for record in records} == {1}
        assert records[0].timestamp == sent.timestamp <= records[1].timestamp == records[2].timestamp
        assert (await consumer.offsets_for_times({place: sent.timestamp + 1}))[place] != (0, sent.timestamp)
        assert (await consumer.offsets_for_times({place: before}))[place] == (0, sent.timestamp)
        assert (await consumer.offsets_for_times({place: records[1].timestamp + 1}))[place] is None
        await consumer.stop()


async def test_a_producer_may_not_claim_the_brokers_time(broker: BrokerServer) -> None:
    from hub.broker.batches import read_header, stamped

    await broker.local.create_topic("t", 1)
    raw = batch([b"x"])
    claimed, _ = stamped(raw, read_header(raw), 5)
    assert (await idempotent(broker, claimed))[0] is ErrorCode.INVALID_TIMESTAMP
