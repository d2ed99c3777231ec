"""A partition that is followed while its broker restarts, or stays away."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from hub.broker import BrokerServer
from hub.kafka import (
    EVENTS,
    BrokerUnreachable,
    Cluster,
    KafkaTransport,
    OffsetOutOfRange,
    Outgoing,
    RecordReader,
    Sender,
    StoredRecord,
    delete_records,
    following,
    reader,
)
from tests.client.test_restart import HangsOnce, broker, restarted

__all__ = ["broker"]  # the fixture


async def first(opened: RecordReader) -> int:
    """Begin with the first record kept."""
    return await opened.start_offset()


def followed(broker: BrokerServer, *, outage_seconds: float = 60) -> AsyncGenerator[list[StoredRecord], None]:
    """What is followed."""
    transport = KafkaTransport(Cluster.of(broker.bootstrap))
    return following.follow(transport, EVENTS, 0, first, client_id="test", outage_seconds=outage_seconds)


async def append(broker: BrokerServer, *values: int) -> None:
    """Add records."""
    sender = Sender(Cluster.of(broker.bootstrap))
    await sender.start()
    await sender.send_many([Outgoing(EVENTS, 0, b"k", b"%d" % value, []) for value in values])
    await sender.stop()


async def take(records: AsyncGenerator[list[StoredRecord], None], number: int) -> list[int]:
    """The next so many values."""
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < number:
            found.extend(int(record.value or b"") for record in await anext(records))
    return found


async def test_what_is_followed_continues_after_the_last_record(broker: BrokerServer, tmp_path: Path) -> None:
    await append(broker, 1, 2)
    async with aclosing(followed(broker)) as records:
        assert await take(records, 2) == [1, 2]
        for value in (3, 5):
            await broker.stop()
            broker = await restarted(broker, tmp_path)
            await append(broker, value, value + 1)
            assert await take(records, 2) == [value, value + 1]
    await broker.stop()


async def test_following_begins_when_the_broker_is_back(broker: BrokerServer, tmp_path: Path) -> None:
    await append(broker, 1)
    await broker.stop()
    async with aclosing(followed(broker)) as records:
        taking = asyncio.create_task(take(records, 1))
        with pytest.raises(BrokerUnreachable):
            await take(followed(broker, outage_seconds=0), 1)
        broker = await restarted(broker, tmp_path)
        assert await taking == [1]
    await broker.stop()


async def test_a_broker_that_stays_away_ends_it(broker: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "OPEN_SECONDS", 2.0)
    monkeypatch.setattr(following, "CHECK_SECONDS", 0.5)
    await append(broker, 1)
    async with aclosing(followed(broker, outage_seconds=0.1)) as records:
        await take(records, 1)
        await broker.stop()
        with pytest.raises(BrokerUnreachable, match=broker.bootstrap):
            await take(records, 1)


async def test_a_reader_that_hangs_is_replaced(broker: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHECK_SECONDS", 0.2)
    await append(broker, 1, 2)
    transport = HangsOnce(Cluster.of(broker.bootstrap))
    async with aclosing(following.follow(transport, EVENTS, 0, first, client_id="test")) as records:
        assert await take(records, 2) == [1, 2]
    assert transport.readers == 2


async def test_records_that_were_deleted_before_they_were_read_are_not_skipped(broker: BrokerServer, tmp_path: Path) -> None:
    await append(broker, 1)
    async with aclosing(followed(broker)) as records:
        await take(records, 1)
        await broker.stop()
        elsewhere = BrokerServer(tmp_path)  # on a port that the reader does not know
        await elsewhere.start()
        await append(elsewhere, 2, 3)
        await delete_records(Cluster.of(elsewhere.bootstrap), EVENTS, 0, 2)
        await elsewhere.stop()
        broker = await restarted(broker, tmp_path)
        with pytest.raises(OffsetOutOfRange):
            await take(records, 1)
    await broker.stop()
