"""Rare ends of attempts: whatever happens to a handler, its report or its slot, the outcome is reported."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from msgspec import json
from structlog.testing import capture_logs

from hub import RetryLater, TaskContext, TaskRegistry
from hub.kafka import Outgoing
from hub.worker import Failed
from hub.worker.desk import IDLE_TICK_SECONDS
from hub.worker.ending import Ending
from hub.worker.executor import execute_attempt
from hub.worker.registry import TaskDefinition
from hub.worker.reporting import STARTED_LINGER_SECONDS
from hub.worker.settings import WorkerFailedError
from hub.worker.slots import HOLD_SECONDS
from hub.worker.threads import DaemonThreads
from schemas import CancelAttempt, GrantAttempt
from schemas.reports import AttemptFailed
from tests import virtual_time
from tests.components.running import until

from .desks import LoneDesk, command

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


gates: list[asyncio.Event] = []


@tasks.task("gated")
async def gated() -> None:
    await gates[-1].wait()


async def failure_of(function: Any) -> Failed:
    context = TaskContext(command("n"), lambda percent, message: None)
    with ThreadPoolExecutor(1) as threads:
        ended = await execute_attempt(TaskDefinition("n", function, {}), context, b"{}", threads=threads, timeout_seconds=None)
    assert isinstance(ended, Failed)
    return ended


@pytest.mark.parametrize(("error", "message"), [(ValueError("no room"), "no room"), (ValueError(), "ValueError()")])
async def test_a_worker_that_cannot_continue_says_why(error: Exception, message: str) -> None:
    ending = Ending()
    with capture_logs() as logs:
        ending.fail(error)
    assert [(line["action"], line["reason"], line["exc_info"]) for line in logs] == [("worker_failed", message, error)]
    with pytest.raises(WorkerFailedError) as raised:
        await ending.wait()
    assert raised.value.__cause__ is error
    assert str(raised.value) == message


async def test_a_worker_that_was_asked_to_end_ends_without_an_error_whatever_fails_then() -> None:
    ending = Ending()
    ending.ask()
    ending.fail(ValueError("too late"))
    await ending.wait()


async def test_a_handler_that_raises_generator_exit_has_failed() -> None:
    lone = LoneDesk(tasks)
    await lone.desk.take(command("leaves"))
    await until(lambda: lone.idle)
    assert lone.reports.kinds == ["attempt.failed"]


async def test_a_result_that_no_record_can_hold_ends_as_a_failure_that_says_so() -> None:
    lone = LoneDesk(tasks, bytes_max=800)
    await lone.desk.take(command("answers"))
    await until(lambda: lone.idle)
    assert [(kind, report["error"]["type"]) for kind, report in lone.reports.kept] == [("attempt.failed", "RecordTooLarge")]


@pytest.mark.parametrize(("after", "seconds"), [(timedelta(seconds=3), 3.0), ("soon", None), (float("nan"), None), (2, 2.0)])
async def test_what_a_retry_asks_for_can_always_be_sent(after: Any, seconds: float | None) -> None:
    async def handler() -> None:
        raise RetryLater("busy", after=after)

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
    lone = LoneDesk(tasks)
    await lone.desk.take(command("plain", delivery="at_most_once", start_seconds=0.5))
    await until(lambda: lone.reports.kinds == ["attempt.started"])
    await lone.desk.take(CancelAttempt(task="t", attempt=1, token="x", reason="no"))
    await lone.desk.take(GrantAttempt(task="t", attempt=1, token="x"))  # sent before the cancel was decided, or just after it
    await until(lambda: lone.idle)
    assert ran == []
    assert lone.reports.kinds == ["attempt.started", "attempt.cancelled"]


async def test_a_function_that_gets_its_grant_runs_once() -> None:
    ran.clear()
    lone = LoneDesk(tasks)
    await lone.desk.take(command("plain", delivery="at_most_once", start_seconds=60))
    await until(lambda: lone.reports.kinds == ["attempt.started"])
    assert ran == []
    for _ in range(2):
        await lone.desk.take(GrantAttempt(task="t", attempt=1, token="x"))
    await until(lambda: lone.idle)
    assert ran == ["plain"]
    assert lone.reports.kinds == ["attempt.started", "attempt.completed"]
    lone.desk.close()


async def whose_end_waits_to_be_sent() -> tuple[LoneDesk, asyncio.Event]:
    """A desk that has run `answers`; the report of its end is sent when the event is set."""
    lone, reported, may_go_on = LoneDesk(tasks), asyncio.Event(), asyncio.Event()
    post = lone.reports.post

    async def slow_post(outgoing: Outgoing, on_settled: Callable[[], object] = lambda: None) -> None:
        reported.set()
        await may_go_on.wait()
        await post(outgoing, on_settled)

    lone.reports.post = slow_post  # type: ignore[method-assign]
    await lone.desk.take(command("answers"))
    await reported.wait()
    return lone, may_go_on


async def test_a_cancel_for_an_attempt_whose_end_is_being_reported_changes_nothing() -> None:
    lone, may_go_on = await whose_end_waits_to_be_sent()
    await lone.desk.take(CancelAttempt(task="t", attempt=1, token="x", reason="too late"))
    lone.desk.lease_lost(0)
    may_go_on.set()
    await until(lambda: lone.idle)
    assert lone.reports.kinds == ["attempt.completed"]


async def test_a_start_is_not_reported_after_an_end_that_waits_to_be_sent() -> None:
    lone, may_go_on = await whose_end_waits_to_be_sent()
    await asyncio.sleep(4 * STARTED_LINGER_SECONDS)
    may_go_on.set()
    await until(lambda: lone.idle)
    assert lone.reports.kinds == ["attempt.completed"]


async def test_a_cancel_that_is_repeated_does_not_interrupt_what_a_handler_does_about_the_first() -> None:
    ran.clear()
    registry, may_end = TaskRegistry(), asyncio.Event()

    @registry.task("tidy")
    async def tidy() -> None:
        ran.append("runs")
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            ran.append("tidied")

    lone = LoneDesk(registry)
    await lone.desk.take(command("tidy"))
    await until(lambda: ran == ["runs"])
    for _ in range(2):
        await lone.desk.take(CancelAttempt(task="t", attempt=1, token="x", reason="no"))
        await asyncio.sleep(0)
    may_end.set()
    await until(lambda: lone.idle)
    assert ran == ["runs", "tidied"]
    assert lone.reports.ends == ["attempt.cancelled"]


async def test_a_function_that_hangs_keeps_its_slot_and_its_thread_until_it_returns() -> None:
    ran.clear()
    registry, may_return = TaskRegistry(), threading.Event()
    registry.task("plain")(plain)

    @registry.task("hangs")
    def hangs() -> None:
        may_return.wait(60)

    lone = LoneDesk(registry, slots=1, grace_seconds=60)
    await lone.desk.take(command("plain", token="w"))  # there is a thread from now on
    await until(lambda: lone.idle)
    lone.reports.kept.clear()
    with capture_logs() as logs:
        await lone.desk.take(command("hangs", timeout_seconds=1.0))
        await lone.desk.take(command("plain", token="y"))
        await until(lambda: lone.reports.ends == ["attempt.failed"])
        assert (lone.desk.stats()["running"], lone.desk.stats()["waiting"], lone.desk.bodies.busy_threads) == (1, 1, 1)
        may_return.set()
        await until(lambda: lone.idle)
    assert lone.desk.bodies.busy_threads == 0
    assert lone.reports.ends == ["attempt.failed", "attempt.completed"]
    assert [(line["action"], line["threads"]) for line in logs] == [("worker_function_hangs", 1)]
    lone.desk.close()


async def test_a_grant_that_nobody_waits_for_is_ignored() -> None:
    gates.append(asyncio.Event())
    lone = LoneDesk(tasks)
    await lone.desk.take(command("gated"))
    await lone.desk.take(GrantAttempt(task="t", attempt=1, token="x"))
    gates[-1].set()
    await until(lambda: lone.idle)
    assert lone.reports.kinds == ["attempt.completed"]


@pytest.mark.parametrize(("version", "wanted"), [(None, "'n/missing@1'"), ("2", "'n/missing@2'")])
async def test_a_task_without_a_handler_fails_naming_its_version(version: str | None, wanted: str) -> None:
    lone = LoneDesk(tasks)
    await lone.desk.take(command("missing", version=version))
    await until(lambda: lone.idle)
    [(kind, report)] = lone.reports.kept
    assert (kind, report["error"]["type"]) == ("attempt.failed", "UnknownTask")
    assert f"no handler for {wanted}; it has: */answers@1, " in report["error"]["message"]


async def test_a_function_without_a_grant_in_time_never_runs() -> None:
    ran.clear()
    lone = LoneDesk(tasks)
    await lone.desk.take(command("plain", delivery="at_most_once", start_seconds=0.01))
    await until(lambda: lone.idle)
    assert ran == []
    assert lone.reports.kinds == ["attempt.started", "attempt.cancelled"]


async def test_what_the_workers_own_code_does_not_foresee_ends_the_attempt_and_tells_its_owner() -> None:
    lone = LoneDesk(tasks)

    def raises(*_: object, **__: object) -> None:
        raise ValueError("a mistake of ours")

    lone.desk.reporting.conclude = raises  # type: ignore[assignment]
    await lone.desk.take(command("leaves"))
    await until(lambda: lone.idle)
    assert [str(error) for error in lone.failures] == ["a mistake of ours"]


def test_a_function_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import threading\n"
        "from hub.worker.threads import DaemonThreads\n"
        "began = threading.Event()\n"
        "DaemonThreads(1, name='t').submit(lambda: began.set() or threading.Event().wait())\n"
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


def alive(name: str) -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(name)}


def test_threads_are_made_on_demand_and_end_when_they_are_shut_down() -> None:
    threads = DaemonThreads(3, name="few")
    for _ in range(5):
        threads.submit(int).result(10)
        while not threads._idle._value:
            time.sleep(0)
    assert alive("few_") == {"few_0"}
    gate = threading.Event()
    busy = [threads.submit(gate.wait, 10) for _ in range(4)]
    assert alive("few_") == {"few_0", "few_1", "few_2"}
    made = [thread for thread in threading.enumerate() if thread.name.startswith("few_")]
    threads.shutdown()
    gate.set()
    assert [one.result(10) for one in busy] == [True] * 4, "what was submitted is still run"
    for thread in made:
        thread.join(10)
    assert alive("few_") == set()


async def test_a_partition_that_was_refused_gets_a_heartbeat_when_a_slot_is_free() -> None:
    clock = [0.0]
    gates.append(asyncio.Event())
    lone = LoneDesk(tasks, slots=1, partitions=2, clock=lambda: clock[0])
    await lone.desk.take(command("gated", token="a"))
    await lone.desk.take(command("answers", token="b", partition=1))
    clock[0] = 2 * HOLD_SECONDS
    await lone.desk.tick()
    assert lone.beats == []
    gates[-1].set()
    await until(lambda: lone.idle)
    assert lone.beats == [1]


@pytest.mark.parametrize(("partitions", "interval"), [(1, IDLE_TICK_SECONDS), (2, HOLD_SECONDS / 2)])
def test_a_desk_looks_at_the_clock_often_only_while_partitions_compete_for_slots(partitions: int, interval: float) -> None:
    async def scene() -> None:
        ticks: list[float] = []
        gates.append(asyncio.Event())
        lone = LoneDesk(tasks, slots=1, partitions=partitions, clock=lambda: 0.0)
        lone.desk.tick = AsyncMock(side_effect=lambda: ticks.append(asyncio.get_running_loop().time()))  # type: ignore[method-assign]
        keeping = asyncio.create_task(lone.desk.keep_time())
        await asyncio.sleep(3.5 * IDLE_TICK_SECONDS)
        assert len(ticks) == 3, "nothing waits for a slot"
        await lone.desk.take(command("gated", token="a"), command("gated", token="b", partition=partitions - 1))
        began, before = asyncio.get_running_loop().time(), len(ticks)
        await asyncio.sleep(10.4 * interval)
        keeping.cancel()
        assert len(ticks) - before == 10
        assert partitions == 1 or ticks[before] == pytest.approx(began + interval)

    virtual_time.run(scene())


async def test_a_desk_that_closes_ends_its_idle_threads() -> None:
    before = set(threading.enumerate())
    lone = LoneDesk(tasks)
    await lone.desk.take(command("plain"))
    await until(lambda: lone.idle)
    assert lone.desk.bodies.busy_threads == 0
    (made,) = set(threading.enumerate()) - before
    assert made.name == "task_0"
    lone.desk.close()
    made.join(10)
    assert not made.is_alive()
