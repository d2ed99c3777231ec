"""Faults of handlers and brokers: every attempt ends with an outcome, and the worker continues or reports an error."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from hub import Permanent, RetryLater, TaskContext, TaskRegistry
from hub.kafka import INTAKE, Cluster, StoredRecord, read_all
from hub.worker import Worker, WorkerSettings
from hub.worker.settings import WorkerFailedError
from schemas import CancelAttempt, TaskReply
from tests.brokers import broker_and_loop
from tests.components.running import PARTITIONS, Running, running, until

from .desks import LoneDesk, command

tasks = TaskRegistry()
ran: list[str] = []
let_go = threading.Event()


class Hard(BaseException):
    """What `except Exception` does not catch."""


class Mute(Exception):
    """Its `str` raises."""

    def __str__(self) -> str:
        raise RuntimeError("no")


RAISED: dict[str, Any] = {
    "surrogate": lambda: ValueError("name\udcff"),
    "base": lambda: Hard("x"),
    "mute": Mute,
    "stop": lambda: StopIteration(3),
    "stop-async": StopAsyncIteration,
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": lambda: asyncio.CancelledError("an inner task"),
    "permanent": lambda: Permanent("never"),
    "forever": lambda: RetryLater("later", after=float("inf")),
    "long": lambda: ValueError("m" * 10_000_000),
}


@tasks.task("raises", retry={"max_attempts": 1})
async def raises(which: str) -> None:
    raise RAISED[which]()


@tasks.task("raises-plain", retry={"max_attempts": 1})
def raises_plain(which: str) -> None:
    raise RAISED[which]()


@tasks.task("waits")
async def waits() -> None:
    ran.append("waits")
    await asyncio.sleep(60)


@tasks.task("hangs", timeout_seconds=0.2, retry={"max_attempts": 2, "backoff": [0.0]})
def hangs() -> None:
    ran.append("hangs")
    let_go.wait(30)


@tasks.task("hangs-once", timeout_seconds=0.2, retry={"max_attempts": 1})
def hangs_once() -> None:
    let_go.wait(30)


@tasks.task("flaky", retry={"max_attempts": 5, "backoff": [0.01]})
async def flaky(ctx: TaskContext) -> int:
    if ctx.attempt < 5:
        raise ValueError("not yet")
    return ctx.max_attempts


@tasks.task("quick")
async def quick() -> str:
    ran.append("quick")
    return "done"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    ran.clear()
    let_go.clear()
    yield
    let_go.set()


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """A hub with one worker, whose lease has the seconds of the test's parameter, by default 10."""
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, slots=4, lease_seconds=getattr(request, "param", 10.0)) as world:
            yield world


@pytest.mark.parametrize("name", ["raises", "raises-plain"])
async def test_whatever_a_handler_raises_its_attempt_fails_once_and_the_worker_goes_on(world: Running, name: str) -> None:
    handles = await world.hub.submit_many([{"name": name, "args": {"which": which}} for which in RAISED])
    for which, handle in zip(RAISED, handles, strict=True):
        reply = await handle.outcome(timeout_seconds=60)
        if which == "forever":
            assert (reply.state, reply.attempt) == ("failed", 1)
            continue
        assert (reply.state, reply.attempt) == ("failed", 1), which
        assert reply.error is not None, which
    assert await world.hub.run("quick", timeout_seconds=60) == "done"
    assert world.workers[0].stats()["running"] == 0


async def test_what_a_task_was_registered_with_holds_also_for_submissions_by_name(world: Running) -> None:
    assert await world.hub.run("flaky", timeout_seconds=60) == 5
    reply = await (await world.hub.submit("flaky", retry={"max_attempts": 2, "backoff": [0.01]})).outcome(timeout_seconds=60)
    assert (reply.state, reply.attempt) == ("failed", 2)
    hung = await (await world.hub.submit("hangs")).outcome(timeout_seconds=60)
    assert (hung.state, hung.attempt, hung.error and hung.error.type) == ("failed", 2, "AttemptTimedOut")
    assert "0.2 s" in (hung.error.message if hung.error else "")


async def test_functions_that_hang_keep_their_slots_and_nothing_runs_without_a_thread(world: Running) -> None:
    for handle in await world.hub.submit_many([{"name": "hangs-once"}] * 3):
        assert (await handle.outcome(timeout_seconds=60)).state == "failed"
    worker = world.workers[0]
    assert (worker.stats()["running"], worker.busy_threads) == (3, 3)
    for handle in await world.hub.submit_many([{"name": "quick"}] * 20):
        assert (await handle.outcome(timeout_seconds=60)).state == "completed"
    let_go.set()
    await until(lambda: (worker.stats()["running"], worker.busy_threads) == (0, 0))


async def test_a_worker_whose_slots_all_hang_ends_with_an_error() -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, workers=0) as world:
            worker = Worker(server.bootstrap, tasks, WorkerSettings(slots=1, grace_seconds=0.3))
            whole = asyncio.get_running_loop().create_task(worker.run(handle_signals=False))
            handle = await world.hub.submit("hangs-once")
            assert (await handle.outcome(timeout_seconds=60)).state == "failed"
            async with asyncio.timeout(60):
                with pytest.raises(WorkerFailedError, match=r"ctx\.cancelled"):
                    await whole


async def test_a_cancel_that_comes_with_its_command_is_heard() -> None:
    lone = LoneDesk(tasks)
    await lone.desk.take(command("waits"))
    await lone.desk.take(CancelAttempt(task="t", attempt=1, token="x", reason="never mind"))
    await until(lambda: lone.idle)
    assert (ran, lone.reports.kinds) == ([], ["attempt.cancelled"])


async def test_what_waits_for_a_slot_when_its_lease_is_lost_never_begins() -> None:
    lone = LoneDesk(tasks, slots=1)
    for token in ("x", "y"):
        await lone.desk.take(command("waits", task=token, token=token))
    await until(lambda: ran == ["waits"])
    lone.desk.lease_lost(0)
    await until(lambda: lone.idle)
    assert ran == ["waits"]
    assert [(kind, report["token"]) for kind, report in lone.reports.kept if kind != "attempt.started"] == [
        ("attempt.cancelled", "x")
    ]


@pytest.mark.parametrize("world", [2.0], indirect=True)  # seconds after which commands that were not read are repeated
async def test_an_inbox_that_was_made_anew_is_read_from_its_end(world: Running) -> None:
    worker = world.workers[0]
    assert await world.hub.run("quick", timeout_seconds=60) == "done"
    assert worker._inbox._reader is not None
    worker._inbox._reader.seek(10_000_000)
    results = [await handle.outcome(timeout_seconds=60) for handle in await world.hub.submit_many([{"name": "quick"}] * 5)]
    assert {reply.state for reply in results} == {"completed"}


async def test_a_service_that_fails_ends_the_worker(world: Running) -> None:
    worker = world.workers[0]

    async def fails() -> list[StoredRecord]:
        raise ValueError("a mistake of ours")

    worker._inbox._next = fails  # type: ignore[method-assign]
    await world.hub.submit("quick")  # its command ends the read that is waiting
    async with asyncio.timeout(60):
        with pytest.raises(WorkerFailedError, match="a mistake of ours"):
            await worker.watch()


async def test_a_worker_ends_when_its_reports_cannot_be_sent_for_a_mistake(world: Running) -> None:
    async def fails() -> None:
        raise ValueError("a mistake of ours")

    worker = world.workers[0]
    with capture_logs() as logs:
        worker._reports._tasks.start(fails(), "producer")  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            with pytest.raises(WorkerFailedError, match="a mistake of ours") as raised:
                await worker.watch()
        await worker.stop()
    assert raised.value.exit_code == 1
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["action"], line["exc_info"]) == ("worker_failed", raised.value.__cause__)
    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("inbox", "desk clock", "reports", "producer")]


async def heartbeats(bootstrap: str, partition: int) -> int:
    """How many heartbeats are on the intake."""
    kinds = [dict(record.headers)["ce_type"] async for record in read_all(Cluster.of(bootstrap), INTAKE, partition)]
    return kinds.count(b"worker.heartbeat")


async def heartbeats_beyond(bootstrap: str, partition: int, count: int) -> bool:
    """Whether there are so many."""
    return await heartbeats(bootstrap, partition) >= count


async def test_tasks_that_find_no_slot_are_not_thrown_back_and_forth() -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, slots=1, lease_seconds=3.0) as world:
            first = await world.hub.submit("waits", id="w0")
            await until(lambda: ran == ["waits"])
            handles = await world.hub.submit_many([{"name": "quick"} for _ in range(8)])  # on every partition
            said = [await heartbeats(server.bootstrap, partition) for partition in range(PARTITIONS)]
            for partition, before in enumerate(said):  # each heartbeat could ask for more
                await until(lambda: heartbeats_beyond(server.bootstrap, partition, before + 3))  # noqa: B023
            assert world.workers[0].stats()["released"] <= 12
            await first.cancel()
            replies: list[TaskReply] = [await handle.outcome(timeout_seconds=60) for handle in handles]
            assert {reply.state for reply in replies} == {"completed"}
