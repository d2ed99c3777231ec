"""Reading several partitions at once: turns, limits of memory, pauses, and undecoded batches for a picker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from hub.kafka import ConnectionLost, RecordPicker, TopicMissing, TopicPartition, fetch_places
from hub.kafka.fetch_buffer import TakenBatch
from hub.kafka.fetching import Fetcher, FetchSettings
from hub.kafka.leaders import EARLIEST, LATEST, BrokerConnections
from hub.protocol import ApiKey, ErrorCode, Message, encode_response
from hub.protocol.one_partition import FETCH_VERSION
from tests.kafka.test_picking import KindRule

from .scripted_broker import TOPIC, Log, ScriptedBroker, batch, brokers
from .test_faults import until

P0, P1, P2 = (TopicPartition(TOPIC, number) for number in range(3))


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    """A broker with three partitions."""
    async with brokers() as (one,):
        one.logs = {0: Log(), 1: Log(), 2: Log()}
        one.leaders.update({1: 1, 2: 1})
        yield one


@asynccontextmanager
async def fetching(broker: ScriptedBroker, offsets: Mapping[TopicPartition, int], **settings: Any) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(broker.cluster, FetchSettings(**{"max_wait_ms": 50, **settings}))
    try:
        await fetcher.open(offsets)
        yield fetcher
    finally:
        await fetcher.close()


async def take(fetcher: Fetcher) -> TakenBatch:
    """The next batch."""
    async with asyncio.timeout(30):
        while (taken := fetcher.take()) is None:
            await fetcher.wait(1)
    return taken


def values(taken: TakenBatch) -> list[bytes]:
    return [record.value for record in taken.batch.decode() if record.offset >= taken.from_offset]


async def test_partitions_of_a_broker_share_requests_and_take_turns(broker: ScriptedBroker) -> None:
    for number, log in broker.logs.items():
        log.append(*[batch(b"%d.%d" % (number, n)) for n in range(3)])
    async with fetching(broker, {P0: 0, P1: 1, P2: 2}) as fetcher:
        taken = [await take(fetcher) for _ in range(6)]
        assert [one.partition for one in taken] == [P0, P1, P2, P0, P1, P0]
        assert sorted(value for one in taken for value in values(one)) == [b"0.0", b"0.1", b"0.2", b"1.1", b"1.2", b"2.2"]
        assert [fetcher.buffer(one).position for one in (P0, P1, P2)] == [3, 3, 3]
        assert len(broker.fetches) == 1
        assert len(broker.connections) == 1
        assert await fetcher.offsets(LATEST, [P0, P2]) == {P0: 3, P2: 3}
        assert await fetcher.offsets(EARLIEST, [P1]) == {P1: 0}


async def test_partitions_of_several_brokers_are_read_at_once() -> None:
    async with brokers(2) as (one, two):
        for number, owner in ((0, one), (1, two)):
            one.leaders[number] = owner.number
            owner.logs[number] = Log()
            owner.logs[number].append(batch(b"%d" % number))
        async with fetching(one, {P0: 0, P1: 0}) as fetcher:
            assert {(taken := await take(fetcher)).partition: values(taken) for _ in range(2)} == {P0: [b"0"], P1: [b"1"]}
            assert (len(one.connections), len(two.connections)) == (1, 1)
            two.disconnect()
            one.log.append(batch(b"later"))
            two.logs[1].append(batch(b"later"))
            found: list[TopicPartition] = []
            lost = 0
            async with asyncio.timeout(30):
                while len(found) < 2:
                    try:
                        found.append((await take(fetcher)).partition)
                    except ConnectionLost:
                        lost += 1
            assert (sorted(found), lost) == ([P0, P1], 1), "the loss is raised once, and the other broker is not disturbed"


async def test_a_partition_that_is_paused_is_not_requested_and_what_is_buffered_is_kept(broker: ScriptedBroker) -> None:
    for log in broker.logs.values():
        log.append(batch(b"a"), batch(b"b"))
    async with fetching(broker, {P0: 0, P1: 0}, max_wait_ms=60_000) as fetcher:
        assert (await take(fetcher)).partition == P0
        fetcher.pause(P0)
        assert [(await take(fetcher)).partition for _ in range(2)] == [P1, P1]
        assert fetcher.take() is None
        assert not await fetcher.wait(0.01)
        assert [entry["partition"] for entry in broker.fetches[-1]["topics"][0]["partitions"]] == [1]
        broker.log.append(batch(b"c"))
        fetcher.resume(P0)
        assert [values(await take(fetcher)) for _ in range(2)] == [[b"b"], [b"c"]], "not after the long poll for the other one"


async def test_a_partition_is_resumed_while_the_reader_waits(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), batch(b"b"))
    async with fetching(broker, {P0: 0, P1: 0}, max_wait_ms=60_000) as fetcher:
        await take(fetcher)
        fetcher.pause(P0)
        assert fetcher.take() is None
        waiting = asyncio.ensure_future(fetcher.wait(30))
        await until(lambda: len(broker.fetches) == 2)
        fetcher.resume(P0)
        assert await waiting
        assert values(await take(fetcher)) == [b"b"]


async def test_a_full_partition_is_not_overtaken_by_a_long_poll_for_an_idle_one(broker: ScriptedBroker) -> None:
    broker.log.append(*[batch(bytes(1_000)) for _ in range(30)])
    async with asyncio.timeout(30), fetching(broker, {P0: 0, P1: 0}, max_wait_ms=60_000, partition_bytes=5_000) as fetcher:
        for _ in range(30):
            await take(fetcher)
        assert fetcher.buffer(P0).position == 30


async def test_all_partitions_together_have_a_limit(broker: ScriptedBroker) -> None:
    for log in broker.logs.values():
        log.append(*[batch(bytes(1_000)) for _ in range(20)])
    async with fetching(broker, {P0: 0, P1: 0, P2: 0}, partition_bytes=5_000, buffer_bytes=9_000) as fetcher:
        await fetcher.wait(1)
        await fetcher.offsets(LATEST, [P0])  # the broker has processed what was requested
        assert len(broker.fetches) == 1, "three times about 5 kB are buffered"
        for _ in range(60):
            await take(fetcher)
        assert [fetcher.buffer(one).position for one in (P0, P1, P2)] == [20, 20, 20]


async def test_what_the_broker_reported_is_known_by_partition(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"))
    first = broker.log.append(batch(b"open", producer_id=1))
    broker.log.stable = first
    async with fetching(broker, {P0: 0, P1: 0}) as fetcher:
        assert fetcher.buffer(P0).seen is None
        await take(fetcher)
        seen, other = fetcher.buffer(P0).seen, fetcher.buffer(P1).seen
        assert seen is not None
        assert other is not None
        assert (seen.high_watermark, seen.last_stable_offset, seen.log_start, other.high_watermark) == (2, 1, 0, 0)
        assert seen.at_ms == other.at_ms > 0


async def test_a_picker_takes_batches_that_were_not_decoded(broker: ScriptedBroker) -> None:
    broker.log.append(batch(*[b"%d" % n for n in range(20)]))
    async with fetching(broker, {P0: 5}) as fetcher:
        taken = await take(fetcher)
        count, wanted = RecordPicker(KindRule()).pick(taken.batch, taken.from_offset)
        assert count == 15
        assert [record.value for record, *_ in wanted] == [b"%d" % n for n in range(5, 20)]


async def test_one_record_costs_two_turns_of_the_event_loop(broker: ScriptedBroker) -> None:
    """The one in which its response arrives, and the one of the reader."""
    loop = asyncio.get_running_loop()
    async with fetching(broker, {P0: 0}, max_wait_ms=60_000) as fetcher:
        source = fetcher._table.places[P0]
        sent: list[Any] = []
        source.broker.connection.send = lambda *args, **named: sent.append(args)  # type: ignore[method-assign]
        waiting = asyncio.ensure_future(fetcher.wait(60))
        await until(lambda: sent)
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1
            if not waiting.done():
                loop.call_soon(count)

        broker.log.append(batch(b"a"))
        entry = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}
        body = encode_response(ApiKey.FETCH, FETCH_VERSION, broker.response(broker.partition(entry)))
        sent.pop()[2](body)
        loop.call_soon(count)
        assert await waiting
        assert turns <= 2
        assert sent == [], "the next request is sent when the reader waits again"


async def test_a_partition_that_moves_to_a_broker_with_a_long_poll_is_read_at_once() -> None:
    async with asyncio.timeout(30), brokers(2) as (one, two):
        one.logs = two.logs = {0: Log(), 1: Log()}
        one.leaders[1] = two.number
        one.logs[1].append(batch(b"moved"))

        def move(message: Message) -> Message | bytes | None | Awaitable[None]:
            one.leaders[1] = one.number
            return two.reply(code=ErrorCode.NOT_LEADER_OR_FOLLOWER)(message)

        two.script.append(move)
        async with fetching(one, {P0: 0, P1: 0}, max_wait_ms=60_000) as fetcher:
            assert await fetcher.wait(20), "not after the long poll, nor when the reader waits again"
            assert values(await take(fetcher)) == [b"moved"]
            await until(lambda: (len(one.connections), len(two.connections)) == (1, 0))


async def test_a_failed_search_is_repeated_by_a_reader_that_waits_again_at_once(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_places, "SEARCH_SECONDS", 0.1)
    async with asyncio.timeout(30), fetching(broker, {P0: 0}) as fetcher:
        leaders = dict(broker.leaders)
        broker.leaders.clear()
        broker.script.append(broker.reply(code=ErrorCode.NOT_LEADER_OR_FOLLOWER))
        assert await fetcher.wait(20)
        with pytest.raises(TopicMissing):
            fetcher.take()
        broker.log.append(batch(b"a"))
        broker.leaders.update(leaders)
        assert await fetcher.wait(20)
        assert values(await take(fetcher)) == [b"a"]


async def test_searches_at_once_share_the_connections_of_their_brokers(broker: ScriptedBroker) -> None:
    with closing(BrokerConnections(broker.cluster, role="test")) as connections:
        for found, missing in await asyncio.gather(*(connections.locate([P0, P1]) for _ in range(3))):
            assert (set(found), missing) == ({P0, P1}, None)
        assert len(broker.connections) == 1
    await until(lambda: not broker.connections)


async def test_the_end_of_a_search_closes_no_connection_that_another_one_has_opened() -> None:
    async with asyncio.timeout(30), brokers(2) as (one, two):
        one.logs = two.logs = {0: Log(), 1: Log()}
        one.leaders[1] = two.number
        async with fetching(one, {P0: 0, P1: 0}, max_wait_ms=60_000) as fetcher:
            table, hold = fetcher._table, asyncio.Event()
            locate = table._brokers.locate

            async def late(*arguments: Any) -> Any:
                found = await locate(*arguments)
                await hold.wait()
                return found

            table.leave(table.places[P1], [P1])
            table._brokers.keep_only([one_source.broker.address for one_source in table.all()])
            table._brokers.locate = late  # type: ignore[assignment,method-assign]
            searching = asyncio.ensure_future(table.search(20))
            await until(lambda: two.fetches or len(table._brokers._open) == 2)
            table._brokers.locate = locate  # type: ignore[method-assign]
            unrelated = table.places.pop(P0)
            table.places[P0], table.places[P1] = unrelated, unrelated  # nothing is missing: the next search ends at once
            await table.search(20)
            del table.places[P1]
            hold.set()
            await searching
            assert table.places[P1].broker.connection.is_open
