"""Retention: the plan, and its effect on files, offsets and consumers."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from hub.broker import BrokerError, BrokerServer, BrokerSettings
from hub.broker.files import FileStorage
from hub.broker.log import SegmentView
from hub.broker.retention import retained_from
from hub.broker.topic_settings import typed
from hub.protocol import ErrorCode

from .client import batch, until, values_of
from .test_restart import crash

NOW = 1_000_000
SIZES: dict[str, Any] = {"journal_file_bytes": 20_000, "checkpoint_bytes": 20_000}
OLD_MS = int(time.time() * 1000) - 3_600_000


def parts(*timestamps: int, size: int = 100) -> list[SegmentView]:
    """Segments of ten offsets each; the last one is open."""
    count = len(timestamps)
    return [SegmentView(i * 10, i * 10 + 10, size, ms, ms, closed=i < count - 1) for i, ms in enumerate(timestamps)]


def kept(segments: list[SegmentView], *, start: int = 0, limit: int = 1000, **configs: str) -> int:
    """First offset that stays under these settings."""
    settings = typed({key.replace("_", "."): value for key, value in configs.items()})
    size = sum(segment.size for segment in segments)
    return retained_from(iter(segments), size, settings, start=start, limit=limit, now_ms=NOW)


def test_segments_go_when_their_newest_record_is_too_old() -> None:
    segments = parts(NOW - 5000, NOW - 3000, NOW - 1000)
    assert kept(segments, retention_ms="4000") == 10
    assert kept(segments, retention_ms="3000") == 10
    assert kept(segments, retention_ms="2999") == 20
    assert kept(segments, retention_ms="10") == 30
    assert kept(segments, retention_ms="-1") == 0


def test_only_what_ends_at_the_limit_or_before_it_goes() -> None:
    segments = parts(1, 1, 1)
    assert [kept(segments, limit=limit, retention_ms="10") for limit in (9, 10, 19, 20)] == [0, 10, 10, 20]


def test_the_first_that_stays_keeps_all_after_it() -> None:
    assert kept(parts(NOW, 1, 1), retention_ms="10") == 0


def test_a_segment_without_timestamps_is_as_old_as_its_file() -> None:
    without = [segment._replace(max_timestamp_ms=-1) for segment in parts(NOW - 5000, NOW)]
    assert kept(without, retention_ms="4000") == 10


def test_a_timestamp_from_the_future_counts_as_the_last_write_to_its_segment() -> None:
    year_9999 = 253_402_300_799_000
    segments = parts(NOW - 5000, NOW - 3000, NOW - 1000)
    segments[1] = segments[1]._replace(max_timestamp_ms=NOW - 2000)
    segments[0] = segments[0]._replace(max_timestamp_ms=year_9999)  # written until the next began
    assert kept(segments, retention_ms="3000") == 0
    assert kept(segments, retention_ms="2999") == 10
    segments[2] = segments[2]._replace(max_timestamp_ms=year_9999)  # may be written now
    assert kept(segments, retention_ms="10") == 20


def test_at_least_retention_bytes_stay() -> None:
    segments = parts(NOW, NOW, NOW, NOW)
    assert kept(segments, retention_bytes="400") == 0
    assert kept(segments, retention_bytes="399") == 0
    assert kept(segments, retention_bytes="300") == 10
    assert kept(segments, retention_bytes="101") == 20
    assert kept(segments, retention_bytes="0") == 40


def test_nothing_that_is_not_decided_goes() -> None:
    assert kept(parts(1, 1, 1), limit=19, retention_ms="10") == 10
    assert kept(parts(NOW, NOW, NOW), limit=19, retention_bytes="0") == 10


def test_without_the_policy_everything_stays() -> None:
    assert kept(parts(1, 1), start=3, retention_ms="1", retention_bytes="1", cleanup_policy="compact") == 3
    assert kept(parts(1, 1), retention_ms="1", cleanup_policy="compact,delete") == 20


async def started(directory: Path | None, **settings: Any) -> BrokerServer:
    """A broker that looks often and checkpoints early."""
    storage = FileStorage(directory, **SIZES) if directory else None
    settings = {"retention_check_seconds": 0.05, **settings}
    server = BrokerServer(directory, storage=storage, settings=BrokerSettings(**settings))
    await server.start()
    return server


def files(directory: Path) -> int:
    """Bytes of segment files and their indexes."""
    return _size(directory / "logs")


def journal_bytes(directory: Path) -> int:
    """Bytes of journal files, prepared ones too."""
    return _size(directory / "journal")


def _size(directory: Path) -> int:
    size = 0
    for folder, _, names in os.walk(directory):  # it leaves out what is removed meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                size += (Path(folder) / name).stat().st_size
    return size


async def test_a_topic_with_a_size_limit_does_not_grow_on_disk_nor_does_the_journal(tmp_path: Path) -> None:
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, {"retention.bytes": "50000", "segment.bytes": "10000"})
    log = server.broker.state.topics["t"].logs[0]
    journal = 0
    for number in range(1500):
        await server.local.append("t", 0, batch([b"%04d" % number + bytes(1000)]))
        if number % 100 == 99:
            await until(lambda: files(tmp_path) < 50_000 + 10_000 + SIZES["checkpoint_bytes"], seconds=60)
            journal = max(journal, journal_bytes(tmp_path))
    assert log.start > log.end - 110
    assert journal < 12 * SIZES["journal_file_bytes"]
    with pytest.raises(BrokerError, match="OFFSET_OUT_OF_RANGE"):
        server.local.fetch("t", 0, log.start - 1, max_bytes=1)
    assert values_of(server.local.fetch("t", 0, log.end - 1, max_bytes=1).data)[0][:4] == b"1499"
    await server.stop()


async def test_old_records_go_though_little_is_written_and_a_crash_does_not_bring_them_back(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    server = await started(directory)
    await server.local.create_topic("t", 1, {"retention.ms": "60000"})
    await server.local.create_topic("kept", 1, {"retention.ms": "-1"})
    for name in ("t", "kept"):
        await server.local.append(name, 0, batch([b"old"] * 3, timestamp_ms=OLD_MS))
    log = server.broker.state.topics["t"].logs[0]
    await until(lambda: log.start == 3, seconds=60)
    assert log.memory_bytes == 0
    await server.local.stable()
    crashed = crash(server, directory)
    assert await server.local.append("t", 0, batch([b"new"])) == 3
    await server.stop()
    server = await started(crashed)
    log = server.broker.state.topics["t"].logs[0]
    assert (log.start, log.end) == (3, 3)
    assert values_of(server.local.fetch("kept", 0, 0, max_bytes=1).data) == [b"old"] * 3
    await server.stop()


async def test_an_open_transaction_keeps_what_follows_it(tmp_path: Path) -> None:
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, {"retention.ms": "60000"})
    state = server.broker.state
    log = state.topics["t"].logs[0]
    await server.local.append("t", 0, batch([b"a"], timestamp_ms=OLD_MS))
    _, producer_id, epoch = await server.local.init_producer("tx", timeout_ms=60_000)
    raw = batch([b"open"], producer_id=producer_id, epoch=epoch, sequence=0, transactional=True, timestamp_ms=OLD_MS)
    from hub.broker.batches import read_header

    assert server.broker.transactions.check_produce("tx", producer_id, epoch, "t", log, implicit=True) is ErrorCode.NONE
    state.append(log, raw, read_header(raw))
    await server.local.stable()
    assert server._housekeeper is not None
    await server._housekeeper.retain()
    assert log.start == 0
    assert server.broker.transactions.end("tx", producer_id, epoch, commit=True, bump=True).error is ErrorCode.NONE
    state.record("configs", log.key.topic_number, {"retention.ms": "0"})  # the marker is of now
    await server.local.stable()
    await until(lambda: log.start == log.end == 3, seconds=60)
    await server.stop()


async def test_deleted_records_and_topics_free_their_files_while_the_broker_runs(tmp_path: Path) -> None:
    server = await started(tmp_path, retention_check_seconds=3600)
    for name in ("t", "gone"):
        await server.local.create_topic(name, 1, {"segment.bytes": "10000", "retention.ms": "-1"})
        for _ in range(100):
            await server.local.append(name, 0, batch([bytes(1000)]))
    await until(lambda: files(tmp_path) > 150_000, seconds=60)
    log = server.broker.state.topics["t"].logs[0]
    await server.local.delete_topic("gone")
    server.broker.state.record("delete_records", log.key.topic_number, 0, 95)
    await until(lambda: files(tmp_path) < 30_000, seconds=60)
    await until(lambda: len(list((tmp_path / "logs").iterdir())) == 1)
    assert len(values_of(server.local.fetch("t", 0, 95, max_bytes=1).data)) == 1
    await server.stop()


async def test_a_reader_is_told_where_the_log_begins_now(tmp_path: Path) -> None:
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, {"retention.bytes": "20000", "segment.bytes": "5000"})
    for number in range(200):
        await server.local.append("t", 0, batch([b"%03d" % number + bytes(1000)]))
    log = server.broker.state.topics["t"].logs[0]
    await until(lambda: log.start > 100, seconds=60)
    consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition("t", 0)])
    consumer.seek(TopicPartition("t", 0), 0)
    try:
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert 100 < record.offset == int(record.value[:3]) <= log.start
    await server.stop()


async def test_a_broker_in_memory_retains_by_time_and_size_too() -> None:
    server = await started(None)
    await server.local.create_topic("few", 1, {"retention.bytes": "20000", "segment.bytes": "5000"})
    await server.local.create_topic("new", 1, {"retention.ms": "60000"})
    for _ in range(100):
        await server.local.append("few", 0, batch([bytes(1000)]))
    await server.local.append("new", 0, batch([b"old"], timestamp_ms=OLD_MS))
    few, new = (server.broker.state.topics[name].logs[0] for name in ("few", "new"))
    await until(lambda: few.memory_bytes < 30_000 and new.start == 1, seconds=60)
    assert few.memory_bytes >= 20_000
    assert values_of(server.local.fetch("few", 0, 99, max_bytes=1).data) == [bytes(1000)]
    await server.stop()


async def test_a_round_that_fails_is_loud_and_later_rounds_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FileStorage):
        def holds_before(self, starts: Any) -> bool:
            raise OSError(5, "input/output error")

    server = BrokerServer(tmp_path, storage=Broken(tmp_path), settings=BrokerSettings(retention_check_seconds=0.05))
    await server.start()
    await server.local.create_topic("t", 1)
    await until(lambda: any(record.levelname == "ERROR" and "retention failed" in record.message for record in caplog.records))
    assert await server.local.append("t", 0, batch([b"x"])) == 0
    await server.stop()


async def test_a_failure_of_the_brokers_own_tasks_ends_it(tmp_path: Path) -> None:
    class Broken(FileStorage):
        def maintain(self) -> None:
            raise RuntimeError("unforeseen")

    ended: list[BaseException] = []
    server = BrokerServer(tmp_path, storage=Broken(tmp_path), on_fatal=ended.append)
    await server.start()
    await until(lambda: [str(error) for error in ended] == ["unforeseen"])
    await server.stop()


async def test_largest_timestamps_come_from_the_table_of_segments(tmp_path: Path) -> None:
    server = await started(tmp_path, retention_check_seconds=3600)
    await server.local.create_topic("t", 1, {"segment.bytes": "5000", "retention.ms": "-1"})
    log = server.broker.state.topics["t"].logs[0]
    for number in range(60):
        await server.local.append("t", 0, batch([bytes(1000)], timestamp_ms=10_000 + number * (-1 if number < 30 else 1)))
    await until(lambda: log.memory_start > 35, seconds=60)
    assert log.max_timestamp_ms(committed=True) == 10_059
    reads = 0
    storage = server._storage
    assert isinstance(storage, FileStorage)
    whole = storage.segments._reader._pread

    def counted(*arguments: Any) -> bytes:
        nonlocal reads
        reads += 1
        return whole(*arguments)

    storage.segments._reader._pread = counted  # type: ignore[method-assign,assignment]
    assert storage.max_timestamp_ms(log.key, 0, storage.segments.views(log.key)[-1].end) > 10_000
    assert reads == 0
    assert storage.max_timestamp_ms(log.key, 1, 2) == 9_999
    await server.stop()


async def test_files_that_are_removed_meanwhile_are_not_counted_again(tmp_path: Path) -> None:
    """Between the removal of segments from the table and the end of the checkpoint the broker still has their old size."""
    server = await started(tmp_path, retention_check_seconds=3600)
    await server.local.create_topic("t", 1, {"segment.bytes": "5000", "retention.ms": "-1"})
    for _ in range(100):
        await server.local.append("t", 0, batch([bytes(1000)]))
    log = server.broker.state.topics["t"].logs[0]
    flusher, house, storage = server._flusher, server._housekeeper, server._storage
    assert flusher is not None
    assert house is not None
    assert isinstance(storage, FileStorage)
    await house.stop()
    flusher.checkpoint_soon()
    await until(lambda: log.memory_start == log.end and flusher._checkpointing is None, seconds=60)
    log.settings = typed({"retention.bytes": "50000", "segment.bytes": "5000"})
    start = house._retained_from(log)
    assert start > 30
    log.delete_before(start)
    await flusher.in_background(storage.segments.leave_out_before, {log.key: start})
    assert log.file_bytes > storage.log_bytes(log.key)
    assert house._retained_from(log) == start
    await server.stop()
