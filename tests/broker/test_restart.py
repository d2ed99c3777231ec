"""What survives an orderly restart and a crash (a copy of the directory made while the broker is running)."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.broker import BrokerError, BrokerServer, DataDirectoryInUse, StorageDamaged
from hub.broker.files import FileStorage
from hub.protocol import ErrorCode

from .client import RawClient, batch, values_of
from .test_repaired_transactions import Session


@asynccontextmanager
async def running(directory: Path, **sizes: Any) -> AsyncIterator[BrokerServer]:
    storage = FileStorage(directory, **sizes) if sizes else None
    server = BrokerServer(directory, storage=storage)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def crash(server: BrokerServer, directory: Path) -> Path:
    """The directory as a crash at this moment would leave it."""
    assert server._flusher is not None
    server._flusher._background.submit(lambda: None).result()  # a copy takes longer than a moment: let nothing move
    copy = directory.with_name(directory.name + "-crashed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    return copy


def stored(server: BrokerServer, topic: str = "t", partition: int = 0) -> list[bytes]:
    """All values that a committed reader sees, read in steps."""
    found: list[bytes] = []
    log = server.broker.state.topics[topic].logs[partition]
    offset, end = log.start, server.local.end(topic, partition)
    while offset < end:
        data = server.local.fetch(topic, partition, offset, max_bytes=5000).data
        values = values_of(data)
        found += values
        offset += max(len(values), 1)
    return found


@pytest.mark.parametrize("orderly", [True, False])
async def test_topics_records_and_offsets_survive(tmp_path: Path, orderly: bool) -> None:
    directory = tmp_path / "data"
    async with running(directory) as server:
        await server.local.create_topic("t", 2, {"cleanup.policy": "compact"})
        await server.local.create_topic("gone", 1)
        await server.local.delete_topic("gone")
        for number in range(20):
            await server.local.append("t", 0, batch([b"%d" % number]))
        server.broker.groups.offsets.commit("g", [("t", 0, 11, -1, "note")])
        await server.local.stable()
        crashed = crash(server, directory)
    async with running(directory if orderly else crashed) as server:
        assert server.local.topics() == {"t": 2}
        assert server.broker.state.topics["t"].configs == {"cleanup.policy": "compact"}
        assert stored(server) == [b"%d" % number for number in range(20)]
        assert server.broker.groups.groups["g"].offsets["t", 0][:3] == (11, -1, "note")
        assert await server.local.append("t", 0, batch([b"next"])) == 20


async def test_a_batch_sent_again_after_a_restart_is_recognised(tmp_path: Path) -> None:
    again = batch([b"x"], producer_id=77, epoch=0, sequence=0)
    async with running(tmp_path) as server:
        await server.local.create_topic("t", 1)
        assert await idempotent(server, again) == (ErrorCode.NONE, 0)
        assert await idempotent(server, batch([b"y"], producer_id=77, epoch=0, sequence=1)) == (ErrorCode.NONE, 1)
    async with running(tmp_path) as server:
        assert await idempotent(server, again) == (ErrorCode.NONE, 0)
        gap = batch([b"z"], producer_id=77, epoch=0, sequence=3)
        assert (await idempotent(server, gap))[0] is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert stored(server) == [b"x", b"y"]


async def idempotent(server: BrokerServer, raw: bytes) -> tuple[ErrorCode, int]:
    """Produce through a socket: (error, base offset)."""
    import datetime

    from kio.static.primitive import Records, i16, i32, i32Timedelta

    from .client import kio_class

    partition = kio_class("produce", 8, "request", "PartitionProduceData")(index=i32(0), records=Records(raw))
    topic = kio_class("produce", 8, "request", "TopicProduceData")(name="t", partition_data=(partition,))
    async with RawClient(server.host, server.port) as client:
        answer = await client.ask(
            "produce",
            8,
            transactional_id=None,
            acks=i16(-1),
            timeout=i32Timedelta.parse(datetime.timedelta(seconds=1)),
            topic_data=(topic,),
        )
    result = answer.responses[0].partition_responses[0]
    return ErrorCode(result.error_code.value), result.base_offset


@pytest.mark.parametrize("orderly", [True, False])
async def test_an_open_transaction_is_aborted_by_a_restart(tmp_path: Path, orderly: bool) -> None:
    directory = tmp_path / "data"
    async with running(directory) as server:
        await server.local.create_topic("t", 1)
        async with RawClient(server.host, server.port) as client:
            session = Session(client)
            await session.open()
            await session.produce(b"committed")
            await session.end()
            await session.produce(b"open")
            await server.local.stable()
            identity = session.identity
            crashed = crash(server, directory)
    async with running(directory if orderly else crashed) as server:
        assert server.local.end("t", 0) == server.local.end("t", 0, committed=False)
        fetched = server.local.fetch("t", 0, 0, max_bytes=1 << 20)
        assert fetched.aborted == [(identity[0], 2)]
        async with RawClient(server.host, server.port) as client:
            session.client = client
            assert (await session.end(identity=identity)).error_code.value == ErrorCode.PRODUCER_FENCED
            await session.open()
            assert session.identity > identity


async def test_after_a_crash_no_transaction_goes_on_with_what_was_lost(tmp_path: Path) -> None:
    """Produce requests inside a transaction are not synced: an owner must not commit the rest of them."""
    directory = tmp_path / "data"
    async with running(directory) as server:
        await server.local.create_topic("t", 1)
        owner = await server.local.init_producer("tx", timeout_ms=10_000)
        crashed = crash(server, directory)
    async with running(crashed) as server:
        with pytest.raises(BrokerError) as refused:
            await server.local.append_together(owner, {("t", 0): [batch([b"x"])]})
        assert refused.value.code is ErrorCode.PRODUCER_FENCED


async def test_an_orderly_restart_fences_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await server.local.create_topic("t", 1)
        owner = await server.local.init_producer("tx", timeout_ms=10_000)
    async with running(tmp_path) as server:
        assert await server.local.append_together(owner, {("t", 0): [batch([b"x"])]}) == {("t", 0): 0}


async def test_old_records_are_read_from_segment_files(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    sizes = {"journal_file_bytes": 20_000, "checkpoint_bytes": 30_000, "segment_bytes": 50_000}
    sent = [b"%05d" % number * 20 for number in range(4000)]
    async with running(directory, **sizes) as server:
        await server.local.create_topic("t", 1, {"retention.ms": "-1"})
        log = server.broker.state.topics["t"].logs[0]
        held = 0
        for at in range(0, len(sent), 10):
            await server.local.append("t", 0, batch(sent[at : at + 10], timestamp_ms=1000 + at))
            held = max(held, len(log._batches))
        assert held < 300
        assert stored(server) == sent
        crashed = crash(server, directory)
        assert len(list((directory / "logs").glob("*/*.log"))) > 3
        assert len(list((directory / "journal").iterdir())) < 12
    for path in (directory, crashed):
        for index in list((path / "logs").glob("*/*.index"))[:2]:
            index.write_bytes(index.read_bytes()[:-7])
        async with running(path, **sizes) as server:
            log = server.broker.state.topics["t"].logs[0]
            assert stored(server) == sent
            assert log.offset_for_timestamp(2501, committed=True)[0] == 1500  # type: ignore[index]
            for offset in (0, 7, 1234, 3999):
                data = server.local.fetch("t", 0, offset, max_bytes=1).data
                assert values_of(data) == sent[offset // 10 * 10 : offset // 10 * 10 + 10]


async def test_files_of_deleted_records_and_topics_are_removed(tmp_path: Path) -> None:
    sizes = {"journal_file_bytes": 20_000, "checkpoint_bytes": 1 << 20, "segment_bytes": 5000}
    for _ in range(2):
        async with running(tmp_path, **sizes) as server:
            await server.local.create_topic("t", 1, exist_ok=True)
            await server.local.create_topic("gone", 1)
            for topic in ("t", "gone"):
                for _ in range(20):
                    await server.local.append(topic, 0, batch([bytes(1000)]))
        assert len(list((tmp_path / "logs").glob("*/*.log"))) > 4
        async with running(tmp_path, **sizes) as server:
            log = server.broker.state.topics["t"].logs[0]
            assert log.start == 0 or log.end == 40
            server.broker.state.record("delete_records", log.key.topic_number, 0, log.end - 1)
            await server.local.delete_topic("gone")
        (left,) = (tmp_path / "logs").glob("*/*.log")
        async with running(tmp_path, **sizes) as server:
            assert len(stored(server)) == 1
            with pytest.raises(BrokerError):
                server.local.fetch("t", 0, 0, max_bytes=1)
        assert left.exists()


async def test_a_damaged_checkpoint_or_segment_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await server.local.create_topic("t", 1)
        await server.local.append("t", 0, batch([b"x" * 1000]))
    (segment,) = (tmp_path / "logs").glob("*/*.log")
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1])
    with pytest.raises(StorageDamaged):
        await BrokerServer(tmp_path).start()
    segment.write_bytes(whole)
    checkpoint = tmp_path / "checkpoint"
    raw = bytearray(checkpoint.read_bytes())
    raw[-3] ^= 1
    checkpoint.write_bytes(raw)
    with pytest.raises(StorageDamaged):
        await BrokerServer(tmp_path).start()


async def test_a_directory_belongs_to_one_broker(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(DataDirectoryInUse, match="in use by another broker"):
            await BrokerServer(tmp_path).start()
    async with running(tmp_path):
        pass


async def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    assert server._flusher is not None
    await server.local.create_topic("t", 1)
    await server.local.append("t", 0, batch([b"before"]))
    storage._room.reserve_bytes = 1 << 60
    await server._flusher.in_background(storage.maintain)  # after the look that is under way
    assert await idempotent(server, batch([b"x"])) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)
    with pytest.raises(BrokerError):
        await server.local.append("t", 0, batch([b"x"]))
    assert stored(server) == [b"before"]
    await server.local.delete_records("t", 0, 1)  # it makes room
    assert server.broker.state.topics["t"].logs[0].start == 1
    storage._room.reserve_bytes = 0
    await server._flusher.in_background(storage.maintain)  # after the look that is under way
    assert await server.local.append("t", 0, batch([b"after"])) == 1
    await server.stop()


async def test_an_error_of_the_disk_ends_the_broker(tmp_path: Path) -> None:
    class Broken(FileStorage):
        broken = False

        def write(self, parts: object) -> None:
            if self.broken:
                raise OSError(5, "input/output error")
            super().write(parts)  # type: ignore[arg-type]

    ended: list[BaseException] = []
    storage = Broken(tmp_path)
    server = BrokerServer(tmp_path, storage=storage, on_fatal=ended.append)
    await server.start()
    await server.local.create_topic("t", 1)
    storage.broken = True
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    waiting = asyncio.create_task(server.local.append("t", 0, batch([b"x"])))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    assert [type(error) for error in ended] == [OSError]
    waiting.cancel()
    storage.broken = False
    await server.stop()


@pytest.mark.parametrize("flush", ["os", "interval:5"])
async def test_weaker_policies_keep_everything_over_an_orderly_restart(tmp_path: Path, flush: str) -> None:
    for start in (0, 10):
        server = BrokerServer(tmp_path, flush=flush)
        await server.start()
        await server.local.create_topic("t", 1, exist_ok=True)
        assert stored(server) == [b"%d" % number for number in range(start)]
        for number in range(start, start + 10):
            await server.local.append("t", 0, batch([b"%d" % number]))
        await server.stop()
