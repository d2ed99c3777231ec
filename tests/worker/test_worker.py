"""Leases and credit of a worker in a running hub."""

import asyncio
import gc
import time
from typing import Any

import msgspec
import pytest

from hub import TaskContext, TaskRegistry
from hub.worker import Worker, WorkerSettings
from hub.worker.attempts import Attempt
from hub.worker.bodies import Body
from hub.worker.effects import BeginBody
from hub.worker.heartbeats import BLOCKED_SECONDS, DeskHeartbeats
from hub.worker.holdings import shares
from hub.worker.reports import ReportBuilder, WorkerIdentity
from hub.worker.shared import Locked
from hub.worker.slots import Slots
from schemas.reports import AttemptCompleted
from tests.brokers import broker_and_loop
from tests.components.running import running, until

from .desks import command

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


def test_a_body_that_just_began_is_left_to_the_loop() -> None:
    slots, _ = begun_attempt(began_at=10.0)
    identity = WorkerIdentity("incarnation", 0, WorkerSettings())
    assert DeskHeartbeats(slots, ReportBuilder(identity, "h"), clock=lambda: 10.0 + BLOCKED_SECONDS / 2).overdue() == []


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
