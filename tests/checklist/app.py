"""Tasks and subscribers of the hub whose features are shown."""

import asyncio
import json
import logging
import os
from pathlib import Path

from opentelemetry import trace

from hub import Permanent, TaskContext, TaskRegistry
from schemas import Event
from subscribers import Delivery, Redelivery, Subscriber, SubscriberSettings, on, subscriber

tasks = TaskRegistry()


@tasks.task("charge")
async def charge(ctx: TaskContext, amount: int = 7) -> int:
    """Logs a line, and makes a span of its own."""
    with trace.get_tracer("app").start_as_current_span("call the bank"):
        ctx.logger.info("charging")
    return amount


@tasks.task("bad")
async def bad() -> None:
    """Fails."""
    raise Permanent("no")


@tasks.task("held")
async def held() -> None:
    """Runs until it is cancelled."""
    await asyncio.sleep(600)


class WitnessSettings(SubscriberSettings):
    """Where to write."""

    path: Path


class Witness(Subscriber[WitnessSettings]):
    """Appends every event to a file, as a line of JSON, and logs a line about completed tasks."""

    name = "witness"

    @on("*")
    async def seen(self, event: Event) -> None:
        with self.settings.path.open("a") as file:
            file.write(json.dumps(event.as_dict()) + "\n")
        if event.type == "task.completed":
            logging.getLogger("app").warning("witnessed")


@subscriber("task.failed", name="raises", delivery=Delivery(retry=Redelivery(timeout=0)))
async def raises(event: Event) -> None:
    """Fails at every event."""
    raise ValueError("no event is good enough")


@subscriber("task.failed", name="exits")
async def exits(event: Event) -> None:
    """Ends its process."""
    os._exit(3)
