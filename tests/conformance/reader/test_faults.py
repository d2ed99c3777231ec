"""A reader whose broker loses responses, is slow, moves partitions, sends invalid records or refuses sessions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hub.kafka import (
    ConnectionLost,
    CorruptBatch,
    OffsetOutOfRange,
    PartitionReader,
    PartitionUnavailable,
    TopicMissing,
    fetch_places,
    fetch_source,
    read_all,
    reader,
)
from hub.protocol import ApiKey, ErrorCode, Message
from hub.protocol.one_partition import FETCH_VERSION

from .scripted_broker import SPOKEN, TOPIC, ScriptedBroker, batch, brokers

WAIT_MS = 50
REQUEST_SECONDS = 0.3


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    async with brokers() as (one,):
        yield one


@asynccontextmanager
async def reading(broker: ScriptedBroker, offset: int = 0, **settings: Any) -> AsyncIterator[PartitionReader]:
    """An open reader of partition 0."""
    cluster = replace(broker.cluster, request_seconds=REQUEST_SECONDS)
    async with PartitionReader(cluster, **{"max_wait_ms": WAIT_MS, **settings}) as opened:
        await opened.open(TOPIC, 0, offset)
        yield opened


async def values(opened: PartitionReader, count: int) -> list[bytes | None]:
    """The next so many values."""
    found: list[bytes | None] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += [record.value for record in await opened.read(count - len(found), 1_000)]
    return found


async def failing(opened: PartitionReader) -> None:
    """Read until it raises."""
    async with asyncio.timeout(30):
        while True:
            assert await opened.read(10, 1_000) == []


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def never(message: Message) -> None:
    """Do not respond."""


# --- connections


async def test_a_response_that_does_not_come_is_a_lost_connection_and_reading_continues(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), batch(b"b"))
    async with reading(broker) as opened:
        assert await values(opened, 1) == [b"a"]
        assert await values(opened, 1) == [b"b"]
        broker.script.append(lambda message: never(message))
        with pytest.raises(ConnectionLost, match=rf"{broker.cluster} did not respond to Fetch within 0\.35 s") as lost:
            await failing(opened)
        assert lost.value.cause == f"leader {broker.cluster}"
        broker.log.append(batch(b"c"))
        assert await values(opened, 1) == [b"c"]


async def test_a_connection_that_is_reset_is_raised_at_once_and_once(broker: ScriptedBroker) -> None:
    async with reading(broker, max_wait_ms=60_000) as opened:
        waiting = asyncio.ensure_future(opened.read(10, 60_000))
        await until(lambda: broker.fetches)
        broker.disconnect()
        with pytest.raises(ConnectionLost, match="closed before the response arrived"):
            await waiting
        broker.log.append(batch(b"a"))
        assert await values(opened, 1) == [b"a"]


async def test_what_was_received_before_a_loss_is_read_first(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"))
    async with reading(broker) as opened:
        opened.seek(await opened.start_offset())
        broker.log.append(*[batch(b"%d" % n) for n in range(5)])
        assert await values(opened, 1) == [b"a"]
        broker.disconnect()
        await until(lambda: not broker.connections)
        assert await values(opened, 5) == [b"0", b"1", b"2", b"3", b"4"]
        with pytest.raises(ConnectionLost):
            await failing(opened)


@pytest.mark.parametrize("piece_bytes", [1, 3, 97])
async def test_a_response_in_small_pieces_is_read(broker: ScriptedBroker, piece_bytes: int) -> None:
    broker.piece_bytes = piece_bytes
    broker.log.append(batch(b"a" * 300), batch(b"b"))
    async with reading(broker) as opened:
        assert await values(opened, 2) == [b"a" * 300, b"b"]


async def test_bytes_that_are_not_of_the_protocol_are_a_lost_connection(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"))
    broker.script.append(lambda message: b"\0\0\0\0\0\0\0\0\0\0\xff")
    async with reading(broker) as opened:
        with pytest.raises(ConnectionLost, match="malformed response to Fetch"):
            await failing(opened)
        assert await values(opened, 1) == [b"a"]


async def test_a_cluster_is_reached_by_its_other_addresses(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"))
    cluster = replace(broker.cluster, addresses=(("127.0.0.1", 1), *broker.cluster.addresses))
    assert [record.value async for record in read_all(cluster, TOPIC, 0)] == [b"a"]


async def test_closing_ends_a_read_that_waits_and_the_connection(broker: ScriptedBroker) -> None:
    async with reading(broker, max_wait_ms=60_000) as opened:
        waiting = asyncio.ensure_future(opened.read(10, 60_000))
        await until(lambda: broker.fetches)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await until(lambda: not broker.connections)


# --- leaders


async def test_a_partition_that_moves_is_read_from_its_new_leader() -> None:
    async with brokers(2) as (one, two):
        one.log.append(batch(b"a"))
        async with reading(one) as opened:
            assert await values(opened, 1) == [b"a"]
            two.log.append(batch(b"a"), batch(b"b"))
            one.leaders[0] = two.number
            one.epoch = two.epoch = 6
            one.script.append(one.reply(code=ErrorCode.NOT_LEADER_OR_FOLLOWER))
            assert await values(opened, 1) == [b"b"]
            await until(lambda: not one.connections)
            assert len(two.connections) == 1
    epochs = [entry["current_leader_epoch"] for entry in two.fetches[0]["topics"][0]["partitions"]]
    assert (epochs, two.asked_offsets()[0]) == ([6], 1)


@pytest.mark.parametrize("code", sorted(fetch_source.NOT_SERVED))
async def test_a_leader_that_is_not_ready_is_asked_again(broker: ScriptedBroker, code: ErrorCode) -> None:
    broker.log.append(batch(b"a"))
    broker.script += [broker.reply(code=code)] * 2
    async with reading(broker) as opened:
        assert await values(opened, 1) == [b"a"]
    assert broker.asked_offsets()[:3] == [0, 0, 0]


async def test_a_leader_that_refuses_for_long_is_named(broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_source, "REFUSED_SECONDS", 0.1)
    broker.script += [broker.reply(code=ErrorCode.NOT_LEADER_OR_FOLLOWER)] * 1_000
    async with reading(broker) as opened:
        with pytest.raises(PartitionUnavailable, match=r"topic-0, .* does not serve it \(NOT_LEADER_OR_FOLLOWER\)") as away:
            await failing(opened)
        assert away.value.leader == str(broker.cluster)
        broker.script.clear()
        broker.log.append(batch(b"a"))
        assert await values(opened, 1) == [b"a"]


async def test_a_topic_that_is_deleted_while_it_is_read_is_named(broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_places, "SEARCH_SECONDS", 0.1)
    async with reading(broker) as opened:
        broker.leaders.clear()
        broker.script.append(broker.reply(code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
        with pytest.raises(TopicMissing, match=TOPIC):
            await failing(opened)


async def test_a_leader_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "OPEN_SECONDS", 0.2)
    async with brokers(2) as (one, two):
        one.leaders[0] = two.number
        gone = two.cluster
        await two.stop()
        with pytest.raises(PartitionUnavailable, match=f"The leader of topic-0, {gone}, does not respond"):
            async with reading(one):
                pass
        one.leaders[0] = -1
        with pytest.raises(PartitionUnavailable, match="topic-0 has no leader now"):
            async with reading(one):
                pass
        await two.start()


async def test_any_other_error_is_raised_with_its_name(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"))
    broker.script.append(broker.reply(code=ErrorCode.TOPIC_AUTHORIZATION_FAILED))
    broker.script.append(broker.reply(code=4711))
    async with reading(broker) as opened:
        for name in ("TOPIC_AUTHORIZATION_FAILED", "error 4711"):
            with pytest.raises(ConnectionLost, match=f"{broker.cluster} refused to return records of topic-0: {name}"):
                await failing(opened)
        assert await values(opened, 1) == [b"a"]


# --- offsets


async def test_an_offset_out_of_range_is_raised_until_the_reader_is_positioned(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), batch(b"b"))
    async with reading(broker, 7) as opened:
        for _ in range(2):
            with pytest.raises(OffsetOutOfRange) as gone:
                await failing(opened)
            assert (gone.value.topic, gone.value.partition, gone.value.offset) == (TOPIC, 0, 7)
        opened.seek(1)
        assert await values(opened, 1) == [b"b"]


async def test_the_response_to_a_request_before_a_seek_is_dropped(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), batch(b"b"))
    hold = asyncio.Event()

    async def late(message: Message) -> None:
        await hold.wait()

    broker.script.append(late)
    async with reading(broker) as opened:
        assert await opened.read(10, 1) == []
        opened.seek(1)
        assert await values(opened, 1) == [b"b"]
        assert opened.position == 2
        hold.set()


async def test_positions_can_be_changed_and_offsets_requested_during_a_long_poll(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), batch(b"b"))
    async with asyncio.timeout(30), reading(broker, 2, max_wait_ms=60_000) as opened:
        assert await opened.read(10, 1) == []
        assert (await opened.start_offset(), await opened.end_offset()) == (0, 2)
        opened.seek(0)
        assert await values(opened, 2) == [b"a", b"b"]
        await until(lambda: len(broker.connections) == 1)


async def test_offsets_are_requested_again_while_a_leader_is_not_ready(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"))
    broker.errors += [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.OFFSET_NOT_AVAILABLE]
    async with reading(broker) as opened:
        assert await opened.end_offset() == 1
        broker.errors.append(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        with pytest.raises(ConnectionLost, match="the offsets of topic-0: TOPIC_AUTHORIZATION_FAILED"):
            await opened.end_offset()


async def test_records_that_are_reported_and_not_returned_are_noticed(broker: ScriptedBroker) -> None:
    async with reading(broker) as opened:
        assert await opened.read(10, 1) == []
        await opened.ensure_moving()
        broker.script += [broker.reply(records=b"")] * 10_000
        broker.disconnect()  # a request that waits would return the record
        with pytest.raises(ConnectionLost):
            await failing(opened)
        broker.log.append(batch(b"a"))
        async with asyncio.timeout(30):
            while opened.seen is None or opened.seen.last_stable_offset != 1:
                assert await opened.read(10, 10) == []
        with pytest.raises(ConnectionLost, match="topic-0 has records up to offset 1, but none was received after 0"):
            await opened.ensure_moving()


# --- batches


def corrupt(one: bytes) -> bytes:
    """The same with a bit of a record inverted."""
    return one[:-1] + bytes([one[-1] ^ 1])


async def test_a_batch_with_a_wrong_checksum_is_raised_after_the_valid_ones(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), corrupt(batch(b"b")), batch(b"c"))
    async with reading(broker) as opened:
        assert await values(opened, 1) == [b"a"]
        for _ in range(2):
            with pytest.raises(CorruptBatch, match="topic-0 at offset 1: the batch at offset 1 has a wrong checksum"):
                await failing(opened)
        opened.seek(2)
        assert await values(opened, 1) == [b"c"]


@pytest.mark.parametrize("at", [8, 16, 61])
async def test_bytes_that_are_not_a_batch_are_corrupt_and_nothing_else(broker: ScriptedBroker, at: int) -> None:
    whole = batch(b"a")
    broker.script += [broker.reply(records=whole[:at] + b"\0\0\0\1" + whole[at + 4 :])] * 1_000
    broker.log.append(whole)
    async with reading(broker) as opened:
        with pytest.raises(CorruptBatch):
            await failing(opened)


async def test_a_batch_that_is_cut_off_at_the_end_is_requested_again(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a"), batch(b"b"))
    broker.script.append(broker.reply(records=broker.log.read(0, 1 << 20)[:-1]))
    async with reading(broker) as opened:
        assert await values(opened, 2) == [b"a", b"b"]
    assert broker.asked_offsets()[:2] == [0, 1]


async def test_a_batch_that_arrives_incomplete_is_requested_with_its_size(broker: ScriptedBroker) -> None:
    huge = batch(b"x" * 3_000_000)
    broker.log.append(huge)
    for length in (10, 100):  # a part of its header, and all of it
        broker.script.append(broker.reply(records=huge[:length]))
    async with reading(broker) as opened:
        assert [len(value or b"") for value in await values(opened, 1)] == [3_000_000]
    sizes = [topic["partitions"][0]["partition_max_bytes"] for one in broker.fetches[:3] for topic in one["topics"]]
    assert sizes == [1 << 20, 2 << 20, 4 << 20]


async def test_a_batch_that_is_larger_than_a_response_may_be_is_not_requested_for_ever(broker: ScriptedBroker) -> None:
    huge = bytearray(batch(b"x"))
    huge[8:12] = (1 << 30).to_bytes(4, "big")
    broker.log.append(batch(b"x"))
    broker.script += [broker.reply(records=bytes(huge))] * 1_000
    async with reading(broker) as opened:
        with pytest.raises(CorruptBatch, match=r"a batch of \d+ bytes is larger than"):
            await failing(opened)


async def test_a_length_that_no_request_can_have_is_corrupt_and_the_partition_can_be_read_afterwards(
    broker: ScriptedBroker,
) -> None:
    huge = bytearray(batch(b"x"))
    huge[8:12] = ((1 << 31) - 1).to_bytes(4, "big")
    broker.script.append(broker.reply(records=bytes(huge)))
    broker.log.append(batch(b"a"))
    async with reading(broker) as opened:
        with pytest.raises(CorruptBatch, match=r"a batch of 2147483659 bytes is larger than 33554432"):
            await failing(opened)
        assert await values(opened, 1) == [b"a"]
    assert [one["topics"][0]["partitions"][0]["partition_max_bytes"] for one in broker.fetches[:2]] == [1 << 20] * 2


async def test_a_batch_before_the_requested_offset_is_returned_from_there_on(broker: ScriptedBroker) -> None:
    broker.log.append(batch(b"a", b"b", b"c"))
    async with reading(broker, 1) as opened:
        assert await values(opened, 1) == [b"b"]
        assert opened.position == 2
        opened.seek(2)
        assert await values(opened, 1) == [b"c"]
        assert opened.position == 3


@pytest.mark.parametrize("committed", [True, False])
async def test_aborted_transactions_are_skipped_unless_they_are_wanted(broker: ScriptedBroker, committed: bool) -> None:
    log = broker.log
    log.append(batch(b"plain"))
    first = log.append(batch(b"lost", producer_id=1), batch(b"kept", producer_id=2))
    log.abort(1, first)
    log.append(batch(b"kept too", producer_id=1))
    again = log.append(batch(b"lost too", b"lost three", producer_id=2))
    log.abort(2, again)
    expected = [b"plain", b"kept", b"kept too"]
    if not committed:
        expected = [b"plain", b"lost", b"kept", b"kept too", b"lost too", b"lost three"]
        log.aborted.clear()  # which is what a broker then responds
    async with reading(broker, committed=committed) as opened:
        assert await values(opened, len(expected)) == expected
        assert opened.position == log.end == 8


async def test_a_transaction_that_began_before_the_requested_offset_is_skipped_too(broker: ScriptedBroker) -> None:
    first = broker.log.append(batch(b"lost", b"lost too", producer_id=1), batch(b"lost three", producer_id=1), batch(b"kept"))
    broker.log.abort(1, first)
    async with reading(broker, 1) as opened:
        assert await values(opened, 1) == [b"kept"]
        assert opened.position == 5


# --- sessions and versions


async def test_a_session_contains_only_what_has_changed(broker: ScriptedBroker) -> None:
    broker.sessions = True
    broker.log.append(batch(b"a"))
    async with reading(broker) as opened:
        assert await values(opened, 1) == [b"a"]
        seen = opened.seen
        assert await opened.read(10, 4 * WAIT_MS) == []
        assert opened.seen is not seen, "a response without the partition says that nothing has changed"
        broker.log.append(batch(b"b"))
        assert await values(opened, 1) == [b"b"]
    sessions = [(one["session_id"], one["session_epoch"], len(one["topics"])) for one in broker.fetches]
    assert sessions[:4] == [(0, 0, 1), (77, 1, 1), (77, 2, 0), (77, 3, 0)]


@pytest.mark.parametrize(
    ("code", "again"),
    [(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, (0, 0)), (ErrorCode.INVALID_FETCH_SESSION_EPOCH, (77, 0))],
)
async def test_a_session_that_is_refused_is_opened_again(broker: ScriptedBroker, code: ErrorCode, again: tuple[int, int]) -> None:
    broker.sessions = True
    broker.log.append(batch(b"a"))
    async with reading(broker) as opened:
        assert await values(opened, 1) == [b"a"]
        broker.script.append(lambda message: broker.response(code=code))
        broker.log.append(batch(b"b"))
        assert await values(opened, 1) == [b"b"]
    asked = [(one["session_id"], one["session_epoch"], len(one["topics"])) for one in broker.fetches]
    assert asked[:3] == [(0, 0, 1), (77, 1, 1), (*again, 1)]


async def test_without_a_session_every_request_is_complete(broker: ScriptedBroker) -> None:
    async with reading(broker) as opened:
        assert await opened.read(10, 3 * WAIT_MS) == []
    assert {(one["session_id"], one["session_epoch"], len(one["topics"])) for one in broker.fetches} == {(0, 0, 1)}


@pytest.mark.parametrize("highest", [4, 6, 7, 11, 12])
async def test_the_highest_version_of_the_broker_up_to_the_preferred_one_is_used(highest: int) -> None:
    async with brokers(spoken={ApiKey.FETCH: (4, highest), ApiKey.LIST_OFFSETS: (1, 3), ApiKey.METADATA: (0, 5)}) as (one,):
        first = one.log.append(batch(b"a"), batch(b"lost", producer_id=1), batch(b"b", b"c", compression="gzip"))
        one.log.abort(1, first + 1)
        assert [record.value async for record in read_all(one.cluster, TOPIC, 0)] == [b"a", b"b", b"c"]
        assert {kind.version for kind in one.requests if kind.key == ApiKey.FETCH} == {min(highest, FETCH_VERSION)}


async def test_a_later_version_is_used_if_the_broker_supports_no_earlier_one() -> None:
    async with brokers(spoken={**SPOKEN, ApiKey.FETCH: (FETCH_VERSION + 1, 17)}) as (one,):
        one.log.append(batch(b"a"))
        assert [record.value async for record in read_all(one.cluster, TOPIC, 0)] == [b"a"]
        assert {kind.version for kind in one.requests if kind.key == ApiKey.FETCH} == {FETCH_VERSION + 1}


async def test_a_broker_that_does_not_report_its_versions_gets_old_ones(broker: ScriptedBroker) -> None:
    broker.reports_versions = False
    broker.log.append(batch(b"a"))
    assert [record.value async for record in read_all(broker.cluster, TOPIC, 0)] == [b"a"]
    assert {kind.version for kind in broker.requests if kind.key == ApiKey.FETCH} == {4}


async def test_a_broker_without_a_common_version_is_refused() -> None:
    async with brokers(spoken={ApiKey.FETCH: (13, 17)}) as (one,):
        with pytest.raises(ConnectionLost, match=f"{one.cluster} does not support Fetch in any version"):
            async with reading(one):
                pass


# --- memory and requests


async def test_nothing_is_requested_while_nobody_reads(broker: ScriptedBroker) -> None:
    async with reading(broker) as opened:
        assert await opened.end_offset() == 0
        assert broker.fetches == []
        broker.log.append(batch(b"a"))
        assert await values(opened, 1) == [b"a"]
        assert len(broker.fetches) == 1


async def test_records_are_requested_in_advance_until_the_buffer_is_full(broker: ScriptedBroker) -> None:
    broker.log.append(*[batch(b"%06d" % n + bytes(300_000)) for n in range(40)])
    async with reading(broker) as opened:
        assert len(await opened.read(1, 1_000)) == 1
        await until(lambda: len(broker.fetches) >= 2)
        await opened.end_offset()  # the broker has processed what was requested
        asked = len(broker.fetches)
        assert 2 <= asked <= 3, "a response of three batches, and another one in advance"
        rest = [int((value or b"")[:6]) for value in await values(opened, 39)]
        assert rest == list(range(1, 40))


async def test_one_request_at_a_time_is_under_way(broker: ScriptedBroker) -> None:
    async with reading(broker) as opened:
        for n in range(20):
            broker.log.append(batch(b"%d" % n))
            assert await values(opened, 1) == [b"%d" % n]
        assert len(broker.fetches) <= 21
    assert broker.asked_offsets() == sorted(broker.asked_offsets())


async def test_reading_all_ends_where_the_end_was(broker: ScriptedBroker) -> None:
    broker.log.append(*[batch(b"%d" % n) for n in range(3)])
    found = []
    async with aclosing(read_all(broker.cluster, TOPIC, 0)) as records:  # type: ignore[type-var]
        async for record in records:
            broker.log.append(batch(b"later"))
            found.append(record.value)
    assert found == [b"0", b"1", b"2"]


async def test_reading_all_fails_if_nothing_comes(broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(reader, "READ_ALL_WAIT_MS", 20)
    broker.log.append(batch(b"a"))
    broker.script += [broker.reply(records=b"")] * 10_000
    with pytest.raises(ConnectionLost, match=r"nothing received for 0\.05 s at offset 0 of 1"):
        assert [record async for record in read_all(broker.cluster, TOPIC, 0)]
