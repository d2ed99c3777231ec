"""The partitions of an assignment: what is read of them, where they end, and leaders that do not respond."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hub.delivery import reading
from hub.delivery.reading import AssignmentReader
from hub.protocol import ApiKey
from tests.conformance.reader.scripted_broker import TOPIC, Log, ScriptedBroker, batch, brokers
from tests.conformance.reader.test_faults import never
from tests.kafka.test_picking import KindRule

from .waiting import until


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    """A broker with two partitions."""
    async with brokers() as (one,):
        one.logs = {0: Log(), 1: Log()}
        one.leaders[1] = 1
        yield one


@asynccontextmanager
async def opened(broker: ScriptedBroker, *numbers: int) -> AsyncIterator[AssignmentReader]:
    """A reader of these partitions from their beginnings."""
    reader = AssignmentReader(broker.cluster, TOPIC, KindRule())
    try:
        bounds = await reader.open(numbers)
        assert bounds == {number: (broker.logs[number].start, broker.logs[number].visible_end) for number in numbers}
        reader.start({number: bound.low for number, bound in bounds.items()})
        yield reader
    finally:
        await reader.close()


async def some(reader: AssignmentReader, limit: int) -> list[bytes]:
    """The values of the next wanted records."""
    async with asyncio.timeout(30):
        while not (chunks := reader.read(limit)):
            await reader.wait()
    return [record.value for chunk in chunks for record, *_ in chunk.wanted]


def requests_for_ends(broker: ScriptedBroker) -> int:
    return sum(kind.key == ApiKey.LIST_OFFSETS for kind in broker.requests)


async def test_a_position_is_known_except_within_a_batch_and_passes_what_is_not_visible(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a", b"b", b"c", producer_id=1))
    broker.log.abort(2, 100)  # a marker
    async with opened(broker, 0) as reader:
        assert await some(reader, 2) == [b"a", b"b"]
        assert reader.position(0) == 0
        assert await some(reader, 2) == [b"c"]
        assert reader.position(0) == 4
        assert reader.read(2) == []


async def test_a_partition_that_is_paused_is_not_read(broker: ScriptedBroker) -> None:
    async with opened(broker, 0, 1) as reader:
        reader.pause(0)
        broker.logs[0].append(batch(b"0"))
        broker.logs[1].append(batch(b"1"))
        assert await some(reader, 10) == [b"1"]
        assert reader.read(10) == []
        reader.resume(0)
        assert await some(reader, 10) == [b"0"]


async def test_the_ends_come_with_the_records_and_are_requested_only_while_nothing_is_read(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "END_AGE_MS", -1)
    broker.logs[1].append(batch(b"a", b"b"))
    async with opened(broker, 0, 1) as reader:
        assert await some(reader, 10) == [b"a", b"b"]
        before = requests_for_ends(broker)
        waiting = asyncio.ensure_future(reader.wait())
        await asyncio.sleep(0)  # it waits now
        assert await reader.ends(ask=False) == {0: 0, 1: 2}
        assert requests_for_ends(broker) == before
        broker.logs[0].append(batch(b"c"))
        await waiting
        broker.logs[1].append(batch(b"d"))
        assert await reader.ends(ask=False) == {0: 1, 1: 3}, "requested, because there may be no room to read more"
        assert requests_for_ends(broker) == before + 1
        assert await reader.ends(ask=True) == {0: 1, 1: 3}
        assert requests_for_ends(broker) == before + 2


async def test_a_leader_that_owes_a_response_is_named(broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "OVERDUE_SECONDS", 0.05)
    broker.script.append(never)
    async with opened(broker, 0, 1) as reader:
        assert (reader.overdue_seconds, reader.away()) == (0, "the leaders respond slowly")
        waiting = asyncio.ensure_future(reader.wait())
        await until(lambda: reader.overdue_seconds > 0.05, "the response is overdue")
        assert reader.away() == f"{broker.cluster} does not respond, the leader of topic-0, topic-1"
        with pytest.raises(TimeoutError):
            await reader.ends(ask=False)
        broker.disconnect()
        await waiting
        assert reader.away() == "there is no connection to the leader of topic-0, topic-1"
        assert await reader.ends(ask=True) == {0: 0, 1: 0}, "it was looked up again"


async def test_closing_ends_a_wait(broker: ScriptedBroker) -> None:
    async with opened(broker, 0) as reader:
        waiting = asyncio.ensure_future(reader.wait())
        await until(lambda: broker.fetches, "a request for records")
        await reader.close()
        async with asyncio.timeout(30):
            await waiting
        await until(lambda: not broker.connections, "the connection is closed")


async def test_no_partitions_are_read_without_a_connection(broker: ScriptedBroker) -> None:
    async with opened(broker) as reader:
        assert await reader.ends(ask=True) == {}
        assert reader.read(10) == []
        assert broker.connections == set()
