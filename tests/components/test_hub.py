"""Engine, worker and client together, over TCP with four partitions, on the embedded broker and on Apache Kafka."""

import asyncio
import threading
import time
from typing import Any

import pytest

from hub import Permanent, RetryLater, TaskCancelledError, TaskContext, TaskFailedError, TaskRegistry, TaskUnknownError, Workflow
from hub.client import Hub, InvalidSubmissionError, TaskRejectedError
from hub.kafka import INTAKE, Cluster, read_all
from hub.verify import verify
from tests.brokers import unique

from .running import PARTITIONS, running, until

tasks = TaskRegistry()
gate = threading.Event()
seen: list[str] = []


@tasks.task("add")
async def add(a: int, b: int = 1) -> int:
    return a + b


@tasks.task("join")
def join(ctx: TaskContext) -> dict[str, Any]:
    return ctx.dependencies


@tasks.task("flaky", retry={"max_attempts": 3, "backoff": [0.05], "jitter": 0})
async def flaky(ctx: TaskContext) -> int:
    if ctx.attempt < 3:
        raise RetryLater("not yet", after=0.05) if ctx.attempt == 1 else RuntimeError("again")
    return ctx.attempt


@tasks.task("broken")
async def broken() -> None:
    raise Permanent("it can't work")


@tasks.task("sleeps")
async def sleeps(seconds: float, ctx: TaskContext) -> str:
    ctx.progress(10, "asleep")
    await asyncio.sleep(seconds)
    return "woke"


@tasks.task("gated")
async def gated() -> str:
    while not gate.is_set():
        await asyncio.sleep(0.01)
    return "passed"


@tasks.task("patient")
def patient(ctx: TaskContext) -> str:
    deadline = time.monotonic() + 60
    while not ctx.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    if ctx.cancelled:
        raise RuntimeError("told to stop")
    return "not told"


@tasks.task("once", delivery="at_most_once")
async def once(ctx: TaskContext) -> int:
    seen.append(ctx.task_id)
    return seen.count(ctx.task_id)


async def test_results_errors_retries_and_bad_arguments_come_back(empty_bootstrap: str) -> None:
    async with running(empty_bootstrap, tasks) as world:
        hub = world.hub
        assert await hub.run(add, {"a": 2}, timeout_seconds=60) == 3
        assert await hub.run(flaky, timeout_seconds=60) == 3
        assert await hub.run(once, timeout_seconds=60) == 1
        with pytest.raises(TaskFailedError, match="it can't work") as failed:
            await hub.run(broken, timeout_seconds=60)
        assert failed.value.reply.attempt == 1
        with pytest.raises(TaskFailedError, match=r"args\.a"):
            await hub.run("add", {"a": "x"}, timeout_seconds=60)
        with pytest.raises(TaskFailedError, match=r"args\.c"):
            await hub.run("add", {"a": 1, "c": 2}, timeout_seconds=60)
        with pytest.raises(InvalidSubmissionError, match="prioritty"):
            await hub.submit("add", prioritty=5)
        with pytest.raises(InvalidSubmissionError, match="priority"):
            await hub.submit("add", priority="high")
        with pytest.raises(TaskRejectedError, match="retry.max_attempts"):
            await (await hub.submit("add", retry={"max_attempts": 0})).result(timeout_seconds=60)
        unknown = await hub.get("nobody")
        assert unknown.kind == "unknown"


async def test_a_workflow_joins_and_can_be_watched(empty_bootstrap: str) -> None:
    flow = Workflow("sum").step("x", add, {"a": 1}).step("y", add, {"a": 2}).step("z", join, after=["x", "y"])
    async with running(empty_bootstrap, tasks) as world:
        handle = await world.hub.submit(flow)
        assert await handle.result(timeout_seconds=60) == {"z": {"x": 2, "y": 3}}
        events = [event async for event in handle.watch()]
        assert events[0].type == "task.created"
        assert events[-1].type == "workflow.completed"
        for subject in {event.subject for event in events}:
            numbers = [event.sequence for event in events if event.subject == subject]
            assert numbers == list(range(1, len(numbers) + 1))


async def test_the_same_submission_makes_one_task_and_a_second_client_gets_its_result(empty_bootstrap: str) -> None:
    key = unique("key")
    async with running(empty_bootstrap, tasks) as world:
        first = await world.hub.submit("add", {"a": 1}, idempotency_key=key)
        assert await first.result(timeout_seconds=60) == 2
        async with Hub(empty_bootstrap) as other:
            again = await other.submit("add", {"a": 1}, idempotency_key=key)
            assert again.id == first.id
            assert await again.result(timeout_seconds=60) == 2
            with pytest.raises(TaskRejectedError, match="idempotency_conflict"):
                await (await other.submit("add", {"a": 9}, idempotency_key=key)).result(timeout_seconds=60)


async def test_a_cancel_reaches_running_code_async_and_plain(empty_bootstrap: str) -> None:
    async with running(empty_bootstrap, tasks) as world:
        for name, args in (("sleeps", {"seconds": 60}), ("patient", {})):
            handle = await world.hub.submit(name, args)

            async def is_running(handle: Any = handle) -> bool:
                return bool((await handle.state()).state == "running")

            await until(is_running)
            await handle.cancel("enough")
            with pytest.raises(TaskCancelledError, match="enough"):
                await handle.result(timeout_seconds=60)


async def test_a_large_result_is_read_from_the_log_when_the_index_has_let_it_go(empty_bootstrap: str) -> None:
    large = TaskRegistry()

    @large.task("large")
    async def give() -> str:
        return "x" * 100_000

    async with running(empty_bootstrap, large) as world:
        handle = await world.hub.submit("large")
        assert len(await handle.result(timeout_seconds=60)) == 100_000
        async with Hub(empty_bootstrap) as other:
            late = await other.submit("large", id=handle.id)
            assert len(await late.result(timeout_seconds=60)) == 100_000


async def drains_everywhere(bootstrap: str) -> bool:
    """Whether a worker has told every partition that it takes nothing new."""
    kinds = [
        {dict(record.headers)["ce_type"] async for record in read_all(Cluster.of(bootstrap), INTAKE, partition)}
        for partition in range(PARTITIONS)
    ]
    return all(b"worker.draining" in found for found in kinds)


async def test_a_drained_worker_finishes_what_runs_and_another_takes_the_rest(empty_bootstrap: str) -> None:
    async with running(empty_bootstrap, tasks, slots=4, grace_seconds=60) as world:
        gate.clear()
        handles = await world.hub.submit_many([{"name": "gated"}] * 12)
        first = world.workers[0]
        await until(lambda: first.stats()["running"] > 0)
        second = await world.worker(slots=4)
        await until(lambda: second.stats()["running"] > 0)
        stopping = asyncio.create_task(first.stop())
        await until(lambda: drains_everywhere(empty_bootstrap))
        for handle in handles:
            await world.hub.get(handle.id)  # its answer comes after the partition has read that
        gate.set()
        await stopping
        async with asyncio.timeout(60):
            assert [await handle.result() for handle in handles] == ["passed"] * 12
        assert second.stats()["done"] > 0
        assert [(await handle.outcome()).attempt for handle in handles] == [1] * 12


async def test_two_engines_share_the_partitions_and_one_takes_over_from_the_other(empty_bootstrap: str) -> None:
    async with running(empty_bootstrap, tasks, engines=2) as world:
        await world.owned()
        handles = await world.hub.submit_many([{"name": "sleeps", "args": {"seconds": 0.05}}] * 40)
        await world.engines[0].stop()
        world.engines.pop(0)
        async with asyncio.timeout(60):
            assert [await handle.result() for handle in handles] == ["woke"] * 40
        report = await verify(Cluster.of(empty_bootstrap))
        assert report.ok, report.render()


async def test_an_unknown_task_is_said_to_be_unknown(empty_bootstrap: str) -> None:
    async with running(empty_bootstrap, tasks) as world:
        with pytest.raises(TaskUnknownError):
            await anext(world.hub.watch(unique("nobody")))
