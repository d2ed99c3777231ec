"""Endings that are easily lost: whatever happens to a handler, its report or its place, somebody hears of it."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from msgspec import json

from hub import Context, Retry, TaskRegistry
from hub.kafka import Outgoing, RecordTooLarge
from hub.worker import Failed, Worker, WorkerSettings
from hub.worker.attempts import Attempt
from hub.worker.executor import run_attempt
from hub.worker.registry import TaskDefinition
from hub.worker.settings import WorkerFailed
from hub.worker.threads import DaemonThreads
from schemas import CancelAttempt, RunAttempt
from schemas.reports import AttemptFailed
from tests import virtual_time
from tests.components.running import until

tasks = TaskRegistry()
ran: list[str] = []


@tasks.task("answers")
async def answers() -> str:
    return "x" * 1000


@tasks.task("leaves")
async def leaves() -> None:
    raise GeneratorExit


@tasks.task("plain")
def plain() -> None:
    ran.append("plain")


def idle_worker(slots: int = 4, partitions: int = 1) -> tuple[Worker, list[tuple[str, dict[str, Any]]]]:
    """A worker without a broker, and what it says."""
    worker = Worker("127.0.0.1:1", tasks, WorkerSettings(slots=slots, grace_seconds=0.3))
    worker.partitions = partitions
    worker._loop = asyncio.get_running_loop()
    worker._holdings.open(partitions)
    worker._commands.partitions = partitions
    said: list[tuple[str, dict[str, Any]]] = []

    async def post(outgoing: Outgoing, *_: object) -> None:
        kind = dict(outgoing.headers)["ce_type"].decode()
        if kind == "attempt.completed" and len(outgoing.value) > 800:
            raise RecordTooLarge("hub.intake", len(outgoing.value), 800)
        said.append((kind, json.decode(outgoing.value)))

    worker._sender.post = post  # type: ignore[assignment]
    return worker, said


def command(name: str, **more: Any) -> RunAttempt:
    fields = {"task": "t", "root": "t", "partition": 0, "attempt": 1, "dispatch": 1, "token": "x", "namespace": "n", **more}
    return RunAttempt(name=name, **fields)


async def failure_of(function: Any) -> Failed:
    context = Context(command("n"), lambda percent, message: None)
    with ThreadPoolExecutor(1) as threads:
        ended = await run_attempt(TaskDefinition("n", function, {}), context, b"{}", threads=threads, timeout_seconds=None)
    assert isinstance(ended, Failed)
    return ended


async def test_a_handler_that_raises_generator_exit_has_failed() -> None:
    worker, said = idle_worker()
    await worker._accept(command("leaves"))
    await until(lambda: worker.stats()["running"] == 0, seconds=60)
    assert [kind for kind, _ in said] == ["attempt.failed"]


async def test_a_result_that_no_record_can_hold_ends_as_a_failure_that_says_so() -> None:
    worker, said = idle_worker()
    await worker._accept(command("answers"))
    await until(lambda: worker.stats()["running"] == 0, seconds=60)
    assert [(kind, report["error"]["type"]) for kind, report in said] == [("attempt.failed", "RecordTooLarge")]


@pytest.mark.parametrize(("after", "seconds"), [(timedelta(seconds=3), 3.0), ("soon", None), (float("nan"), None), (2, 2.0)])
async def test_what_a_retry_asks_for_can_always_be_sent(after: Any, seconds: float | None) -> None:
    async def handler() -> None:
        raise Retry("busy", after=after)

    failed = await failure_of(handler)
    assert failed.retry_after == seconds
    report = AttemptFailed(
        task="t",
        root="t",
        attempt=1,
        dispatch=1,
        token="x",
        incarnation="i",
        number=2,
        error=failed.error,
        retry_after=failed.retry_after,
    )
    assert json.decode(json.encode(report), type=AttemptFailed).retry_after == seconds


async def test_text_that_ends_the_process_when_it_is_asked_for_is_a_failure() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    class RudeResult:
        def model_dump(self, **_: object) -> None:
            raise SystemExit(3)

    async def handler() -> None:
        raise Rude

    async def returns() -> RudeResult:
        return RudeResult()

    assert (await failure_of(handler)).error.type.endswith("Rude")
    assert (await failure_of(returns)).error.type == "ResultNotJson"


async def test_a_function_that_is_cancelled_while_it_waits_for_its_grant_never_runs() -> None:
    ran.clear()
    worker, said = idle_worker()
    await worker._accept(command("plain", delivery="at_most_once", start_seconds=0.5))
    await until(lambda: any(kind == "attempt.started" for kind, _ in said))
    attempt = worker._attempts["x"]
    await worker._cancel(CancelAttempt(task="t", attempt=1, token="x", reason="no"))
    attempt.granted.set()  # sent before the cancel was decided, or just behind it
    await until(lambda: worker.stats()["running"] == 0, seconds=60)
    assert ran == []
    assert said[-1][0] == "attempt.cancelled"


def test_one_function_that_hangs_costs_one_slot_and_not_all_of_a_small_worker() -> None:
    async def look() -> None:
        worker, _ = idle_worker(slots=4, partitions=4)
        worker._hung = 1
        assert [worker._credit_of(partition) for partition in range(4)] == [1, 1, 1, 1]
        worker._hung = 4
        assert [worker._credit_of(partition) for partition in range(4)] == [0, 0, 0, 0]

    asyncio.run(look())


def test_slots_that_are_all_held_only_for_a_moment_do_not_end_the_worker() -> None:
    """Held, free, and held again: the grace counts from the second time."""

    async def scene() -> None:
        worker, _ = idle_worker(slots=1)
        grace = worker.settings.grace_seconds
        for token in ("x", "y"):
            worker._running = 1
            attempt = Attempt(command("plain", token=token), 0.0)
            thread: Future[None] = Future()
            attempt.thread = thread
            worker._free_slot(attempt)
            await asyncio.sleep(grace * 2 / 3)
            assert worker._failure is None
            if token == "x":
                thread.set_result(None)
                await until(lambda: worker._hung == 0)
        await asyncio.sleep(grace)
        assert isinstance(worker._failure, WorkerFailed)

    virtual_time.run(scene())


def test_a_function_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import threading\n"
        "from hub.worker import TaskRegistry, Worker\n"
        "tasks, began = TaskRegistry(), threading.Event()\n"
        "tasks.task('n')(lambda: None)\n"
        "worker = Worker('127.0.0.1:1', tasks)\n"
        "worker._threads.submit(lambda: began.set() or threading.Event().wait())\n"
        "assert began.wait(10)\n"
        "print('over', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "over\n"


def test_threads_take_what_comes_and_carry_what_it_raises() -> None:
    threads = DaemonThreads(2, name="t")
    gate = threading.Event()
    blocked = [threads.submit(gate.wait, 10) for _ in range(2)]
    third, never = threads.submit(lambda: threading.current_thread().name), threads.submit(ran.append, "never")
    assert never.cancel()
    assert not third.done()
    gate.set()
    assert [one.result(10) for one in blocked] == [True, True]
    assert third.result(10) in ("t_0", "t_1")
    with pytest.raises(SystemExit):
        threads.submit(sys.exit, 3).result(10)
    assert "never" not in ran
    threads.shutdown()
