"""Snapshots shorten a restart, and are used only if the changelog continues them."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from hub.broker import BrokerServer
from hub.core import TaskRow, TimedRows, encode_row
from hub.core.rows.task import Timers
from hub.engine import snapshots
from hub.engine.in_process import InProcessBroker
from hub.engine.over_tcp import TcpBroker
from hub.engine.ports import EngineBroker
from hub.engine.snapshots import (
    _HEAD_BYTES,
    Place,
    Snapshot,
    SnapshotMismatch,
    _read_head,
    extend_snapshot,
    read_snapshot,
    snapshot_path,
    write_snapshot,
)
from hub.kafka import INTAKE, STATE, Cluster, Record, StoredRecord, build_batch
from schemas import Event
from tests.broker.test_flushing import SlowDisk
from tests.engine.test_loop import CheckedBroker, Owner, broker, events, submit, until

__all__ = ["broker"]  # the fixture

DAY_US = 86_400_000_000


class Compacted(InProcessBroker):
    """The changelog as it is after a while on Apache Kafka: the last row of every key, and no tombstones."""

    async def changelog(self, partition: int, from_offset: int) -> AsyncIterator[StoredRecord]:
        last = {record.key: record async for record in super().changelog(partition, 0)}
        for record in sorted(last.values(), key=lambda record: record.offset):
            if record.value is not None and record.offset >= from_offset:
                yield record


def ports_of(broker: BrokerServer, placement: str) -> EngineBroker:
    return InProcessBroker(broker.local) if placement == "in the broker's process" else TcpBroker(Cluster.of(broker.bootstrap))


async def snapshot_of(broker: BrokerServer, folder: Path, *, tasks: int = 2, **fields: object) -> Snapshot:
    """What is written to a file while an owner has `tasks` tasks; it has stopped since, so the changelog goes on."""
    owner = await Owner(broker, snapshots=folder).started()
    await submit(broker, range(tasks), **fields)
    await until(broker, "task.created", tasks)
    await broker.local.stable()
    await owner.loop.changelog.write_snapshot()
    await owner.stop()
    written = read_snapshot(snapshot_path(folder, 0), partitions=1)
    assert written is not None
    return written


def with_a_ghost(snapshot: Snapshot) -> Snapshot:
    """The snapshot, with the row of a task that is not in the changelog."""
    return snapshot._replace(rows={**snapshot.rows, b"task/ghost": snapshot.rows[b"task/t-0"]})


async def restored(
    broker: BrokerServer, folder: Path, *, ports: EngineBroker | None = None, later_us: int = 0
) -> tuple[bool, int]:
    """Whether an owner, this much later, uses the snapshot; and how many live tasks it has then."""
    owner = Owner(broker, snapshots=folder, ports=ports)
    clock = owner.loop.clock.source
    owner.loop.clock.source = lambda: clock() + later_us
    await owner.started()
    await owner.crash()
    last: Event = [event for event in await events(broker) if event.type == "engine.restored"][-1]
    return last.data.snapshot, last.data.live_tasks


@pytest.mark.parametrize("placement", ["in the broker's process", "over TCP"])
async def test_a_restart_reads_the_snapshot_and_what_came_after_it(broker: BrokerServer, tmp_path: Path, placement: str) -> None:
    ports = ports_of(broker, placement)
    await snapshot_of(broker, tmp_path)
    await submit(broker, range(2, 5))
    assert await restored(broker, tmp_path, ports=ports) == (True, 2)
    await until(broker, "task.created", 2)
    owner = await Owner(broker).started()
    await until(broker, "task.created", 5)
    await owner.stop()
    assert await restored(broker, tmp_path, ports=ports) == (True, 5)


async def test_a_snapshot_is_written_once_enough_was_written_to_the_changelog(broker: BrokerServer, tmp_path: Path) -> None:
    owner = await Owner(broker, snapshots=tmp_path, snapshot_bytes=2_000).started()
    for turn in range(5):
        await submit(broker, range(turn * 10, turn * 10 + 10))
        await until(broker, "task.created", turn * 10 + 10)
    await owner.loop.changelog.snapshot_written()
    await owner.crash()
    assert await restored(broker, tmp_path) == (True, 50)


async def test_a_restart_does_not_write_a_snapshot_again_that_little_was_added_to(broker: BrokerServer, tmp_path: Path) -> None:
    written = await snapshot_of(broker, tmp_path, tasks=30)
    owner = await Owner(broker, snapshots=tmp_path, snapshot_bytes=1).started()
    await submit(broker, range(30, 31))
    await until(broker, "task.created", 31)
    await owner.loop.changelog.snapshot_written()
    await owner.crash()
    assert read_snapshot(snapshot_path(tmp_path, 0), partitions=1) == written


def test_a_snapshot_comes_back_as_written_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    snapshot = Snapshot({b"task/a": b"{}", b"!meta": b'{"offset":1}', b"empty": b""}, 42, b"0123456789abcdef", 1_700_000_000)
    write_snapshot(path, snapshot, partitions=4)
    assert read_snapshot(path, partitions=4) == snapshot
    assert read_snapshot(path, partitions=8) is None
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert read_snapshot(path, partitions=4) is None
        path.write_bytes(whole[:position])
        assert read_snapshot(path, partitions=4) is None


@pytest.mark.parametrize("content", [b"taskhub-snapshot-3\n" + bytes(100), b"taskhub-snapshot-4\n" + bytes(100), b""])
async def test_a_damaged_snapshot_or_one_of_an_older_kind_costs_time_and_nothing_else(
    broker: BrokerServer, tmp_path: Path, content: bytes
) -> None:
    await snapshot_of(broker, tmp_path)
    snapshot_path(tmp_path, 0).write_bytes(content)
    assert await restored(broker, tmp_path) == (False, 2)


async def test_what_was_deleted_and_compacted_away_does_not_come_back_from_an_old_snapshot(
    broker: BrokerServer, tmp_path: Path
) -> None:
    path = snapshot_path(tmp_path, 0)
    snapshot = with_a_ghost(await snapshot_of(broker, tmp_path))
    write_snapshot(path, snapshot, partitions=1)
    compacted = Compacted(broker.local)
    assert await restored(broker, tmp_path, ports=compacted, later_us=DAY_US // 2 + 60_000_000) == (False, 2)
    from_the_future = snapshot._replace(written_us=snapshot.written_us + 2 * DAY_US)
    write_snapshot(path, from_the_future, partitions=1)
    assert await restored(broker, tmp_path, ports=compacted) == (False, 2)


async def test_a_young_snapshot_is_used_though_the_changelog_was_compacted(broker: BrokerServer, tmp_path: Path) -> None:
    await snapshot_of(broker, tmp_path)
    assert await restored(broker, tmp_path, ports=Compacted(broker.local), later_us=DAY_US // 3) == (True, 2)


async def test_a_snapshot_of_any_age_is_used_where_nothing_was_compacted_away(broker: BrokerServer, tmp_path: Path) -> None:
    """The embedded broker keeps everything: a hub that was away for a month must not read a year's changelog."""
    await snapshot_of(broker, tmp_path)
    assert await restored(broker, tmp_path, later_us=30 * DAY_US) == (True, 2)


@pytest.mark.parametrize("placement", ["in the broker's process", "over TCP"])
@pytest.mark.parametrize("further", [0, 1, 1_000_000])
async def test_a_snapshot_that_the_changelog_does_not_reach_is_not_believed(
    broker: BrokerServer, tmp_path: Path, placement: str, further: int
) -> None:
    snapshot = with_a_ghost(await snapshot_of(broker, tmp_path))
    end = broker.local.end(STATE, 0)
    write_snapshot(snapshot_path(tmp_path, 0), snapshot._replace(last=end + further), partitions=1)
    assert await restored(broker, tmp_path, ports=ports_of(broker, placement)) == (False, 2)


async def test_a_snapshot_of_a_changelog_that_went_another_way_is_not_believed(broker: BrokerServer, tmp_path: Path) -> None:
    """As where a broker's data was brought back from a backup, and went on."""
    snapshot = with_a_ghost(await snapshot_of(broker, tmp_path))
    write_snapshot(snapshot_path(tmp_path, 0), snapshot._replace(mark=bytes(16)), partitions=1)
    assert await restored(broker, tmp_path) == (False, 2)


async def test_a_snapshot_of_another_hub_is_not_believed_though_it_is_young(broker: BrokerServer, tmp_path: Path) -> None:
    snapshot = with_a_ghost(await snapshot_of(broker, tmp_path))
    meta = json.decode(snapshot.rows[b"!meta"])
    snapshot.rows[b"!meta"] = json.encode({**meta, "created_us": meta["created_us"] + 1})
    write_snapshot(snapshot_path(tmp_path, 0), snapshot, partitions=1)
    assert await restored(broker, tmp_path, ports=Compacted(broker.local)) == (False, 2)


@pytest.mark.parametrize("placement", ["in the broker's process", "over TCP"])
async def test_a_snapshot_before_the_beginning_of_the_changelog_is_not_believed(
    broker: CheckedBroker, tmp_path: Path, placement: str
) -> None:
    """What an operator deleted may have held tombstones."""
    broker.lost = frozenset({"I10"})
    owner = await Owner(broker).started()
    await owner.stop()
    await snapshot_of(broker, tmp_path)
    owner = await Owner(broker).started()
    await owner.stop()
    log = broker.broker.state.log(STATE, 0)
    assert log is not None
    written = read_snapshot(snapshot_path(tmp_path, 0), partitions=1)
    assert written is not None
    log.delete_before(written.last + 1)  # what DeleteRecords does
    used, _ = await restored(broker, tmp_path, ports=ports_of(broker, placement))
    assert not used


def blocks_of(path: Path) -> int:
    """How many blocks a snapshot file has."""
    with path.open("rb") as file:
        return _read_head(file.read(_HEAD_BYTES)).blocks


def timed_row(due_us: int) -> bytes:
    """The row of a task that waits only for a time."""
    row = TaskRow(name=f"name-{due_us % 3}", run=1, state="scheduled", timers=Timers(start=due_us))
    return encode_row(b"task/t", row)[1]


def all_rows(snapshot: Snapshot) -> dict[bytes, bytes]:
    """The rows of a snapshot by key, those kept as columns too."""
    rows = list(snapshot.rows.items())
    for block in snapshot.timed:
        rows += zip(block.keys, block.rows, strict=True)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


VALUES = st.none() | st.binary(max_size=3) | st.integers(0, 9).map(timed_row)


@given(steps=st.lists(st.dictionaries(st.integers(0, 40), VALUES), min_size=1, max_size=8))
def test_a_snapshot_that_was_continued_is_the_fold_of_all_that_was_committed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[int, bytes | None]]
) -> None:
    path = tmp_path_factory.mktemp("snapshots") / "s"
    base: Place | None = None
    expected: dict[bytes, bytes] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(snapshots, "BLOCK_ROWS", 4)
        for last, step in enumerate(steps):
            later = {b"task/%d" % key: value for key, value in step.items()}
            rows = {key: value for key, value in later.items() if value is not None}
            expected = {key: value for key, value in expected.items() if key not in later} | rows
            snapshot = Snapshot(rows, last, b"%016d" % last, last)
            extend_snapshot(path, base, snapshot, frozenset(later.keys() - rows.keys()), partitions=1)
            base = Place(snapshot.last, snapshot.mark)
            written = read_snapshot(path, partitions=1)
            assert written is not None
            assert all_rows(written) == expected
            assert written._replace(rows={}, timed=()) == snapshot._replace(rows={})
            assert {key for block in written.timed for key in block.keys} == {
                key for key, row in expected.items() if row.startswith(b'{"name"')
            }
        assert blocks_of(path) <= 2 * len(expected) // 4 + 4  # small blocks do not pile up


async def test_a_restart_reads_a_snapshot_without_columns_and_continues_it_with_them(
    broker: BrokerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was written by an earlier version."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "divide_rows", lambda rows: (TimedRows(), dict(rows)))
        written = await snapshot_of(broker, tmp_path, tasks=3, start_after=3600)
    assert (written.timed, b"task/t-0" in written.rows) == ((), True)
    assert await restored(broker, tmp_path) == (True, 3)
    owner = await Owner(broker, snapshots=tmp_path).started()
    await submit(broker, range(3, 5), start_after=3600)
    await until(broker, "task.created", 5)
    await owner.loop.changelog.write_snapshot()
    await owner.crash()
    continued = read_snapshot(snapshot_path(tmp_path, 0), partitions=1)
    assert continued is not None
    assert {id for block in continued.timed for id in block.ids()} >= {"t-3", "t-4"}
    assert await restored(broker, tmp_path) == (True, 5)


async def test_a_task_that_changed_after_the_snapshot_is_restored_as_it_became(broker: BrokerServer, tmp_path: Path) -> None:
    written = await snapshot_of(broker, tmp_path, tasks=3, start_after=3600)
    assert [block.ids() for block in written.timed] == [["t-0", "t-1", "t-2"]]
    owner = await Owner(broker, snapshots=tmp_path).started()
    headers = [("ce_type", b"task.cancel"), ("ce_source", b"/test"), ("ce_id", b"c")]
    await broker.local.append(INTAKE, 0, build_batch([Record(b"k", json.encode({"id": "t-1"}), headers, 0)]))
    await until(broker, "task.cancelled", 1)
    await owner.crash()
    assert await restored(broker, tmp_path) == (True, 2)


def test_a_snapshot_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "s", list[tuple[int, int, bool]]()

    def sync(handle: int) -> None:
        status = os.fstat(handle)
        synced.append((status.st_ino, status.st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    write_snapshot(path, Snapshot({b"key": b"{}"}, 1, bytes(16), 1), partitions=1)
    status, folder = path.stat(), tmp_path.stat()
    assert synced[0] == (status.st_ino, status.st_size, False)
    assert synced[-1] == (folder.st_ino, folder.st_size, True)


def test_a_large_snapshot_is_synced_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "BLOCK_ROWS", 1)
    monkeypatch.setattr(snapshots, "SYNC_BYTES", 2_500)
    sizes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: sizes.append(os.fstat(handle).st_size))
    write_snapshot(
        tmp_path / "s", Snapshot({b"%02d" % number: bytes(1_000) for number in range(12)}, 1, bytes(16), 1), partitions=1
    )
    parts = [size - before for before, size in zip([0, *sizes], sizes, strict=False)]
    assert len(parts) == 4
    assert all(2_500 <= part <= 3_500 for part in parts)


def test_a_continued_snapshot_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    """What is decided after a restore depends on nothing but the log: not on how a process hashes keys."""
    path, keys = tmp_path / "s", [b"task/%d" % number for number in range(40)]
    first = Snapshot(dict.fromkeys(keys, b"{}"), 1, b"%016d" % 1, 1)
    write_snapshot(path, first, partitions=1)
    second = Snapshot({keys[3]: b"{1}"}, 2, b"%016d" % 2, 2)
    extend_snapshot(path, Place(first.last, first.mark), second, frozenset({keys[7]}), partitions=1)
    known = read_snapshot(path, partitions=1)
    assert known is not None
    assert list(known.rows) == [key for key in keys if key not in (keys[3], keys[7])] + [keys[3]]


def test_only_the_snapshot_that_is_there_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, second = (Snapshot({b"%d" % last: b"{}"}, last, b"%016d" % last, last) for last in (1, 2))
    base = Place(first.last, first.mark)
    with pytest.raises(SnapshotMismatch):
        extend_snapshot(path, base, second, frozenset(), partitions=1)
    write_snapshot(path, first, partitions=1)
    whole = path.read_bytes()
    for wrong, partitions in ((base._replace(last=0), 1), (base._replace(mark=bytes(16)), 1), (base, 2)):
        with pytest.raises(SnapshotMismatch):
            extend_snapshot(path, wrong, second, frozenset(), partitions=partitions)
    path.write_bytes(whole[:-1])
    with pytest.raises(SnapshotMismatch):
        extend_snapshot(path, base, second, frozenset(), partitions=1)
    assert path.read_bytes() == whole[:-1]


@pytest.mark.parametrize("placement", ["in the broker's process", "over TCP"])
async def test_snapshots_of_a_running_owner_continue_one_another(broker: BrokerServer, tmp_path: Path, placement: str) -> None:
    owner = await Owner(broker, snapshots=tmp_path, ports=ports_of(broker, placement)).started()
    for turn in range(1, 4):
        await submit(broker, range(turn * 2 - 2, turn * 2))
        await until(broker, "task.created", turn * 2)
        await broker.local.stable()
        await owner.loop.changelog.write_snapshot()
        written = read_snapshot(snapshot_path(tmp_path, 0), partitions=1)
        assert written is not None
        changelog = [record async for record in InProcessBroker(broker.local).changelog(0, 0)]
        continued = [record for record in changelog if record.offset <= written.last]  # the engine may have committed more
        assert written.last == continued[-1].offset
        assert written.rows == {record.key: record.value for record in continued}
        assert {f"task/t-{number}".encode() for number in range(turn * 2)} <= written.rows.keys()
    await owner.stop()
    assert (await restored(broker, tmp_path))[0]


async def test_a_snapshot_file_that_was_lost_is_written_again_from_the_changelog(broker: BrokerServer, tmp_path: Path) -> None:
    owner = await Owner(broker, snapshots=tmp_path).started()
    await submit(broker, range(2))
    await until(broker, "task.created", 2)
    await owner.loop.changelog.write_snapshot()
    snapshot_path(tmp_path, 0).unlink()
    await submit(broker, range(2, 4))
    await until(broker, "task.created", 4)
    await owner.loop.changelog.write_snapshot()
    assert not snapshot_path(tmp_path, 0).exists()  # not without the rows that only the lost file had
    await owner.loop.changelog.write_snapshot()
    await owner.stop()
    assert await restored(broker, tmp_path) == (True, 4)


async def test_a_snapshot_is_written_before_the_one_before_gets_too_old(broker: BrokerServer, tmp_path: Path) -> None:
    owner = Owner(broker, snapshots=tmp_path)
    clock, later_us = owner.loop.clock.source, 0
    owner.loop.clock.source = lambda: clock() + later_us
    await owner.started()
    assert not snapshot_path(tmp_path, 0).exists()
    later_us = DAY_US // 4
    await submit(broker, range(1))
    await until(broker, "task.created", 1)
    await owner.loop.changelog.snapshot_written()
    await owner.stop()
    assert read_snapshot(snapshot_path(tmp_path, 0), partitions=1) is not None


def test_a_snapshot_has_the_categories_of_its_rows_only(tmp_path: Path) -> None:
    path, place, gone = snapshot_path(tmp_path, 0), None, frozenset[bytes]()
    path.parent.mkdir(parents=True, exist_ok=True)
    for last in range(6):
        rows = dict(
            encode_row(b"task/%d" % n, TaskRow(name="m", run=1, state="scheduled", queue=f"q{n}", timers=Timers(start=5)))
            for n in range(last * 100, last * 100 + 100)
        )
        extend_snapshot(path, place, Snapshot(rows, last, bytes(16), 1), gone, partitions=1)
        place, gone = Place(last, bytes(16)), frozenset(rows)
    found = read_snapshot(path, partitions=1)
    assert found is not None
    assert sum(len(block.categories) for block in found.timed) == sum(map(len, found.timed)) == 100


async def test_the_changelog_gives_in_the_brokers_process_what_is_on_disk_only(tmp_path: Path) -> None:
    """A snapshot that holds what the log loses with the process would be continued by another history."""
    storage = SlowDisk(tmp_path)
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    await server.local.create_topic(STATE, 1)
    await server.local.append(STATE, 0, build_batch([Record(b"k", b"old", [], 0)]))
    storage.gate.clear()
    server.local.append_soon(STATE, 0, build_batch([Record(b"k", b"new", [], 0)]))
    server.local.request_flush()

    async def read() -> list[bytes | None]:
        return [record.value async for record in InProcessBroker(server.local).changelog(0, 0)]

    reading = asyncio.create_task(read())
    await until_waiting(storage)
    assert not reading.done(), "the record is not on disk"
    storage.gate.set()
    assert (await reading)[-1] == b"new"
    await server.stop()


async def until_waiting(storage: SlowDisk) -> None:
    """The disk holds a write back, and everything else on the loop has had its turn."""
    async with asyncio.timeout(60):
        storage.writing.clear()
        while not storage.writing.is_set():
            await asyncio.sleep(0.001)
    for _ in range(100):
        await asyncio.sleep(0)
