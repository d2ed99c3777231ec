"""The in-process API: atomic appends, and reads at the append position."""

import asyncio
from pathlib import Path

import pytest

from hub.broker import BrokerError, BrokerServer, ProducerId
from hub.protocol import ErrorCode

from .client import RawClient, batch, values_of
from .test_flushing import CountedDisk
from .test_repaired_transactions import Session
from .test_restart import crash, running


def seen(server: BrokerServer, topic: str, **options: bool) -> list[bytes]:
    return values_of(server.local.fetch(topic, 0, 0, max_bytes=1 << 30, **options).data)


async def test_an_append_to_several_partitions_is_one_journal_write(tmp_path: Path) -> None:
    storage = CountedDisk(tmp_path)
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    local = server.local
    for topic in ("a", "b", "c"):
        await local.create_topic(topic, 1)
    owner = await local.init_producer("tx", timeout_ms=60_000)
    before = storage.writes
    for number in range(5):
        batches = {(topic, 0): [batch([b"%d" % number])] for topic in ("a", "b", "c")}
        offsets = await local.append_together(owner, batches, marked=[("a", 0)])
        assert offsets == {("a", 0): number * 2, ("b", 0): number, ("c", 0): number}
    assert storage.writes == before + 5
    for topic in ("a", "b", "c"):
        assert seen(server, topic) == [b"0", b"1", b"2", b"3", b"4"]
    await server.stop()


async def test_after_a_crash_all_partitions_of_an_append_have_it_or_none(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    async with running(directory) as server:
        local = server.local
        for topic in ("a", "b"):
            await local.create_topic(topic, 1)
        owner = await local.init_producer("tx", timeout_ms=60_000)
        await local.append_together(owner, {(topic, 0): [batch([b"kept"])] for topic in ("a", "b")}, marked=[("a", 0)])
        local.append_together_soon(owner, {(topic, 0): [batch([b"lost"])] for topic in ("a", "b")}, marked=[("a", 0)])
        assert [seen(server, topic) for topic in ("a", "b")] == [[b"kept"]] * 2
        crashed = crash(server, directory)
    async with running(crashed) as server:
        assert [seen(server, topic, unsynced=True) for topic in ("a", "b")] == [[b"kept"]] * 2
        assert [server.local.end(topic, 0, committed=False) for topic in ("a", "b")] == [2, 1]


async def test_unsynced_readers_see_what_others_do_not_yet(disk_broker: BrokerServer) -> None:
    local = disk_broker.local
    await local.create_topic("t", 1)
    assert local.append_soon("t", 0, batch([b"input"])) == 0
    assert seen(disk_broker, "t") == []
    assert seen(disk_broker, "t", unsynced=True) == [b"input"]
    assert local.end("t", 0) == 0
    assert local.end("t", 0, unsynced=True) == 1
    await local.stable()
    assert seen(disk_broker, "t") == [b"input"]


async def test_a_reader_at_the_end_gets_nothing(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    for committed in (True, False):
        assert broker.local.fetch("t", 0, 0, max_bytes=1 << 20, committed=committed).data == b""
    for end in (1, 2):
        await broker.local.append("t", 0, batch([b"x"]))
        for committed in (True, False):
            assert broker.local.fetch("t", 0, end - 1, max_bytes=1 << 20, committed=committed).data
            assert broker.local.fetch("t", 0, end, max_bytes=1 << 20, committed=committed).data == b""


async def test_unsynced_readers_obey_open_and_aborted_transactions(disk_broker: BrokerServer) -> None:
    local = disk_broker.local
    await local.create_topic("t", 1)
    async with RawClient(disk_broker.host, disk_broker.port) as client:
        session = Session(client)
        await session.open()
        await session.produce(b"open")
        local.append_soon("t", 0, batch([b"after"]))
        assert local.end("t", 0, unsynced=True) == 0
        await session.end(commit=False)
    fetched = local.fetch("t", 0, 0, max_bytes=1 << 20, unsynced=True)
    assert fetched.aborted == [(session.producer_id, 0)]
    assert fetched.end == 3


async def test_an_append_to_several_partitions_is_unstable_for_others_until_it_is_on_disk(disk_broker: BrokerServer) -> None:
    local = disk_broker.local
    await local.create_topic("t", 1)
    owner = await local.init_producer("tx", timeout_ms=60_000)
    local.append_together_soon(owner, {("t", 0): [batch([b"x"])]}, marked=[("t", 0)])
    assert local.end("t", 0, unsynced=True) == 2
    assert local.end("t", 0) == 0
    await local.stable()
    assert local.end("t", 0) == 2


async def test_waiting_ends_with_the_append_or_with_the_sync(disk_broker: BrokerServer) -> None:
    local = disk_broker.local
    await local.create_topic("t", 1)
    assert not await local.wait("t", 0, 0, timeout_seconds=0.01)
    early = asyncio.create_task(local.wait("t", 0, 0, timeout_seconds=60, unsynced=True))
    stable = asyncio.create_task(local.wait("t", 0, 0, timeout_seconds=60))
    await asyncio.sleep(0)
    local.append_soon("t", 0, batch([b"x"]))
    assert await early
    assert await stable
    assert await local.wait("t", 0, 0, timeout_seconds=0)
    gone = [asyncio.create_task(local.wait("t", 0, 1, timeout_seconds=600, unsynced=unsynced)) for unsynced in (False, True)]
    await asyncio.sleep(0)
    await local.delete_topic("t")
    async with asyncio.timeout(30):
        assert await asyncio.gather(*gone) == [False, False]
    with pytest.raises(BrokerError):
        await local.wait("t", 0, 0, timeout_seconds=1)


async def test_a_refused_append_to_several_partitions_appends_nothing(broker: BrokerServer) -> None:
    local = broker.local
    await local.create_topic("t", 1)
    owner = await local.init_producer("tx", timeout_ms=60_000)
    good = batch([b"x"])
    of_a_producer = batch([b"x"], producer_id=owner.producer_id, epoch=owner.epoch, sequence=0, transactional=True)
    for batches, code in (
        ({("t", 0): [good], ("missing", 0): [good]}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({("t", 0): [good], ("t", 1): [good]}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({("t", 0): [good, good[:-1] + b"?"]}, ErrorCode.CORRUPT_MESSAGE),
        ({("t", 0): [of_a_producer]}, ErrorCode.INVALID_RECORD),
        ({}, ErrorCode.INVALID_REQUEST),
        ({("t", 0): [good], ("t", 1): []}, ErrorCode.INVALID_REQUEST),
    ):
        with pytest.raises(BrokerError) as refused:
            await local.append_together(owner, batches)
        assert refused.value.code is code
        assert local.end("t", 0, unsynced=True, committed=False) == 0
    with pytest.raises(BrokerError) as refused:
        await local.append_together(owner, {("t", 0): [good]}, marked=[("missing", 0)])
    assert refused.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert await local.append_together(owner, {("t", 0): [good, good]}) == {("t", 0): 0}
    assert local.end("t", 0) == 2


async def test_a_successor_fences_across_both_doors(broker: BrokerServer) -> None:
    local = broker.local
    await local.create_topic("t", 1)
    owner = await local.init_producer("tx", timeout_ms=60_000)
    async with RawClient(broker.host, broker.port) as client:
        session = Session(client)
        await session.open()
        with pytest.raises(BrokerError) as refused:
            await local.append_together(owner, {("t", 0): [batch([b"late"])]})
        assert refused.value.code is ErrorCode.PRODUCER_FENCED
        await session.produce(b"open")
        with pytest.raises(BrokerError) as refused:
            await local.append_together(ProducerId("tx", *session.identity), {("t", 0): [batch([b"x"])]})
        assert refused.value.code is ErrorCode.CONCURRENT_TRANSACTIONS
        await local.init_producer("tx", timeout_ms=60_000)
        assert (await session.end()).error_code.value == ErrorCode.PRODUCER_FENCED
    assert broker.local.fetch("t", 0, 0, max_bytes=1).aborted == [(session.producer_id, 0)]


async def test_errors_are_told_in_the_protocols_terms(broker: BrokerServer) -> None:
    local = broker.local
    await local.create_topic("t", 1)
    await local.create_topic("t", 1, exist_ok=True)
    for call, code in (
        (lambda: local.create_topic("t", 1), ErrorCode.TOPIC_ALREADY_EXISTS),
        (lambda: local.create_topic("a b", 1), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (lambda: local.create_topic("u", 0), ErrorCode.INVALID_PARTITIONS),
        (lambda: local.create_topic("u", 1, {"no.such": "x"}), ErrorCode.INVALID_CONFIG),
        (lambda: local.delete_topic("u"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (lambda: local.init_producer("tx", timeout_ms=0), ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        (lambda: local.append("t", 3, batch([b"x"])), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ):
        with pytest.raises(BrokerError) as refused:
            await call()
        assert refused.value.code is code
    with pytest.raises(BrokerError) as refused:
        local.fetch("t", 0, 1, max_bytes=1)
    assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE


async def test_offsets_are_stored_for_display(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 2)
    assert broker.local.committed_offsets("g") == {}
    await broker.local.commit_offsets("g", {("t", 0): 5, ("t", 1): 6})
    await broker.local.commit_offsets("g", {("t", 1): 7})
    assert broker.local.committed_offsets("g") == {("t", 0): 5, ("t", 1): 7}
    with pytest.raises(BrokerError):
        await broker.local.commit_offsets("g", {("missing", 0): 1})
