"""Reading one partition: from a given offset, committed records only, and never silently past missing records."""

import asyncio

import pytest
from msgspec.structs import replace

from hub.kafka import (
    BrokerUnreachable,
    Cluster,
    Kip890Session,
    OffsetOutOfRange,
    PartitionReader,
    StoredRecord,
    TopicMissing,
    TopicPartition,
    make_admin,
    read_all,
    reader,
)
from tests.brokers import unique
from tests.conformance.session.worlds import World, record
from tests.ports import free_port


@pytest.fixture
def world(bootstrap: str) -> World:
    """A broker and KIP-890 sessions on it."""
    return World(bootstrap, Kip890Session)


async def write(world: World, topic: str, *values: str) -> int:
    """One transaction with these values; the offset of the first. Its marker is in the log afterwards: Apache Kafka acknowledges
    the end of a transaction before that."""
    session = world.session(unique("writer"))
    await session.open()
    offsets = await session.commit(
        {TopicPartition(topic, 0): [replace(record(value), headers=[("ce_type", b"t")]) for value in values]}
    )
    await session.close()
    first = offsets[TopicPartition(topic, 0)]
    async with asyncio.timeout(60):
        while (await world.ends(topic))[1] <= first + len(values):
            await asyncio.sleep(0.005)
    return first


async def read(reader: PartitionReader, count: int) -> list[StoredRecord]:
    """Exactly `count` records."""
    found: list[StoredRecord] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += await reader.read(count - len(found), 100)
    return found


async def test_records_come_in_order_from_the_given_offset_on(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, "a", "b", "c")
    second = await write(world, topic, "d", "e")
    async with PartitionReader(Cluster.of(world.bootstrap)) as partition:
        await partition.open(topic, 0, 1)
        found = await read(partition, 4)
        assert [r.value for r in found] == [b"b", b"c", b"d", b"e"]
        assert found[0].headers == (("ce_type", b"t"),)
        assert await partition.read(10, 10) == []
        partition.seek(second)
        assert [r.value for r in await read(partition, 1)] == [b"d"]
        await write(world, topic, "f")
        assert [r.value for r in await read(partition, 2)] == [b"e", b"f"]


async def test_the_end_is_the_last_stable_offset(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, "a")
    await world.abandon(unique("dead"), {TopicPartition(topic, 0): [record("half")]})
    await write(world, topic, "b")
    async with PartitionReader(Cluster.of(world.bootstrap)) as partition:
        await partition.open(topic, 0, 0)
        assert await partition.end_offset() == 2
        assert [r.value for r in await read(partition, 1)] == [b"a"]
        assert await partition.read(10, 100) == []
    assert [r.value async for r in read_all(Cluster.of(world.bootstrap), topic, 0)] == [b"a"]


async def test_the_end_of_the_log_is_known_too_with_what_an_open_transaction_hides(world: World) -> None:
    topic, owner = await world.topic(), unique("owner")
    await world.abandon(owner, {TopicPartition(topic, 0): [record("half")]})
    await write(world, topic, "hidden")
    async with PartitionReader(Cluster.of(world.bootstrap), max_wait_ms=100) as partition:
        await partition.open(topic, 0, 0)
        assert partition.seen is None
        async with asyncio.timeout(60):
            while (seen := partition.seen) is None:
                assert await partition.read(10, 20) == []
        assert (partition.position, seen.last_stable_offset, seen.high_watermark) == (0, 0, 3)
        session = world.session(owner)
        await session.open()  # aborts what its predecessor left: a marker is the last entry
        assert [r.value for r in await read(partition, 1)] == [b"hidden"]
        async with asyncio.timeout(60):
            while partition.position < 4:
                assert await partition.read(10, 20) == []
        told = partition.seen
        assert told is not None
        assert (partition.position, told.high_watermark) == (4, 4)
        async with asyncio.timeout(60):
            while partition.seen is told:
                assert await partition.read(10, 20) == []
        await session.close()


async def test_reading_all_skips_what_was_aborted_and_ends_behind_the_last_marker(world: World) -> None:
    topic, owner = await world.topic(), unique("owner")
    for n in range(5):
        await write(world, topic, f"{n}")
        await world.abandon(owner, {TopicPartition(topic, 0): [record("half")]})
    session = world.session(owner)
    await session.open()
    assert await world.visible(topic, 0, 5) == [b"%d" % n for n in range(5)]
    assert [r.value async for r in read_all(Cluster.of(world.bootstrap), topic, 0, 7)] == [b"2", b"3", b"4"]
    await session.close()


async def test_reading_all_of_an_empty_partition_gives_nothing(world: World) -> None:
    topic = await world.topic(2)
    assert [r async for r in read_all(Cluster.of(world.bootstrap), topic, 1)] == []


async def test_reading_all_stops_at_the_end_of_its_beginning(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, *(f"{n}" for n in range(3_000)))
    seen = 0
    async for _ in read_all(Cluster.of(world.bootstrap), topic, 0):
        if seen == 0:
            await write(world, topic, "later")
        seen += 1
    assert seen == 3_000


async def test_an_offset_that_is_not_there_yet_fails_loudly(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, "a")
    async with PartitionReader(Cluster.of(world.bootstrap)) as partition:
        await partition.open(topic, 0, 1_000)
        with pytest.raises(OffsetOutOfRange, match=f"Offset 1000 of {topic}-0 is out of range") as gone:
            await read(partition, 1)
        assert (gone.value.topic, gone.value.partition, gone.value.offset) == (topic, 0, 1_000)


async def test_an_offset_that_was_deleted_fails_loudly(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, "a", "b", "c")
    await delete_before(world.bootstrap, topic, 2)
    async with PartitionReader(Cluster.of(world.bootstrap)) as partition:
        await partition.open(topic, 0, 0)
        assert await partition.start_offset() == 2
        with pytest.raises(OffsetOutOfRange):
            await read(partition, 1)
    assert [r.value async for r in read_all(Cluster.of(world.bootstrap), topic, 0)] == [b"c"]
    with pytest.raises(OffsetOutOfRange):
        assert [r async for r in read_all(Cluster.of(world.bootstrap), topic, 0, 0)]


async def delete_before(bootstrap: str, topic: str, offset: int) -> None:
    """DeleteRecords."""
    from aiokafka import TopicPartition as ClientPartition
    from aiokafka.admin import RecordsToDelete

    admin = make_admin(Cluster.of(bootstrap))
    try:
        await admin.start()
        await admin.delete_records({ClientPartition(topic, 0): RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_a_topic_that_does_not_exist_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "OPEN_SECONDS", 3.0)
    async with PartitionReader(Cluster.of(world.bootstrap)) as partition:
        with pytest.raises(TopicMissing, match="no-such-topic"):
            await partition.open("no-such-topic", 0, 0)


async def test_a_broker_that_is_not_there_is_named() -> None:
    port = free_port()
    async with PartitionReader(Cluster.of(f"127.0.0.1:{port}")) as partition:
        with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
            await partition.open("topic", 0, 0)


async def test_a_closed_reader_cannot_be_opened_again() -> None:
    reader = PartitionReader(Cluster.of("127.0.0.1:1"))
    await reader.close()
    with pytest.raises(AssertionError, match="closed"):
        await reader.open("t", 0, 0)
