"""Tasks and a subscriber of a hub whose metrics are tested."""

import asyncio

from hub import Permanent, TaskContext, TaskRegistry
from schemas.events import TaskCompleted
from subscribers import Meta, Subscriber, SubscriberContext, SubscriberSettings, on

tasks = TaskRegistry()


@tasks.task("add")
async def add(a: int, b: int = 2) -> int:
    """Succeeds."""
    return a + b


@tasks.task("flaky", retry={"max_attempts": 3, "backoff": [0.05]})
async def flaky(ctx: TaskContext) -> int:
    """Succeeds at the second attempt."""
    if ctx.attempt == 1:
        raise RuntimeError("again")
    return ctx.attempt


@tasks.task("bad")
async def bad() -> None:
    """Fails."""
    raise Permanent("no")


@tasks.task("slow", timeout_seconds=0.2, retry={"max_attempts": 1})
async def slow() -> None:
    """Exceeds its timeout."""
    await asyncio.sleep(60)


@tasks.task("held")
async def held() -> None:
    """Runs until it is cancelled."""
    await asyncio.sleep(600)


class Counting(Subscriber[SubscriberSettings]):
    """Counts completed tasks by name in a metric of its own."""

    async def open(self, ctx: SubscriberContext) -> None:
        """Keep the metrics."""
        self._metrics = ctx.metrics

    @on("task.completed")
    async def completed(self, event: TaskCompleted, meta: Meta) -> None:
        """Count one."""
        self._metrics.counter("app.completed", unit="{task}", task=meta.event.taskname or "").add()
