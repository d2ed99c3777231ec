"""A worker as a whole: its start and end without a broker, in virtual time; its leases and credit in a running hub."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from hub import Permanent, TaskContext, TaskRegistry
from hub.kafka import BrokerUnreachable
from hub.worker import Worker, WorkerSettings
from hub.worker.attempts import Attempt
from hub.worker.bodies import Body
from hub.worker.effects import BeginBody
from hub.worker.heartbeats import BLOCKED_SECONDS, DeskHeartbeats
from hub.worker.holdings import shares
from hub.worker.reports import ReportBuilder, WorkerIdentity
from hub.worker.settings import WorkerFailedError
from hub.worker.shared import Locked
from hub.worker.slots import HOLD_SECONDS, Slots
from schemas import EngineAnnounced
from schemas.reports import AttemptCompleted
from tests import virtual_time
from tests.brokers import broker_and_loop
from tests.components.running import running, until

from .desks import KeptReports, LoneWorker, command

tasks = TaskRegistry()


@tasks.task("blocks")
async def blocks(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251  # what an async handler must not do, and some do
    return "done"


@tasks.task("waits")
async def waits() -> str:
    await asyncio.sleep(60)
    return "never"


@tasks.task("quick")
async def quick() -> int:
    return 1


@tasks.task("plain")
def plain() -> int:
    return 1


@tasks.task("bad")
async def bad() -> None:
    raise Permanent("no")


@pytest.mark.parametrize(("slots", "partitions"), [(1, 1), (10, 1), (10, 4), (3, 4), (64, 16)])
def test_slots_are_shared_out_over_the_partitions_at_least_one_each(slots: int, partitions: int) -> None:
    given = shares(slots, partitions)
    assert len(given) == partitions
    assert sum(given) == max(slots, partitions)
    assert max(given) - min(given) <= 1


def test_a_worker_without_tasks_or_slots_is_refused() -> None:
    with pytest.raises(Exception, match="no tasks"):
        Worker("127.0.0.1:1", TaskRegistry())
    with pytest.raises(Exception, match="slots"):
        Worker("127.0.0.1:1", tasks, WorkerSettings(slots=0))


def test_a_new_owner_of_a_partition_gets_a_heartbeat_at_once() -> None:
    async def scene() -> None:
        lone = LoneWorker(tasks)
        await lone.worker.start()
        lone.write(EngineAnnounced(partition=0, partitions=1, epoch=2))
        await until(lambda: bool(lone.beats.kept))
        assert asyncio.get_running_loop().time() < lone.worker.settings.lease_seconds / 10
        [(kind, beat)] = lone.beats.kept
        assert (kind, len(beat["definitions"])) == ("worker.heartbeat", len(tasks.names))
        await lone.worker.stop()

    virtual_time.run(scene())


def test_a_worker_returns_what_finds_no_slot_to_its_partition() -> None:
    async def scene() -> None:
        lone = LoneWorker(tasks, partitions=2, slots=1, grace_seconds=0)
        await lone.worker.start()
        lone.write(command("waits", token="a"), command("waits", token="b", partition=1))
        await until(lambda: lone.worker.stats()["released"] == 1)
        assert HOLD_SECONDS < asyncio.get_running_loop().time() < 2 * HOLD_SECONDS
        await lone.worker.stop()

    virtual_time.run(scene())


def test_a_worker_stops_once_and_logs_how_many_attempts_it_ended() -> None:
    async def scene() -> None:
        lone = LoneWorker(tasks)
        await lone.worker.start()
        lone.write(*(command(name, token=f"{number}") for number, name in enumerate(("quick", "bad", "quick"))))
        await until(lambda: lone.worker.stats()["done"] + lone.worker.stats()["failed"] == 3)
        for _ in range(2):
            await lone.worker.stop()

    with capture_logs() as logs:
        virtual_time.run(scene())
    [stopped] = [line for line in logs if line["action"] == "worker_stopped"]
    assert {field: value for field, value in stopped.items() if isinstance(value, int)} == {"done": 2, "failed": 1}


async def test_a_worker_that_was_stopped_has_no_threads_left() -> None:
    before = set(threading.enumerate())
    lone = LoneWorker(tasks)
    await lone.worker.start()
    lone.write(command("plain"))
    await until(lambda: lone.worker.stats()["done"] == 1)
    [made] = set(threading.enumerate()) - before
    await lone.worker.stop()
    made.join(10)
    assert not made.is_alive()


class Refused(KeptReports):
    """Reports that cannot connect."""

    async def start(self) -> None:
        raise BrokerUnreachable("memory", "nobody is there")


def test_a_worker_that_could_not_start_reports_nothing_when_it_is_stopped() -> None:
    async def scene() -> None:
        lone = LoneWorker(tasks, beats=Refused())
        with pytest.raises(BrokerUnreachable):
            await lone.worker.run(handle_signals=False)
        assert lone.reports.kept == []

    virtual_time.run(scene())


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How this process was ended; it is not, and neither is it by a signal."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    yield exits
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_the_worker_and_the_second_ends_the_process(exits: list[int], number: signal.Signals) -> None:
    async def scene() -> None:
        lone = LoneWorker(tasks)
        whole = asyncio.create_task(lone.worker.run())
        lone.write(command("waits"))
        await until(lambda: "attempt.started" in lone.reports.kinds)
        os.kill(os.getpid(), number)
        await until(lambda: "worker.draining" in lone.reports.kinds)
        assert exits == []
        os.kill(os.getpid(), number)
        await until(lambda: bool(exits))
        assert exits == [1]
        assert "attempt.cancelled" not in lone.reports.kinds, "it does not wait for the grace time"
        await whole

    virtual_time.run(scene())


def test_what_runs_at_the_end_of_the_grace_time_is_stopped_and_reported_before_the_worker_says_that_it_stopped() -> None:
    async def scene() -> None:
        lone = LoneWorker(tasks, grace_seconds=7.0)
        await lone.worker.start()
        lone.write(command("waits"))
        await until(lambda: "attempt.started" in lone.reports.kinds)
        began_at = asyncio.get_running_loop().time()
        await lone.worker.stop()
        assert asyncio.get_running_loop().time() == pytest.approx(began_at + 7.0)
        assert lone.reports.kinds[1:] == ["attempt.started", "worker.draining", "attempt.cancelled", "worker.stopped"]

    virtual_time.run(scene())


class Broken(KeptReports):
    """Reports whose sender fails for a mistake."""

    async def watch(self) -> None:
        raise ValueError("a mistake of ours")


def test_a_worker_ends_when_its_sender_fails() -> None:
    async def scene() -> None:
        async with asyncio.timeout(60):
            with pytest.raises(WorkerFailedError, match="a mistake of ours"):
                await LoneWorker(tasks, reports=Broken()).worker.run(handle_signals=False)

    virtual_time.run(scene())


async def test_a_worker_that_was_left_with_credit_elsewhere_takes_all_work_of_one_partition() -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, slots=8) as world:
            root = await world.hub.submit("quick", id="root")
            await root.result(timeout_seconds=60)
            graph: dict[str, Any] = {f"n{i}": {"name": "waits"} for i in range(8)}
            handle = await world.hub.submit("quick", tasks=graph)
            await until(lambda: world.workers[0].stats()["running"] == 5)  # each other partition keeps one
            await handle.cancel()
            assert (await handle.outcome(timeout_seconds=60)).state == "cancelled"


async def test_what_an_attempt_held_is_gone_with_its_end_and_not_only_when_the_collector_comes() -> None:
    def held() -> int:
        return sum(isinstance(one, TaskContext | Attempt | Body) for one in gc.get_objects())

    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks) as world:
            gc.collect()
            before = held()
            gc.disable()
            try:
                for handle in await world.hub.submit_many([{"name": "quick"}] * 20):
                    await handle.result(timeout_seconds=60)
                await until(lambda: held() <= before)
            finally:
                gc.enable()


async def test_a_handler_that_blocks_the_loop_keeps_its_lease() -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, workers=0) as world:
            worker = Worker(server.bootstrap, tasks, WorkerSettings(slots=2, lease_seconds=3.0))
            await asyncio.to_thread(_run_for_a_while, worker, world.hub)
            reply = await world.hub.get("blocker")
            assert (reply.state, reply.attempt) == ("completed", 1)


def test_a_start_from_the_heartbeat_thread_is_numbered_below_what_the_loop_reports_meanwhile() -> None:
    slots, attempt = begun_attempt(began_at=0.0)
    identity = WorkerIdentity("incarnation", 0, WorkerSettings())
    loop, thread = ReportBuilder(identity), DeskHeartbeats(slots, ReportBuilder(identity, "h"), clock=lambda: BLOCKED_SECONDS + 1)
    ended = loop.of_attempt(attempt, AttemptCompleted, result=msgspec.Raw(b"1"), ran_seconds=0.0)
    [started] = thread.overdue()
    first, last = (msgspec.json.decode(each.value)["number"] for each in (started, ended))
    assert first < last, "an engine that sees the start first must not take the end for a repetition"
    assert dict(started.headers)["ce_id"] != dict(ended.headers)["ce_id"]
    assert not thread.overdue()


@pytest.mark.parametrize(("began_at", "now"), [(10.0, 10.0 + BLOCKED_SECONDS / 2), (0.0, BLOCKED_SECONDS)])
def test_a_body_that_just_began_is_left_to_the_loop(began_at: float, now: float) -> None:
    slots, _ = begun_attempt(began_at)
    identity = WorkerIdentity("incarnation", 0, WorkerSettings())
    assert DeskHeartbeats(slots, ReportBuilder(identity, "h"), clock=lambda: now).overdue() == []


def begun_attempt(began_at: float) -> tuple[Locked[Slots], Attempt]:
    """A desk with one attempt whose start is not reported yet."""
    slots = Slots(1, 1)
    [begin] = slots.take(command("quick"), began_at)
    assert isinstance(begin, BeginBody)
    slots.starts.add(begin.attempt, began_at)
    return Locked(slots), begin.attempt


def _run_for_a_while(worker: Worker, hub: Any) -> None:
    """A worker in a thread and loop of its own, until its blocking task is done."""

    async def live() -> None:
        await worker.start()
        from hub import Hub

        async with Hub(transport=worker._transport) as own:
            handle = await own.submit("blocks", {"seconds": 4.5}, id="blocker")
            await handle.result(timeout_seconds=60)
        await worker.stop()

    asyncio.run(live())
