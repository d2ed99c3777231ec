"""The guarantees of a transport for clients and workers: over TCP on both brokers, and in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from hub.kafka import (
    BATCH_BYTES_MAX,
    EVENTS,
    INBOX_PARTITIONS,
    INTAKE,
    Cluster,
    KafkaTransport,
    Outgoing,
    RecordReader,
    RecordTooLarge,
    StoredRecord,
    TopicMissing,
    Transport,
    commands_topic,
    ensure_topics,
    hub_topics,
)
from hub.testing.broker import BrokerInMemory
from hub.testing.manual_time import ManualTime
from hub.testing.transport import MemoryTransport
from tests.brokers import BROKERS, broker_in_thread

PARTITIONS = 3


@asynccontextmanager
async def in_memory() -> AsyncIterator[Transport]:
    """The topics of a hub on a broker in memory, in real time."""
    clock = ManualTime(asyncio.get_running_loop())
    broker = BrokerInMemory(clock, on_written=lambda: None)
    for spec in hub_topics(PARTITIONS):
        await broker.local.create_topic(spec.name, spec.partitions, spec.config)
    yield MemoryTransport(broker.local, clock.now_ms)
    broker.close()


@pytest.fixture(params=[*BROKERS, "memory"])
def address(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """host:port of a broker without a hub; None for the one in memory."""
    if request.param == "embedded":
        with broker_in_thread() as server:
            yield server.bootstrap
    else:
        yield request.getfixturevalue("private_kafka") if request.param == "kafka" else None


@pytest.fixture
async def transport(address: str | None) -> AsyncIterator[Transport]:
    """A transport to a hub's topics."""
    if address is None:
        async with in_memory() as memory:
            yield memory
    else:
        await ensure_topics(Cluster.of(address), partitions=PARTITIONS)
        yield KafkaTransport(Cluster.of(address))


def outgoing(value: bytes, partition: int = 1) -> Outgoing:
    return Outgoing(INTAKE, partition, b"key", value, [("ce_type", b"t")])


async def read(reader: RecordReader, count: int) -> list[StoredRecord]:
    """Exactly `count` records."""
    found: list[StoredRecord] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += await reader.read(count - len(found), 100)
    assert len(found) == count
    return found


async def test_what_is_sent_is_read_in_order_and_posts_are_settled(transport: Transport) -> None:
    settled: list[int] = []
    sender = transport.sender(client_id="test")
    await sender.start()
    async with transport.reader(client_id="test") as reader:
        await reader.open(INTAKE, 1, 0)
        end = await reader.end_offset()
        reader.seek(end)
        await sender.send(outgoing(b"a"))
        await sender.send_many([outgoing(b"b"), outgoing(b"elsewhere", 2), outgoing(b"c")])
        for number in range(3):
            await sender.post(outgoing(b"%d" % number), partial(settled.append, number))
        assert await sender.flush(timeout_seconds=60)
        assert settled == [0, 1, 2]
        found = await read(reader, 6)
        assert [record.value for record in found] == [b"a", b"b", b"c", b"0", b"1", b"2"]
        assert [record.offset for record in found] == list(range(end, end + 6))
        assert (found[0].key, tuple(found[0].headers)) == (b"key", (("ce_type", b"t"),))
        assert await reader.end_offset() == end + 6
        assert await reader.start_offset() <= end
        await reader.ensure_moving()
        reader.seek(end + 4)
        assert [record.value for record in await read(reader, 2)] == [b"1", b"2"]
    values = [record.value async for record in transport.read_all(INTAKE, 1)]
    assert values[-6:] == [b"a", b"b", b"c", b"0", b"1", b"2"]
    await sender.stop()


async def test_a_reader_waits_for_what_comes_later(transport: Transport) -> None:
    sender = transport.sender(client_id="test")
    await sender.start()
    async with transport.reader(client_id="test") as reader:
        await reader.open(INTAKE, 0, 0)
        reader.seek(await reader.end_offset())
        waiting = asyncio.create_task(read(reader, 1))
        await sender.send(outgoing(b"late", 0))
        assert [record.value for record in await waiting] == [b"late"]
    await sender.stop()


async def test_a_record_that_is_too_large_is_refused(transport: Transport) -> None:
    sender = transport.sender(client_id="test")
    await sender.start()
    with pytest.raises(RecordTooLarge):
        await sender.send(outgoing(b"x" * (BATCH_BYTES_MAX + 1)))
    with pytest.raises(RecordTooLarge):
        await sender.post(outgoing(b"x" * (BATCH_BYTES_MAX + 1)))
    await sender.send(outgoing(b"small"))
    await sender.stop()


async def test_the_hub_has_its_partitions_and_a_pool_gets_its_topic(transport: Transport) -> None:
    assert await transport.describe_partitions() == PARTITIONS
    for _ in range(2):
        await transport.ensure_pool("conformance")
    async with transport.reader(client_id="test") as reader:
        await reader.open(commands_topic("conformance"), INBOX_PARTITIONS - 1, 0)
        assert await reader.end_offset() == 0
    assert [record async for record in transport.read_all(EVENTS, 0)] == []


async def test_in_memory_a_topic_that_is_not_there_is_missing() -> None:
    async with in_memory() as memory:
        with pytest.raises(TopicMissing, match="nowhere"):
            await memory.reader(client_id="test").open("nowhere", 0, 0)
