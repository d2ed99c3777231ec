"""The tasks of the end-to-end tests: short; each execution is recorded in a file if the test sets one."""

import asyncio
import os
import random
from pathlib import Path

from hub import TaskContext, TaskRegistry

tasks = TaskRegistry()
_journal = os.environ.get("HUB_TEST_JOURNAL")


@tasks.task("step")
async def step(ctx: TaskContext, ms: int = 0) -> str:
    """Takes up to `ms` milliseconds."""
    if _journal:
        with Path(_journal).open("a") as file:
            file.write(f"{ctx.task_id} {ctx.attempt}\n")
    if ms:
        await asyncio.sleep(random.random() * ms / 1000)
    return ctx.key or ctx.task_id


@tasks.task("held")
async def held() -> str:
    """Runs until the test lets it go (`Installation.let_go`)."""
    while not Path(f"{_journal}.go").exists():
        await asyncio.sleep(0.02)
    return "done"


@tasks.task("once", delivery="at_most_once")
async def once(ctx: TaskContext) -> str:
    """At most once."""
    if _journal:
        with Path(_journal).open("a") as file:
            file.write(f"once {ctx.task_id}\n")
    await asyncio.sleep(0.02)
    return "once"
