"""The loop recovers: from a record that the engine cannot process, and from a log that is ahead of the clock."""

import asyncio
import struct
import time
from importlib import import_module
from typing import Any

import pytest
from crc32c import crc32c
from msgspec import json
from structlog.testing import capture_logs

import hub.core.requests as requests_module
from hub.broker import BrokerServer
from hub.core.tasks.endings import cancelled
from hub.core.time.timers import TIMERS
from hub.core.times import us_of
from hub.core.workflows.dependencies import place
from hub.engine.clock import TimeWatermark
from hub.engine.in_process import InProcessBroker, InProcessSession
from hub.engine.loop import CHECKPOINT_US
from hub.kafka import INTAKE, STATE, Record, StoredRecord, build_batch
from hub.verify import LocalSource, verify_source
from tests.engine.test_loop import CheckedBroker, Owner, broker, events, records, submit, until

__all__ = ["broker"]  # the fixture

LEASE_SECONDS = 600
ENCODE = import_module("hub.engine.encode")  # the package has a function of that name


async def test_a_record_that_cannot_be_decided_is_found_among_many_and_set_aside(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = place

    def broken(changes: Any, task: Any) -> None:
        if task.id == "t-3":
            raise ZeroDivisionError("a mistake of ours")
        real(changes, task)

    monkeypatch.setattr(requests_module, "place", broken)
    owner = await Owner(broker).started()
    await submit(broker, range(7))
    log = await until(broker, "task.created", 6)
    assert [event.subject for event in log if event.type == "task.created"] == [f"t-{number}" for number in (0, 1, 2, 4, 5, 6)]
    [aside] = [event for event in log if event.type == "engine.report_dead_lettered"]
    assert "a mistake of ours" in aside.data.reason
    await owner.stop()
    second = await Owner(broker).started()  # it stands behind it
    await submit(broker, range(7, 8))
    await until(broker, "task.created", 7)
    await second.stop()


async def test_time_goes_on_from_the_log_where_the_clock_was_set_back(broker: BrokerServer) -> None:
    first = await Owner(broker).started()
    await submit(broker, range(1))
    await until(broker, "task.created", 1)
    await first.stop()
    written_us = us_of((await events(broker))[-1].time)
    second = Owner(broker)
    clock = second.loop.clock.source
    second.loop.clock.source = lambda: clock() - 3_600_000_000
    await second.started()
    assert 0 <= second.loop.clock.now_us() - written_us < 60_000_000
    await second.stop()
    times = [event.time for event in await events(broker)]
    assert times == sorted(times)


def test_everybody_was_heard_up_to_an_end_once_it_is_read_also_while_the_log_grows_faster() -> None:
    watermark = TimeWatermark()
    watermark.read(position=10, end=1_000, end_us=100)
    watermark.read(position=500, end=2_000, end_us=200)
    assert watermark.time_us is None
    watermark.read(position=1_200, end=3_000, end_us=300)
    assert watermark.time_us == 100
    watermark.read(position=1_900, end=4_000, end_us=400)
    assert watermark.time_us == 100
    watermark.read(position=3_100, end=5_000, end_us=500)
    assert watermark.time_us == 300
    watermark.read(position=5_000, end=5_000, end_us=600)
    assert watermark.time_us == 600
    watermark.read(position=5_000, end=6_000, end_us=700)
    watermark.read(position=5_000, end=7_000, end_us=800)
    assert watermark.time_us == 600, "what lies after the beginning of an open transaction has not been read"
    watermark.read(position=7_000, end=8_000, end_us=900)
    assert watermark.time_us == 700


async def beat(broker: BrokerServer, kind: str, *, lease_seconds: float = LEASE_SECONDS, pool: str = "default") -> None:
    about = {
        "incarnation": "w1",
        "pool": pool,
        "inbox": 1,
        "queues": ["default"],
        "definitions": [{"name": "t"}],
        "slots": 9,
        "credit": 9,
    }
    headers = [("ce_type", kind.encode()), ("ce_source", b"/w"), ("ce_id", b"1")]
    value = json.encode({**about, "lease_seconds": lease_seconds})
    await broker.local.append(INTAKE, 0, build_batch([Record(b"w1", value, headers, 0)]))


async def test_heartbeats_alone_move_the_place_that_a_restart_begins_at(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.loop.CHECKPOINT_RECORDS", 5)
    owner = await Owner(broker).started()
    await beat(broker, "worker.registered")
    await until(broker, "worker.registered", 1)
    for _ in range(30):
        await beat(broker, "worker.heartbeat")
    await until_meta_is_beyond(broker, 20)
    written = owner.loop.transactions
    for _ in range(12):
        await beat(broker, "worker.heartbeat")
        end = broker.local.end(INTAKE, 0)
        async with asyncio.timeout(60):
            while owner.loop.offset < end:
                await asyncio.sleep(0)
    assert 1 <= owner.loop.transactions - written <= 3, "one for six of them"
    await owner.crash()
    await nothing_is_wrong(broker)


async def test_a_heartbeat_now_and_then_moves_it_too(broker: BrokerServer) -> None:
    owner = await Owner(broker).started()
    await beat(broker, "worker.registered", lease_seconds=600)
    await until(broker, "worker.registered", 1)
    clock, beats = owner.loop.clock.source, 3
    for _ in range(beats):
        await beat(broker, "worker.heartbeat", lease_seconds=600)
    async with asyncio.timeout(60):
        while owner.loop.offset <= beats:
            await asyncio.sleep(0.01)
    written = owner.loop.transactions
    for later_us in range(0, CHECKPOINT_US + 3_000_000, 3_000_000):  # one leap would be a process that was stopped
        owner.loop.clock.source = lambda later_us=later_us: clock() + later_us  # type: ignore[misc]
        await beat(broker, "worker.heartbeat", lease_seconds=600)
        end = broker.local.end(INTAKE, 0)
        async with asyncio.timeout(60):
            while owner.loop.offset < end:
                await asyncio.sleep(0)
    await until_meta_is_beyond(broker, beats)
    await broker.local.stable()
    assert owner.loop.transactions == written + 1, "one for all of them, and none while nobody speaks"
    await owner.crash()


async def test_a_process_that_was_stopped_for_some_time_extends_leases_by_it(broker: BrokerServer) -> None:
    owner = await Owner(broker).started()
    await beat(broker, "worker.registered", lease_seconds=10)
    await submit(broker, range(1))
    await until(broker, "task.dispatched", 1)
    clock = owner.loop.clock.source
    with capture_logs() as logs:
        owner.loop.clock.source = lambda: clock() + 60_000_000
        await submit(broker, range(1, 2))
        await until(broker, "task.created", 2)
    stopped = [entry for entry in logs if entry["action"] == "engine_was_stopped"]
    assert [round(entry["seconds"]) for entry in stopped] == [60]
    for seconds in (62, 65, 68, 71, 74):  # and after that they end as ever
        later_us = seconds * 1_000_000
        owner.loop.clock.source = lambda later_us=later_us: clock() + later_us  # type: ignore[misc]
        for number in range(3):
            so_far = [event.type for event in await events(broker)].count("task.created")
            await submit(broker, range(later_us + number, later_us + number + 1))
            await until(broker, "task.created", so_far + 1)
        kinds = [event.type for event in await events(broker)]
        assert ("worker.heartbeat_missed" in kinds, "worker.lost" in kinds) == (seconds >= 68, seconds >= 71)
    await owner.stop()


async def until_meta_is_beyond(broker: BrokerServer, offset: int) -> None:
    async with asyncio.timeout(60):
        while True:
            rows = {record.key: record.value for record in await records(broker, STATE)}
            if json.decode(rows[b"!meta"] or b"")["offset"] > offset:
                return
            await asyncio.sleep(0.01)


async def nothing_is_wrong(broker: BrokerServer) -> None:
    await broker.local.stable()
    report = await verify_source(LocalSource(broker.local))
    assert report.ok, report.render()
    assert {"I7", "I10", "I31"} <= set(report.checked)


async def test_a_record_whose_output_fits_into_no_record_is_found_and_dead_lettered(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENCODE, "BATCH_BYTES_MAX", 20_000)
    monkeypatch.setattr(ENCODE, "_CERTAINLY_FITS", 10_000)
    owner = await Owner(broker).started()
    large = json.encode({"name": "t", "id": "large", "description": "d" * 4_000, "args": {"a": "x" * 30_000}})
    headers = [("ce_type", b"task.created"), ("ce_source", b"/test"), ("ce_id", b"large")]
    await submit(broker, range(3))
    await broker.local.append(INTAKE, 0, build_batch([Record(b"k", large, headers, 0)]))
    await submit(broker, range(3, 6))
    log = await until(broker, "task.created", 6)
    assert sorted(event.subject for event in log if event.type == "task.created") == [f"t-{number}" for number in range(6)]
    [aside] = [event for event in log if event.type == "engine.report_dead_lettered"]
    assert "RecordTooLarge" in aside.data.reason
    await owner.stop()
    monkeypatch.undo()
    second = await Owner(broker).started()  # it is after that record
    await submit(broker, range(6, 7))
    await until(broker, "task.created", 7)
    await second.stop()


async def test_a_timer_whose_output_fits_into_no_record_is_found_among_others(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TIMERS["total"]

    def at_length(changes: Any, task: Any, due_us: int, mark: int) -> None:
        if task.id == "t-1":
            changes.apply(task, cancelled(task.row, changes.now, reason="r" * 30_000, by=None))
        else:
            real(changes, task, due_us, mark)

    monkeypatch.setitem(TIMERS, "total", at_length)
    monkeypatch.setattr(ENCODE, "BATCH_BYTES_MAX", 20_000)
    monkeypatch.setattr(ENCODE, "_CERTAINLY_FITS", 10_000)
    owner = await Owner(broker).started()
    await submit(broker, range(3), timeouts={"total": 0.1})
    log = await until(broker, "task.failed", 2)
    assert sorted(event.subject for event in log if event.type == "task.failed") == ["t-0", "t-2"]
    [aside] = [event for event in await until(broker, "engine.timer_dead_lettered", 1) if "timer_dead" in event.type]
    assert (aside.data.timer, aside.data.task) == ("total", "t-1")
    await submit(broker, range(3, 4))
    await until(broker, "task.created", 4)
    await owner.stop()


async def test_a_failure_that_no_record_is_to_blame_for_is_raised_when_it_repeats_itself(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await Owner(broker).started()
    monkeypatch.setattr("hub.engine.partition.dispatch", lambda changes: 1 / 0)
    with capture_logs() as logs:
        await submit(broker, range(3))
        async with asyncio.timeout(60):
            with pytest.raises(ZeroDivisionError):
                await owner.task
    poison = [entry["event"] for entry in logs if entry["action"] == "engine_poison"]
    assert len(poison) == 2
    assert "stopping the partition" in poison[1]
    monkeypatch.undo()
    second = await Owner(broker).started()  # nothing was written, so nothing is lost
    log = await until(broker, "task.created", 3)
    assert "engine.report_dead_lettered" not in [event.type for event in log]
    await second.stop()


async def test_a_pool_without_a_topic_is_not_looked_for_at_each_heartbeat(broker: BrokerServer) -> None:
    ports = InProcessBroker(broker.local)
    asked, real = [], ports.pools

    async def pools() -> list[str]:
        asked.append(1)
        return await real()

    ports.pools = pools  # type: ignore[method-assign]  # counted, and answered as ever
    owner = await Owner(broker, ports=ports).started()
    for _ in range(20):
        await beat(broker, "worker.heartbeat", pool="nowhere")
        offset = broker.local.end(INTAKE, 0)
        async with asyncio.timeout(60):
            while owner.loop.offset < offset:
                await asyncio.sleep(0.002)
    assert len(asked) <= 3
    await owner.stop()


async def test_a_slow_commit_is_not_taken_for_a_stop_of_the_process(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await stops_noticed(broker, monkeypatch, steps=30) == []


async def test_a_stop_of_the_process_while_it_waits_for_a_commit_is_noticed(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = await stops_noticed(broker, monkeypatch, steps=1)
    assert stops
    assert {round(seconds) % 30 for seconds in stops} == {0}, "one or more commits in a turn of the loop"


async def stops_noticed(broker: BrokerServer, monkeypatch: pytest.MonkeyPatch, *, steps: int) -> list[float]:
    """The seconds of the stops that an engine notices whose commits take 30 s, in which its event loop runs `steps` times."""
    clock = [time.time_ns() // 1000]
    owner = Owner(broker)
    owner.loop.clock.source = lambda: clock[0]
    real = InProcessSession.commit

    async def slow(session: Any, outputs: Any) -> Any:
        for _ in range(steps):
            clock[0] += 30_000_000 // steps
            await asyncio.sleep(0.005)
        return await real(session, outputs)

    monkeypatch.setattr("hub.engine.clock.BEAT_SECONDS", 0.001)
    monkeypatch.setattr(InProcessSession, "commit", slow)
    with capture_logs() as logs:
        await owner.started()
        for number in range(3):
            await submit(broker, range(number, number + 1))
            await until(broker, "task.created", number + 1)
        await owner.stop()
    return [entry["seconds"] for entry in logs if entry["action"] == "engine_was_stopped"]


async def test_a_batch_that_a_producer_wrote_broken_is_dead_lettered_and_the_next_is_decided(broker: BrokerServer) -> None:
    owner = await Owner(broker).started()
    batch = bytearray(build_batch([Record(b"k", b"v", [], 0)] * 3))
    batch[61:] = b"\xff" * len(batch[61:])
    struct.pack_into(">I", batch, 17, crc32c(bytes(batch[21:])))
    await broker.local.append(INTAKE, 0, bytes(batch))
    await submit(broker, range(1))
    log = await until(broker, "task.created", 1)
    [aside] = [event for event in log if event.type == "engine.report_dead_lettered"]
    assert "cannot be decoded" in aside.data.reason
    await owner.stop()


async def test_rows_that_are_not_the_engines_do_not_keep_a_partition_from_starting(broker: CheckedBroker) -> None:
    broker.lost = frozenset({"I10"})  # The checker reports those rows.
    first = await Owner(broker).started()
    await submit(broker, range(3))
    await until(broker, "task.created", 3)
    await first.stop()
    rows = [
        (b"task/t-1", b"garbage"),
        (b"task/\xff", b"{}"),
        (b"!meta", b"[]"),
        (b"plan/t-2", b"{}"),
        (b"worker/w", b"1"),
        (b"definition/0/*/x@1", b'{"definition":{"name":"y"},"state":"active"}'),
        (b"definition/0/*/x@1", b'{"definition":{"name":"x"},"state":"odd"}'),
        (b"definition/0/*/x@1", b'{"definition":{"name":"x","timeout_seconds":-1},"state":"active"}'),
        (b"x", b"y"),
    ]
    await broker.local.append(STATE, 0, build_batch([Record(key, value, [], 0) for key, value in rows]))
    with capture_logs() as logs:
        second = await Owner(broker).started()
    assert [entry["key"] for entry in logs if entry["action"] == "engine_foreign_row"]
    restored = [event for event in await events(broker) if event.type == "engine.restored"][-1]
    assert restored.data.live_tasks == 3, "what the engine wrote before still holds"
    await submit(broker, range(3, 4))
    await until(broker, "task.created", 4)
    await second.stop()


class StoppedIntake:
    """An intake of a process that is stopped, once `running` is cleared, before its next read; `stopped` is then set."""

    def __init__(self, intake: Any, ports: "StoppedPorts") -> None:
        self._intake = intake
        self._ports = ports

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intake, name)

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        if not self._ports.running.is_set():
            self._ports.stopped.set()
            await self._ports.running.wait()
        records: list[StoredRecord] = await self._intake.read(max_records, timeout_seconds)
        return records


class StoppedPorts(InProcessBroker):
    def __init__(self, broker: BrokerServer) -> None:
        super().__init__(broker.local)
        self.running, self.stopped = asyncio.Event(), asyncio.Event()
        self.running.set()

    async def intake(self, partition: int, offset: int) -> Any:
        return StoppedIntake(await super().intake(partition, offset), self)


async def test_an_owner_that_finds_its_intake_deleted_by_its_successor_is_fenced_and_does_not_fail(broker: BrokerServer) -> None:
    ports = StoppedPorts(broker)
    first = await Owner(broker, ports=ports).started()
    ports.running.clear()
    async with asyncio.timeout(60):
        await ports.stopped.wait()
    second = await Owner(broker).started()
    await submit(broker, range(3))
    await until(broker, "task.created", 3)
    await broker.local.delete_records(INTAKE, 0, 3)
    ports.running.set()
    async with asyncio.timeout(60):
        await first.task
    assert first.loop.fenced
    await second.stop()
