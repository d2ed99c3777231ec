"""Leases and credit of a worker in a running hub."""

import asyncio
import time
from typing import Any

import pytest

from hub import TaskRegistry
from hub.worker import Worker, WorkerSettings
from hub.worker.worker import shares
from tests.brokers import broker_and_loop
from tests.components.running import running, until

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
            await root.result(timeout_seconds=10)
            graph: dict[str, Any] = {f"n{i}": {"name": "waits"} for i in range(8)}
            handle = await world.hub.submit("quick", tasks=graph)
            await until(lambda: world.workers[0].stats()["running"] == 5)  # each other partition keeps one
            await handle.cancel()
            assert (await handle.outcome(timeout_seconds=20)).state == "cancelled"


async def test_a_handler_that_blocks_the_loop_keeps_its_lease() -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, workers=0) as world:
            worker = Worker(server.bootstrap, tasks, WorkerSettings(slots=2, lease_seconds=1.0))
            await asyncio.to_thread(_run_for_a_while, worker, world.hub)
            reply = await world.hub.get("blocker")
            assert (reply.state, reply.attempt) == ("completed", 1)


def _run_for_a_while(worker: Worker, hub: Any) -> None:
    """A worker in a thread and loop of its own, until its blocking task is done."""

    async def live() -> None:
        await worker.start()
        from hub import Hub

        async with Hub(worker._bootstrap) as own:
            handle = await own.submit("blocks", {"seconds": 3.0}, id="blocker")
            await handle.result(timeout_seconds=20)
        await worker.stop()

    asyncio.run(live())
