"""Transactions of a session are atomic, in order, and at the returned offsets."""

import asyncio
import time

import pytest
from msgspec.structs import replace

from hub.kafka import RecordTooLarge, SessionFailed, TopicPartition
from tests.brokers import unique
from tests.conformance.session.worlds import World, record


async def test_a_committed_transaction_becomes_visible_in_every_partition(world: World, owner: str) -> None:
    first, second = await world.topic(4), await world.topic(2)
    session = world.session(owner)
    await session.open()
    outputs = {
        TopicPartition(t, p): [record(f"{t}/{p}/{n}") for n in range(3)] for t, ps in ((first, 4), (second, 2)) for p in range(ps)
    }
    await session.commit(outputs)
    for (topic, partition), records in outputs.items():
        assert await world.visible(topic, partition, len(records)) == [r.value for r in records]
    await session.close()


async def test_base_offsets_are_where_the_records_are(world: World, owner: str) -> None:
    topic = await world.topic(2)
    session = world.session(owner)
    await session.open()
    for turn in range(5):
        offsets = await session.commit({TopicPartition(topic, p): [record(f"{turn}-{n}") for n in range(p + 2)] for p in (0, 1)})
        for partition in (0, 1):
            stored = {r.offset: r.value for r in await world.committed(topic, partition)}
            assert stored[offsets[TopicPartition(topic, partition)]] == f"{turn}-0".encode()
            assert stored[offsets[TopicPartition(topic, partition)] + partition + 1] == f"{turn}-{partition + 1}".encode()
    await session.close()


async def test_keys_tombstones_headers_and_times_come_back_as_written(world: World, owner: str) -> None:
    topic = await world.topic()
    session = world.session(owner)
    await session.open()
    written_ms = time.time_ns() // 1_000_000 - 123  # Apache Kafka deletes much older records after some seconds
    written = replace(record("v"), headers=[("ce_type", b"task.created"), ("empty", b"")], timestamp_ms=written_ms)
    await session.commit({TopicPartition(topic, 0): [written, record("x", None), replace(record("x"), value=None, headers=())]})
    one, two, three = await world.committed(topic)
    assert (one.key, one.value, list(one.headers), one.timestamp_ms) == (
        b"key",
        b"v",
        list(written.headers),
        written_ms,
    )
    assert (two.key, two.value) == (None, b"x")
    assert (three.key, three.value, list(three.headers)) == (b"key", None, [])
    await session.close()


async def test_without_records_there_is_no_transaction(world: World, owner: str) -> None:
    topic = await world.topic()
    session = world.session(owner)
    await session.open()
    assert await session.commit({}) == {}
    assert await session.commit({TopicPartition(topic, 0): []}) == {}
    assert await world.ends(topic) == (0, 0)
    assert await session.commit({TopicPartition(topic, 0): [record("x")]}) == {TopicPartition(topic, 0): 0}
    await session.close()


async def test_more_than_a_batch_holds_goes_as_several_batches_in_one_transaction(world: World, owner: str) -> None:
    topic = await world.topic(2)
    session = world.session(owner)
    await session.open()
    block = b"x" * (1 << 20)
    many = [record(f"{n:02}".encode() + block) for n in range(11)]
    offsets = await session.commit({TopicPartition(topic, 0): many, TopicPartition(topic, 1): [record("small")]})
    assert offsets == {TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0}
    assert await world.values(topic, 0) == [r.value for r in many]
    assert await world.values(topic, 1) == [b"small"]
    assert (await world.ends(topic, 0)) in ((11, 11), (12, 12))  # eleven records, and a commit marker if there are transactions
    await session.commit({TopicPartition(topic, 0): [record("after")]})
    assert (await world.values(topic, 0))[-1] == b"after"
    await session.close()


async def test_a_record_of_nearly_eight_mebibytes_fits(world: World, owner: str) -> None:
    topic = await world.topic()
    session = world.session(owner)
    await session.open()
    await session.commit({TopicPartition(topic, 0): [record("a"), record(b"x" * ((8 << 20) - 4096)), record("b")]})
    assert [len(value or b"") for value in await world.values(topic)] == [1, (8 << 20) - 4096, 1]
    await session.close()


async def test_a_record_that_no_topic_accepts_is_refused_before_anything_is_sent(world: World, owner: str) -> None:
    topic = await world.topic(2)
    session = world.session(owner)
    await session.open()
    with pytest.raises(RecordTooLarge) as refused:
        await session.commit({TopicPartition(topic, 0): [record("x")], TopicPartition(topic, 1): [record(b"x" * (9 << 20))]})
    assert refused.value.topic == topic
    assert await world.ends(topic, 0) == (0, 0)
    await session.commit({TopicPartition(topic, 0): [record("goes on")]})
    assert await world.values(topic) == [b"goes on"]
    await session.close()


async def test_compressed_batches_read_the_same(world: World, owner: str) -> None:
    topic = await world.topic()
    session = world.session(owner, compression="lz4")
    await session.open()
    records = [record(f"{n} " * 50) for n in range(200)]
    await session.commit({TopicPartition(topic, 0): records})
    assert await world.values(topic) == [r.value for r in records]
    await session.close()


async def test_a_topic_that_appears_while_commit_tries_gets_its_records(world: World, owner: str) -> None:
    known, late = await world.topic(), unique("late")
    session = world.session(owner)
    await session.open()
    committing = asyncio.create_task(
        session.commit({TopicPartition(known, 0): [record("a")], TopicPartition(late, 1): [record("b")]})
    )
    done, _ = await asyncio.wait({committing}, timeout=0.3)
    assert not done
    await world.create(late, 2)
    await committing
    assert (await world.values(known), await world.values(late, 1)) == ([b"a"], [b"b"])
    await session.close()


async def test_a_topic_that_does_not_appear_fails_the_session_and_nothing_is_visible(world: World, owner: str) -> None:
    known = await world.topic()
    session = world.session(owner, retry_seconds=0.5)
    await session.open()
    with pytest.raises(SessionFailed):
        await session.commit({TopicPartition(known, 0): [record("a")], TopicPartition(unique("never"), 0): [record("b")]})
    with pytest.raises(SessionFailed, match="ended"):
        await session.commit({TopicPartition(known, 0): [record("again")]})
    await session.close()
    successor = world.session(owner)
    await successor.open()
    assert await world.values(known) == []
    await successor.close()


async def test_many_transactions_one_after_the_other_lose_and_repeat_nothing(world: World, owner: str) -> None:
    topic = await world.topic(2)
    session = world.session(owner)
    await session.open()
    for n in range(100):
        await session.commit({TopicPartition(topic, n % 2): [record(f"{n}")]})
    assert await world.values(topic, 0) == [f"{n}".encode() for n in range(0, 100, 2)]
    assert await world.values(topic, 1) == [f"{n}".encode() for n in range(1, 100, 2)]
    await session.close()


async def test_sessions_of_different_ids_commit_side_by_side(world: World) -> None:
    topic = await world.topic()

    async def run(name: str) -> None:
        session = world.session(unique(name))
        await session.open()
        for n in range(20):
            await session.commit({TopicPartition(topic, 0): [record(f"{name}{n}")]})
        await session.close()

    await asyncio.gather(*(run(name) for name in "abcd"))
    values = [(value or b"").decode() for value in await world.values(topic)]
    for name in "abcd":
        assert [value for value in values if value[0] == name] == [f"{name}{n}" for n in range(20)]
