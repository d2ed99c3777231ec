"""A complete hub in memory: the interface of `hub.Hub` with the real engine and worker."""

import asyncio
import socket
import threading

import pytest

from hub import (
    InvalidSubmissionError,
    TaskCancelledError,
    TaskFailedError,
    TaskRegistry,
    TaskRejectedError,
    TaskUnknownError,
    WorkerSettings,
    Workflow,
)
from hub.errors import ConfigurationError
from hub.kafka import EVENTS, INTAKE, Outgoing
from hub.testing import HubInMemory, StalledError, VerificationError, make_submission
from tests.testing.app import add, tasks


def types(hub: HubInMemory, task: str) -> list[str]:
    return [event.type for event in hub.events_of(task)]


async def test_a_task_runs_and_its_events_are_on_the_log() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("add", {"a": 1, "b": 2})
        assert await task.result() == 3
        assert types(hub, task.id) == ["task.created", "task.ready", "task.dispatched", "task.started", "task.completed"]
        assert (await task.state()).state == "completed"


async def test_a_registered_function_and_many_submissions_are_taken_as_by_any_hub() -> None:
    async with HubInMemory(tasks) as hub:
        assert await hub.run(add, {"a": 2, "b": 2}) == 4
        handles = await hub.submit_many([make_submission("add", args={"a": n, "b": 1}) for n in range(100)])
        assert [await handle.result() for handle in handles] == list(range(1, 101))


async def test_a_plain_function_runs_in_a_thread_and_settle_waits_for_it() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("thread")
        await hub.settle()
        assert types(hub, task.id)[-1] == "task.completed"
        assert await task.result() == {"main": False}
        assert await hub.run("double", {"a": 4}) == 8


async def test_a_workflow_runs_on_several_partitions() -> None:
    async with HubInMemory(tasks, partitions=3) as hub:
        order = Workflow("sum")
        for number in range(5):
            order.step(f"n{number}", "double", {"a": number})
        order.step("sum", "after", after=[f"n{number}" for number in range(5)])
        handles = [await hub.submit(order) for _ in range(6)]
        assert [await handle.result() for handle in handles] == [{"sum": 20}] * 6
        assert len(hub.events_of(handles[0], "workflow.completed")) == 1


async def test_ends_that_are_not_good_raise_as_from_any_hub() -> None:
    async with HubInMemory(tasks) as hub:
        with pytest.raises(TaskFailedError, match="no such order"):
            await hub.run("never")
        with pytest.raises(TaskFailedError, match="InvalidArguments"):
            await hub.run("add", {"a": "one", "b": 2})
        with pytest.raises(InvalidSubmissionError, match="nmae"):
            await hub.submit("add", nmae=1)
        with pytest.raises(TaskRejectedError):
            await hub.run("add", {"a": 1, "b": 1}, depends_on=["nobody"])
        waiting = await hub.submit("add", {"a": 1, "b": 1}, start_after=60)
        await waiting.cancel("changed my mind")
        with pytest.raises(TaskCancelledError):
            await waiting.result()
        with pytest.raises(TaskUnknownError):
            [event async for event in hub.watch("nobody")]


async def test_a_task_is_watched_to_its_end_and_found_by_its_cloudevent() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("later", id="order-7")

        async def watch() -> list[str]:
            return [event.type async for event in task.watch()]

        watching = asyncio.create_task(watch())
        await hub.advance(seconds=30)
        assert (await watching)[-1] == "task.completed"
        (made,) = await hub.find("order-7")
        assert (made.task, made.source) == ("order-7", "/test")


async def test_it_opens_no_socket_and_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    before = threading.active_count()
    async with HubInMemory(tasks) as hub:
        assert await hub.run("add", {"a": 1, "b": 2}) == 3
        assert threading.active_count() <= before  # threads of earlier tests may end meanwhile


async def test_an_event_of_a_type_is_waited_for() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("flaky")
        failed = await hub.wait_for("attempt.failed", task)
        assert failed.data.error.message == "the bank is busy"
        with pytest.raises(StalledError, match="advance"):
            await hub.wait_for("attempt.failed", task, count=2)
        await hub.advance(seconds=11)
        assert (await hub.wait_for("attempt.*", task.id, count=2)).data.attempt == 2


async def test_a_wait_for_what_time_would_bring_is_an_error_and_not_a_wait_without_end() -> None:
    async with HubInMemory(tasks, stall_seconds=0.05) as hub:
        task = await hub.submit("add", {"a": 1, "b": 2}, start_after=60)
        with pytest.raises(StalledError, match="hub.advance"):
            await task.result(timeout_seconds=5)
        sleeping = await hub.submit("sleep", {"seconds": 60})
        with pytest.raises(StalledError, match="1 running"):
            await sleeping.result()
        await hub.advance(minutes=1)
        assert (await task.result(), await sleeping.result()) == (3, "slept")


async def test_without_tasks_there_is_no_worker_and_tasks_wait() -> None:
    async with HubInMemory() as hub:
        task = await hub.submit("add")
        assert (await task.state()).state == "ready"
        with pytest.raises(ConfigurationError, match="no worker"):
            hub.cut_worker()


async def test_a_handler_that_waits_for_the_test_is_waited_for() -> None:
    gate, own = asyncio.Event(), TaskRegistry()

    @own.task("wait")
    async def wait() -> str:
        await gate.wait()
        return "opened"

    async with HubInMemory(own) as hub:
        task = await hub.submit("wait")
        await hub.advance(seconds=60)
        assert (await task.state()).state == "running"
        gate.set()
        assert await task.result() == "opened"


async def test_a_body_that_waits_is_running_when_the_hub_is_settled() -> None:
    async with HubInMemory(tasks) as hub:
        task = await hub.submit("sleep", {"seconds": 60})
        await hub.settle()
        assert types(hub, task.id)[-1] == "task.started"


async def test_a_body_that_runs_at_the_end_is_drained_without_waiting() -> None:
    async with HubInMemory(tasks, worker=WorkerSettings(grace_seconds=30)) as hub:
        short, long = await hub.submit("sleep", {"seconds": 20}), await hub.submit("sleep", {"seconds": 2000})
        await hub.settle()
    assert hub.events_of(short)[-1].type == "task.completed"
    assert "attempt.cancelled" in [event.type for event in hub.events_of(long)] or hub.events_of(long)[-1].to_state != "running"
    assert hub.events[-1].type == "engine.stopped"


async def repeat_the_last_event(*, verify: bool) -> None:
    """A hub on whose log somebody else writes."""
    async with HubInMemory(tasks, verify=verify) as hub:
        await hub.run("add", {"a": 1, "b": 2})
        *_, last = [record async for record in hub._transport.read_all(EVENTS, 0)]
        headers = [(name, value or b"") for name, value in last.headers]
        await hub._sender.send(Outgoing(EVENTS, 0, last.key or b"", last.value or b"", headers))


async def test_what_the_checker_finds_is_an_error_at_the_end() -> None:
    with pytest.raises(VerificationError, match="is repeated") as found:
        await repeat_the_last_event(verify=True)
    assert not found.value.report.ok
    await repeat_the_last_event(verify=False)


async def fail(error: Exception, *, in_the_hub: bool) -> None:
    async with HubInMemory(tasks) as hub:
        await hub.submit("sleep", {"seconds": 5})
        if not in_the_hub:
            raise error
        hub._driver.fail(error)


@pytest.mark.parametrize("in_the_hub", [False, True])
async def test_an_error_of_the_test_or_of_a_part_of_the_hub_comes_out(in_the_hub: bool) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        await fail(RuntimeError("broken"), in_the_hub=in_the_hub)


async def test_only_one_hub_moves_the_time_of_a_loop() -> None:
    async with HubInMemory(tasks) as hub:
        with pytest.raises(ConfigurationError, match="stop that one first"):
            await HubInMemory(tasks).start()
        assert await hub.run("add", {"a": 1, "b": 2}) == 3
    async with HubInMemory(tasks) as another:
        assert await another.run("add", {"a": 1, "b": 2}) == 3


async def test_what_is_not_a_report_is_dead_lettered() -> None:
    async with HubInMemory(tasks) as hub:
        await hub._sender.send(Outgoing(INTAKE, 0, b"x", b"{", []))
        await hub.wait_for("engine.report_dead_lettered")
