"""Time under the control of a test: everything runs at its due time, in order, without waiting."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from hub import TaskExpiredError, TaskFailedError, TaskRegistry, WorkerSettings
from hub.errors import ConfigurationError
from hub.testing import HubInMemory
from tests.testing.app import tasks

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(hub: HubInMemory, task: str, pattern: str) -> list[float]:
    """When the events happened, in seconds after START."""
    return [(datetime.fromisoformat(event.time) - START).total_seconds() for event in hub.events_of(task, pattern)]


async def test_time_stands_still_until_it_is_moved() -> None:
    async with HubInMemory(tasks, start=START) as hub:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await hub.run("double", {"a": 1})
        assert (hub.now, loop.time()) == (START, before)
        await hub.advance(timedelta(minutes=1), seconds=0.5)
        assert hub.now == START + timedelta(seconds=60.5)
        assert loop.time() - before == pytest.approx(60.5)
    real = loop.time()
    assert real == pytest.approx(time.monotonic(), abs=5)


async def test_a_delayed_task_begins_at_its_time_and_not_before() -> None:
    async with HubInMemory(tasks, start=START) as hub:
        task = await hub.submit("add", {"a": 1, "b": 2}, start_after=60)
        await hub.advance(seconds=59.999)
        assert (await task.state()).state == "scheduled"
        await hub.advance(seconds=0.001)
        assert await task.result() == 3
        assert at(hub, task.id, "task.ready") == [60]


async def test_each_retry_comes_at_its_own_time_within_one_advance() -> None:
    async with HubInMemory(tasks, start=START) as hub:
        task = await hub.submit("flaky", retry={"max_attempts": 3, "backoff": [10, 20], "jitter": 0})
        await hub.advance(seconds=60)
        assert await task.result() == 3
        assert at(hub, task.id, "attempt.failed") == [0, 10]
        assert at(hub, task.id, "task.completed") == [30]


async def test_retry_later_is_due_when_the_handler_said() -> None:
    async with HubInMemory(tasks, start=START) as hub:
        task = await hub.submit("later")
        await hub.advance(seconds=29)
        assert not hub.events_of(task, "task.completed")
        await hub.advance(seconds=1)
        assert await task.result() == "now"


async def test_a_body_sleeps_in_the_hubs_time() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("sleep", {"seconds": 3600})
        await hub.advance(minutes=59)
        assert (await task.state()).state == "running"
        await hub.advance(minutes=1)
        assert await task.result() == "slept"


async def test_timeouts_of_an_attempt_a_start_and_the_whole_task_are_due() -> None:
    async with HubInMemory(tasks, start=START) as hub:
        attempt = await hub.submit("sleep", {"seconds": 100}, timeouts={"attempt": 20})
        total = await hub.submit("flaky", timeouts={"total": 5})
        nobody = await hub.submit("unknown", not_start_after=30)
        await hub.advance(seconds=40)
        assert at(hub, attempt.id, "attempt.timed_out") == [20]
        with pytest.raises(TaskFailedError):
            await total.result()
        with pytest.raises(TaskExpiredError):
            await nobody.result()
        assert at(hub, nobody.id, "task.expired") == [30]


async def test_a_plain_function_is_asked_to_stop_when_its_time_is_over() -> None:
    async with HubInMemory(tasks, thread_seconds=0.3) as hub:
        task = await hub.submit("hang", timeouts={"attempt": 20}, retry={"max_attempts": 1})
        await hub.advance(seconds=20)
        with pytest.raises(TaskFailedError, match="exceeded its timeout of 20 s"):
            await task.result()
        await hub.settle()


async def test_the_lease_of_a_silent_worker_ends_and_its_task_runs_again() -> None:
    async with HubInMemory(tasks, start=START, worker=WorkerSettings(lease_seconds=10)) as hub:
        task = await hub.submit("sleep", {"seconds": 60})
        await hub.settle()
        hub.cut_worker()
        await hub.advance(seconds=9)
        assert not [event for event in hub.events if event.type in ("worker.lost", "attempt.lease_expired")]
        await hub.advance(seconds=5)
        assert (await task.state()).state == "ready"
        hub.restore_worker()
        await hub.advance(seconds=70)
        assert await task.result() == "slept"
        assert (await task.state()).attempt == 2


async def test_an_at_most_once_task_of_a_lost_worker_is_not_run_again() -> None:
    runs, own = [], TaskRegistry()

    @own.task("pay", delivery="at_most_once")
    async def pay() -> None:
        runs.append(1)
        await asyncio.sleep(60)

    async with HubInMemory(own) as hub:
        task = await hub.submit("pay")
        await hub.settle()
        hub.cut_worker()
        await hub.advance(seconds=20)
        hub.restore_worker()
        await hub.advance(seconds=60)
        with pytest.raises(TaskFailedError):
            await task.result()
    assert runs == [1]


async def test_an_idle_hour_with_heartbeats_keeps_the_worker() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.advance(hours=1)
        assert not [event.type for event in hub.events if event.type.startswith("worker.") and event.type != "worker.registered"]
        assert await hub.run("add", {"a": 1, "b": 2}) == 3


async def test_a_task_of_the_test_waits_while_time_is_moved() -> None:
    async with HubInMemory(tasks) as hub:
        waiting = asyncio.create_task(hub.run("add", {"a": 1, "b": 2}, start_after=3600))
        await hub.advance(hours=1)
        assert await waiting == 3


async def test_time_is_not_moved_back() -> None:
    async with HubInMemory(tasks) as hub:
        with pytest.raises(ValueError, match="back"):
            await hub.advance(seconds=-1)


async def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        HubInMemory(tasks, start=datetime(2026, 1, 1))  # noqa: DTZ001


def test_another_event_loop_is_refused() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        HubInMemory(tasks)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(ConfigurationError, match="uvloop"):
        runner.run(main())
