"""Tasks for the tests of a hub in memory."""

import asyncio
import threading
from typing import Any

from hub import Permanent, RetryLater, TaskContext, TaskRegistry

tasks = TaskRegistry()


@tasks.task("add")
async def add(a: int, b: int) -> int:
    return a + b


@tasks.task("double")
def double(a: int) -> int:
    """A plain function: it runs in a thread."""
    return 2 * a


@tasks.task("flaky", retry={"max_attempts": 3, "backoff": [10]})
async def flaky(ctx: TaskContext) -> int:
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


@tasks.task("thread")
def thread() -> dict[str, Any]:
    return {"main": threading.current_thread() is threading.main_thread()}


@tasks.task("hang")
def hang(ctx: TaskContext) -> str:
    """Runs until it is asked to stop."""
    stop = threading.Event()
    while not ctx.cancelled:
        stop.wait(0.001)
    return "stopped"


@tasks.task("after")
async def after(ctx: TaskContext) -> int:
    return sum(ctx.dependencies.values())
