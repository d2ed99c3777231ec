"""A recorded log with retries, timeouts, a lost attempt, waits, a workflow, and cancels."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from hub import Permanent, RetryLater, TaskContext, TaskRegistry, Workflow
from hub.testing import HubInMemory
from hub.worker import WorkerSettings
from schemas import Event

tasks = TaskRegistry()

SECRET = "an argument that no span may have"


@tasks.task("add")
async def add(a: int, b: int) -> int:
    return a + b


@tasks.task("plain")
def plain(text: str) -> str:
    return text


@tasks.task("flaky", retry={"max_attempts": 3, "backoff": [10]})
async def flaky(ctx: TaskContext) -> int:
    await asyncio.sleep(2)
    if ctx.attempt < 3:
        raise ConnectionError("the bank is busy")
    return ctx.attempt


@tasks.task("later")
async def later(ctx: TaskContext) -> str:
    if ctx.attempt == 1:
        raise RetryLater("not yet", after=30)
    return "now"


@tasks.task("never")
async def never() -> None:
    raise Permanent("there is no such order")


@tasks.task("sleep")
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


async def _scenario(hub: HubInMemory) -> None:
    await hub.run("add", {"a": 1, "b": 2}, id="added", timeout_seconds=1)
    await hub.run("plain", {"text": SECRET}, queue="default")
    await hub.submit("flaky", id="flaky")
    await hub.submit("later", id="later")
    await hub.submit("never", id="never")
    await hub.submit("sleep", {"seconds": 60}, id="timed-out", timeouts={"attempt": 5}, retry={"max_attempts": 2, "backoff": [1]})
    await hub.submit("sleep", {"seconds": 60}, id="total", timeouts={"total": 7})
    await hub.submit("sleep", {"seconds": 60}, id="cancelled")
    await hub.submit("add", {"a": 1, "b": 2}, id="scheduled", start_after=20)
    await hub.submit("add", {"a": 1, "b": 2}, id="cancelled-early", start_after=2000)
    await hub.submit("unknown", id="expired", timeouts={"start": 30})
    workflow = Workflow("order", id="order-1").step("reserve", "flaky").step("charge", "sleep", {"seconds": 3}, after=["reserve"])
    workflow.step("refund", "never", after=["reserve"], on="failure")
    await hub.submit(workflow)
    await hub.advance(seconds=3)
    await hub.cancel("cancelled", reason="asked by support")
    await hub.submit("add", {"a": 1, "b": 2}, root_id="order-1", key="more")
    await hub.cancel("cancelled-early")
    await hub.advance(minutes=3)


async def _lost(hub: HubInMemory) -> None:
    await hub.submit("sleep", {"seconds": 20}, id="lost")
    await hub.advance(seconds=1)
    hub.cut_worker()
    await hub.advance(seconds=30)
    hub.restore_worker()
    await hub.advance(seconds=60)


async def record() -> list[Event]:
    """All events of the scenarios."""
    events: list[Event] = []
    for scenario in (_scenario, _lost):
        async with HubInMemory(tasks, worker=WorkerSettings(lease_seconds=4)) as hub:
            await scenario(hub)
            events += hub.events
    return events


@cache
def recorded() -> tuple[Event, ...]:
    """The same events for all tests of a process; recorded in a thread, because a test may have an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return tuple(pool.submit(lambda: asyncio.run(record())).result())
