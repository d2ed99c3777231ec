"""The background tasks of a service: none is forgotten, and one that fails is reported once, by name."""

import asyncio

import pytest
from structlog.testing import capture_logs

from hub.service import ServiceTasks, no_log, run_until, set_within
from tests.components.running import until
from tests.virtual_time import run


class Mistake(Exception):
    """What nobody expects."""


async def raises() -> None:
    raise Mistake("a mistake of ours")


async def returns() -> None: ...


async def test_a_failure_is_logged_once_with_the_names_of_service_and_task_and_raised_to_who_watches() -> None:
    tasks = ServiceTasks("the service")
    with capture_logs() as logs:
        tasks.start(raises(), "first")
        tasks.start(raises(), "second")
        with pytest.raises(Mistake, match="a mistake of ours") as raised:
            await tasks.watch()
        await tasks.cancel()
    assert raised.value.__notes__ == ["In the background task 'first' of the service."]
    (line,) = logs
    assert (line["log_level"], line["action"]) == ("error", "service_failed")
    assert (line["service"], line["background_task"], line["exc_info"]) == ("the service", "first", raised.value)
    with pytest.raises(Mistake):
        tasks.raise_failure()


async def test_an_owner_that_is_called_gets_every_failure_and_nothing_is_logged_here() -> None:
    failures: list[BaseException] = []
    tasks = ServiceTasks("the service", failures.append)
    with capture_logs() as logs:
        tasks.start(raises(), "first")
        tasks.start(raises(), "second")
        await tasks.wait(60)
    assert [str(error) for error in failures] == ["a mistake of ours"] * 2
    assert tasks.failure is failures[0]
    assert logs == []


async def test_the_others_run_on_until_they_end() -> None:
    tasks, gate, ended = ServiceTasks("the service", no_log), asyncio.Event(), asyncio.Event()

    async def waits_for_the_gate() -> None:
        await gate.wait()
        ended.set()

    tasks.start(waits_for_the_gate())
    tasks.start(raises())
    tasks.start(returns())
    await until(lambda: len(tasks) == 1)
    assert isinstance(tasks.failure, Mistake)
    gate.set()
    await tasks.wait(60)
    assert ended.is_set()


async def test_what_has_to_run_until_it_is_cancelled_fails_when_it_returns() -> None:
    tasks = ServiceTasks("the service", no_log)
    tasks.keep(returns(), "the inbox")
    with pytest.raises(RuntimeError, match="the inbox returned unexpectedly"):
        await tasks.watch()


async def test_what_has_to_run_until_it_is_cancelled_fails_when_something_in_it_is_cancelled() -> None:
    tasks, inner = ServiceTasks("the service", no_log), asyncio.get_running_loop().create_future()

    async def waits() -> None:
        await inner

    tasks.keep(waits(), "the inbox")
    await asyncio.sleep(0)
    inner.cancel()
    with pytest.raises(RuntimeError, match="the inbox was cancelled by an awaited future"):
        await tasks.watch()


async def test_cancelling_waits_for_every_end_and_is_not_a_failure() -> None:
    tasks, ended = ServiceTasks("the service", no_log), list[str]()

    async def cleans_up(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    tasks.keep(cleans_up("kept"), "kept")
    tasks.start(cleans_up("started"), "started")
    await asyncio.sleep(0)
    await tasks.cancel()
    assert (sorted(ended), len(tasks), tasks.failure) == (["kept", "started"], 0, None)
    await tasks.cancel()  # again: there is nothing left


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    tasks, cancelled = ServiceTasks("the service", no_log), 0

    async def swallows_one() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    tasks.start(swallows_one(), "stubborn")
    await asyncio.sleep(0)
    await tasks.cancel(again_seconds=0.001)
    assert (cancelled, len(tasks)) == (2, 0)


async def test_a_wait_ends_with_the_failure_of_a_task() -> None:
    tasks = ServiceTasks("the service", no_log)
    waiting = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            waiting.set()

    tasks.start(raises(), "first")
    with pytest.raises(Mistake):
        await tasks.unless_failed(waits())
    assert waiting.is_set()


async def test_a_wait_gives_what_it_waited_for() -> None:
    async def answer() -> int:
        return 42

    tasks = ServiceTasks("the service", no_log)
    assert await tasks.unless_failed(answer()) == 42
    with pytest.raises(Mistake):
        await tasks.unless_failed(raises())
    assert tasks.failure is None


async def test_work_ends_when_an_event_is_set() -> None:
    event = asyncio.Event()
    assert (await run_until(event, asyncio.sleep(0, "done"))).result() == "done"
    event.set()
    assert (await run_until(event, asyncio.Event().wait())).cancelled()


def test_a_wait_for_an_event_says_whether_it_was_set_in_time() -> None:
    async def main() -> None:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        assert not await set_within(event, 3.0)
        assert loop.time() == 3.0
        loop.call_later(1, event.set)
        assert await set_within(event, 3.0)
        assert await set_within(event, -1.0)
        assert loop.time() == 4.0
        waiting = asyncio.ensure_future(set_within(asyncio.Event(), 3.0))
        loop.call_later(1, waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())
