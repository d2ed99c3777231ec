"""What a reader of partitions does on both brokers. Faults are in `test_faults.py`, the simplest cases in `tests/kafka`."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hub.kafka import (
    Cluster,
    Kip890Session,
    OffsetOutOfRange,
    PartitionReader,
    TopicMissing,
    TopicPartition,
    delete_records,
    fetch_places,
    make_admin,
)
from hub.kafka.encoding import COMPRESSIONS
from hub.kafka.fetching import Fetcher, FetchSettings
from hub.kafka.leaders import EARLIEST, LATEST
from tests.brokers import unique
from tests.conformance.session.worlds import World, record

from .test_fetching import take, values

FOREVER_MS = 60_000
"""Longer than any test: who waits for the end of a long poll fails."""


@pytest.fixture
def world(bootstrap: str) -> World:
    """A broker and KIP-890 sessions on it."""
    return World(bootstrap, Kip890Session)


async def write(world: World, topic: str, outputs: Mapping[int, list[str]], **settings: Any) -> None:
    """One transaction with these values by partition."""
    session = world.session(unique("writer"), **settings)
    await session.open()
    await session.commit({TopicPartition(topic, number): [record(one) for one in found] for number, found in outputs.items()})
    await session.close()


@asynccontextmanager
async def fetching_of(world: World, offsets: Mapping[TopicPartition, int], **settings: Any) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(Cluster.of(world.bootstrap), FetchSettings(**settings))
    try:
        await fetcher.open(offsets, timeout_seconds=60)
        yield fetcher
    finally:
        await fetcher.close()


async def read(reader: PartitionReader, count: int) -> list[bytes | None]:
    """The next so many values."""
    found: list[bytes | None] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += [one.value for one in await reader.read(count - len(found), 1_000)]
    return found


async def test_several_partitions_over_many_requests_without_gaps(world: World) -> None:
    topic = await world.topic(3)
    places = [TopicPartition(topic, number) for number in range(3)]
    found: dict[TopicPartition, list[bytes]] = {one: [] for one in places}
    async with fetching_of(world, dict.fromkeys(places, 0), max_wait_ms=20) as fetcher:
        for turn in range(6):
            assert not await fetcher.wait(0.05) or turn, "nothing has changed: a session has empty responses"
            await write(world, topic, {number: [f"{turn}.{number}"] for number in range(3) if number != turn % 3})
            while sum(map(len, found.values())) < 2 * (turn + 1):
                taken = await take(fetcher)
                found[taken.partition] += values(taken)
        ends = await fetcher.offsets(LATEST, places)
        async with asyncio.timeout(30):
            while {one: fetcher.buffer(one).position for one in places} != ends:
                await fetcher.wait(1)
        assert await fetcher.offsets(EARLIEST, places) == dict.fromkeys(places, 0)
    assert found == {one: [b"%d.%d" % (turn, one.partition) for turn in range(6) if turn % 3 != one.partition] for one in places}


async def test_a_record_is_received_when_it_is_written_and_not_at_the_end_of_the_long_poll(world: World) -> None:
    topic = await world.topic()
    async with PartitionReader(Cluster.of(world.bootstrap), max_wait_ms=FOREVER_MS) as reader:
        await reader.open(topic, 0, 0)
        for number in range(3):
            assert await reader.read(10, 20) == []
            await write(world, topic, {0: [f"{number}"]})
            assert await read(reader, 1) == [b"%d" % number]


async def test_a_read_without_records_is_followed_by_a_response_if_this_is_requested(world: World) -> None:
    topic = await world.topic()
    async with (
        asyncio.timeout(30),
        PartitionReader(Cluster.of(world.bootstrap), max_wait_ms=FOREVER_MS, within_read=True) as reader,
    ):
        await reader.open(topic, 0, 0)
        for number in range(2):
            before = reader.seen
            assert await reader.read(10, 100) == []
            while (seen := reader.seen) is before or seen is None:
                assert await reader.read(10, 20) == []
            assert (seen.last_stable_offset, reader.position) == (2 * number, 2 * number)
            await write(world, topic, {0: [f"{number}"]})
            assert await read(reader, 1) == [b"%d" % number]
            while reader.position < 2 * number + 2:
                await reader.read(10, 20)


async def test_a_position_is_changed_and_offsets_are_requested_during_a_long_poll(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, {0: ["a", "b"]})
    async with asyncio.timeout(30), PartitionReader(Cluster.of(world.bootstrap), max_wait_ms=FOREVER_MS) as reader:
        await reader.open(topic, 0, 0)
        assert await read(reader, 2) == [b"a", b"b"]
        assert await reader.read(10, 20) == []
        assert (await reader.start_offset(), await reader.end_offset()) == (0, 3)
        reader.seek(1)
        assert await read(reader, 1) == [b"b"]


async def test_a_partition_is_resumed_during_a_long_poll(world: World) -> None:
    topic = await world.topic(2)
    one, two = (TopicPartition(topic, number) for number in range(2))
    async with asyncio.timeout(30), fetching_of(world, {one: 0, two: 0}, max_wait_ms=FOREVER_MS) as fetcher:
        fetcher.pause(one)
        assert not await fetcher.wait(0.02)
        await write(world, topic, {0: ["paused"]})
        assert not await fetcher.wait(0.02)
        fetcher.resume(one)
        assert values(await take(fetcher)) == [b"paused"]


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
async def test_batches_of_any_compression_are_read(world: World, compression: str) -> None:
    topic = await world.topic()
    written = [f"{number} " + "x" * 2_000 for number in range(50)]
    await write(world, topic, {0: written}, compression=compression)
    async with PartitionReader(Cluster.of(world.bootstrap)) as reader:
        await reader.open(topic, 0, 10)
        assert await read(reader, 40) == [one.encode() for one in written[10:]]


async def test_a_batch_that_is_larger_than_what_is_requested_is_read(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, {0: ["small"]})
    await write(world, topic, {0: ["x" * 3_000_000]})
    await write(world, topic, {0: ["y" * 3_000_000]})
    async with PartitionReader(Cluster.of(world.bootstrap)) as reader:
        await reader.open(topic, 0, 0)
        assert [len(value or b"") for value in await read(reader, 3)] == [5, 3_000_000, 3_000_000]


async def test_aborted_and_open_transactions_are_read_only_on_request(world: World) -> None:
    topic, owner = await world.topic(), unique("owner")
    place = TopicPartition(topic, 0)
    await world.abandon(owner, {place: [record("aborted")]})
    session = world.session(owner)
    await session.open()  # aborts it
    await session.close()
    await write(world, topic, {0: ["committed"]})
    await world.abandon(unique("other"), {place: [record("open")]})
    await write(world, topic, {0: ["hidden"]})
    async with PartitionReader(Cluster.of(world.bootstrap)) as committed:
        await committed.open(topic, 0, 0)
        assert await read(committed, 1) == [b"committed"]
        assert await committed.read(10, 50) == []
    async with PartitionReader(Cluster.of(world.bootstrap), committed=False) as everything:
        await everything.open(topic, 0, 0)
        assert await read(everything, 4) == [b"aborted", b"committed", b"open", b"hidden"]


async def test_records_that_are_deleted_before_they_are_read_are_not_skipped(world: World) -> None:
    topic = await world.topic()
    await write(world, topic, {0: ["a", "b", "c"]})
    async with PartitionReader(Cluster.of(world.bootstrap)) as reader:
        await reader.open(topic, 0, 1)
        await delete_records(Cluster.of(world.bootstrap), topic, 0, 2)
        with pytest.raises(OffsetOutOfRange):
            await read(reader, 1)
        reader.seek(await reader.start_offset())
        assert await read(reader, 1) == [b"c"]


async def test_a_topic_that_is_deleted_during_a_long_poll_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_places, "SEARCH_SECONDS", 0.3)
    topic = await world.topic()
    admin = make_admin(Cluster.of(world.bootstrap))
    async with PartitionReader(Cluster.of(world.bootstrap), max_wait_ms=100) as reader:
        await reader.open(topic, 0, 0)
        assert await reader.read(10, 20) == []
        try:
            await admin.start()
            await admin.delete_topics([topic])
        finally:
            await admin.close()
        with pytest.raises(TopicMissing, match=topic):
            await read(reader, 1)


async def test_the_times_of_responses_are_those_of_this_machine(world: World) -> None:
    topic = await world.topic()
    before_ms = time.time_ns() // 1_000_000
    async with PartitionReader(Cluster.of(world.bootstrap), max_wait_ms=10) as reader:
        await reader.open(topic, 0, 0)
        async with asyncio.timeout(30):
            while (seen := reader.seen) is None:
                await reader.read(10, 20)
        assert before_ms <= seen.at_ms <= time.time_ns() // 1_000_000
        assert (seen.last_stable_offset, seen.high_watermark) == (0, 0)
