"""Group commit, and syncing on the event loop for fast disks or in a thread for slow ones."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hub.broker import Broker, BrokerServer, flushing
from hub.broker.batches import read_header
from hub.broker.files import FileStorage
from hub.broker.journal_thread import QUICK_SECONDS, RECENT_WRITES, SLOW_SECONDS, WritePace
from hub.broker.storage import MemoryStorage

from .client import batch, until, values_of


class CountedDisk(FileStorage):
    """Counts the blocks that the broker writes, without those that an idle broker adds to note what is synced."""

    writes = 0

    def write(self, parts: Sequence[bytes]) -> None:
        self.writes += 1
        super().write(parts)


class MaintainedDisk(FileStorage):
    """Counts how often it is maintained; `is_full` makes it one without room."""

    maintained, is_full = 0, False

    def maintain(self) -> None:
        self.maintained += 1
        super().maintain()

    @property
    def writable(self) -> bool:
        return not self.is_full and super().writable


class SlowMemory(MemoryStorage):
    """Memory whose every write takes 30 ms."""

    def write(self, parts: Sequence[bytes]) -> None:
        time.sleep(0.03)
        super().write(parts)


class SlowDisk(CountedDisk):
    """A disk whose every write takes 10 ms, or as long as the gate is closed."""

    def __init__(self, directory: Path, **sizes: Any) -> None:
        super().__init__(directory, **sizes)
        self.threads: set[str] = set()
        self.writing = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, parts: Sequence[bytes]) -> None:
        self.threads.add(threading.current_thread().name)
        time.sleep(0.01)
        self.writing.set()
        assert self.gate.wait(60), "a test forgot to open the gate"
        super().write(parts)


async def test_a_slow_disk_is_written_in_a_thread_and_shared_by_many(tmp_path: Path) -> None:
    storage = SlowDisk(tmp_path, journal_file_bytes=20_000, checkpoint_bytes=20_000)
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    await server.local.create_topic("t", 1)
    flusher = server._flusher
    assert flusher is not None
    assert not flusher._pace.suits_event_loop, "after one slow write"
    before, end_before = storage.writes, server.local.end("t", 0)
    storage.writing.clear()
    storage.gate.clear()
    first = asyncio.create_task(server.local.append("t", 0, batch([b"0"])))
    await until(storage.writing.is_set)
    others = [asyncio.create_task(server.local.append("t", 0, batch([b"%d" % number]))) for number in range(1, 200)]
    await until(lambda: server.local.end("t", 0, unsynced=True) == end_before + 200)
    storage.gate.set()
    offsets = [await first, *[await other for other in others]]
    assert len(set(offsets)) == 200
    assert storage.writes - before == 2, "what came while the disk wrote is one write"
    assert any(name.startswith("broker-journal") for name in storage.threads)
    for _ in range(60):
        await asyncio.gather(*(server.local.append("t", 0, batch([bytes(3000)])) for _ in range(5)))
    assert len(server.broker.state.topics["t"].logs[0]._batches) < 150
    end = server.local.end("t", 0)
    await server.stop()
    again = BrokerServer(tmp_path)
    await again.start()
    assert again.local.end("t", 0) == end
    fetched = again.local.fetch("t", 0, offsets[0], max_bytes=1)
    assert values_of(fetched.data) == [b"0"]
    await again.stop()


def test_blocks_are_written_on_the_event_loop_while_most_writes_are_quick() -> None:
    pace = WritePace()
    assert pace.suits_event_loop
    pace.record(QUICK_SECONDS)
    assert not pace.suits_event_loop
    for _ in range(RECENT_WRITES):
        pace.record(QUICK_SECONDS / 2)
    for _ in range(RECENT_WRITES // 2):
        pace.record(QUICK_SECONDS * 2)
        assert pace.suits_event_loop, "most of the last writes were quick"
    pace.record(QUICK_SECONDS * 2)
    assert not pace.suits_event_loop


def test_after_a_slow_write_the_thread_is_used_until_the_last_ones_were_shorter() -> None:
    pace = WritePace()
    for _ in range(RECENT_WRITES):
        pace.record(QUICK_SECONDS / 2)
    pace.record(SLOW_SECONDS)
    for _ in range(RECENT_WRITES - 1):
        pace.record(QUICK_SECONDS / 2)
        assert not pace.suits_event_loop
    pace.record(QUICK_SECONDS / 2)
    assert pace.suits_event_loop


def test_readers_get_a_block_before_its_producers_get_their_acknowledgement_also_if_one_fails() -> None:
    broker = Broker(MemoryStorage())
    order: list[object] = []
    pending = broker.state.pending
    broker.state.topics.create("t", 3, {})
    pending.written(broker.cut())

    def fail() -> None:
        order.append("failing reader")
        raise OSError("the disk failed")

    logs = broker.state.topics["t"].logs
    logs[2].waiters[lambda: order.append("reader of the first batch")] = None
    logs[1].waiters[fail] = None
    logs[0].waiters[lambda: order.append("reader of the last batch")] = None
    raw = batch([b"1"])
    pending.append_all([(log, raw, read_header(raw)) for log in reversed(logs)])
    for number in range(2):
        pending.when_stable(number).then(order.append)
    with pytest.raises(ExceptionGroup) as raised:
        pending.written(broker.cut())
    assert [str(error) for error in raised.value.exceptions] == ["the disk failed"]
    assert order == ["reader of the first batch", "failing reader", "reader of the last batch", 0, 1]


async def test_what_is_appended_while_a_block_is_written_is_acknowledged_although_a_reader_of_that_block_fails() -> None:
    server = BrokerServer(None, storage=SlowMemory())
    await server.start()
    try:
        await server.local.create_topic("t", 2)
        await server.local.append("t", 0, batch([b"1"]))
        log = server.broker.state.topics["t"].logs[0]

        def fail() -> None:
            log.waiters.clear()
            raise OSError("the disk failed")

        log.waiters[fail] = None
        appending = [asyncio.create_task(server.local.append("t", 0, batch([b"2"])))]
        assert server._flusher is not None
        while not server._flusher._writing:
            await asyncio.sleep(0)
        appending.append(asyncio.create_task(server.local.append("t", 1, batch([b"3"]))))
        async with asyncio.timeout(10):
            await asyncio.gather(*appending)
    finally:
        await server.stop()


async def test_what_happens_in_one_moment_is_one_write(tmp_path: Path) -> None:
    storage = CountedDisk(tmp_path)
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    await server.local.create_topic("t", 4)
    before = storage.writes
    await asyncio.gather(*(server.local.append("t", number % 4, batch([b"x"])) for number in range(100)))
    assert storage.writes == before + 1
    await server.stop()


async def test_intervals_sync_beside_the_writes(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path, flush="interval:1", journal_file_bytes=8000, checkpoint_bytes=1 << 30)
    server = BrokerServer(tmp_path, flush="interval:1", storage=storage)
    await server.start()
    await server.local.create_topic("t", 1)
    for number in range(1500):
        await server.local.append("t", 0, batch([b"%d" % number]))
    await server.stop()
    again = BrokerServer(tmp_path)
    await again.start()
    assert again.local.end("t", 0) == 1500
    await again.stop()


async def test_a_disk_is_maintained_soon_after_a_write_and_while_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "MAINTENANCE_SECONDS", 0.001)
    monkeypatch.setattr(flushing, "IDLE_MAINTENANCE_SECONDS", 3_600.0)
    storage = MaintainedDisk(tmp_path)
    storage.is_full = True
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    await until(lambda: storage.maintained > 100)
    storage.is_full = False
    await server.local.create_topic("t", 1)
    for _ in range(3):
        storage.maintained = 0
        await server.local.append("t", 0, batch([b"1"]))
        await until(lambda: storage.maintained > 0)
    await server.stop()
