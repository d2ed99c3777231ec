"""Subscribers of `measure_isolation.py`: one that is well, five that are not, one that filters everything.

Each notes its process in `<folder>/<id>.pids`.
"""

import asyncio
import os
import struct
import time
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from schemas import Event
from subscribers import Delivery, F, Redelivery, Subscriber, SubscriberContext, SubscriberSettings, on

PATIENT = Delivery(retry=Redelivery(initial=0.1, max=5, timeout="1h"))
DELAY = struct.Struct("<d")
FLUSH_EVERY = 100


class MeasuredSettings(SubscriberSettings):
    """Where to write."""

    folder: Path


class Measured(Subscriber[MeasuredSettings]):
    """Notes its process."""

    delivery = PATIENT

    async def open(self, ctx: SubscriberContext) -> None:
        with (self.settings.folder / f"{ctx.id}.pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        self.delays: BinaryIO = (self.settings.folder / f"{ctx.id}.delays").open("ab")
        self.count = 0


class Healthy(Measured):
    """Writes down how old each event is when its handler is called, in seconds."""

    name = "healthy"
    delivery = Delivery(concurrency=8)

    @on("task.created")
    async def seen(self, event: Event) -> None:
        self.delays.write(DELAY.pack(time.time() - datetime.fromisoformat(event.time).timestamp()))
        self.count += 1
        if self.count % FLUSH_EVERY == 0:
            self.delays.flush()


class Killed(Healthy):
    """The same; its process is killed from outside."""

    name = "killed"


class Hangs(Measured):
    """Does not return."""

    name = "hangs"

    @on("task.*")
    async def seen(self, event: Event) -> None:
        await asyncio.Event().wait()


class Raises(Measured):
    """Fails at every event."""

    name = "raises"

    @on("task.*")
    async def seen(self, event: Event) -> None:
        raise ValueError("no event is good enough")


class Sleeps(Measured):
    """Blocks its thread for a second per event."""

    name = "sleeps"

    @on("task.*")
    def seen(self, event: Event) -> None:
        time.sleep(1)


class Spins(Measured):
    """Uses the CPU without end."""

    name = "spins"

    @on("task.*")
    def seen(self, event: Event) -> None:
        while True:
            pass


class Refuses(Measured):
    """Its filter rejects every event."""

    name = "refuses"
    filter = F.exact(namespace="nowhere")

    @on("*")
    async def seen(self, event: Event) -> None:
        raise AssertionError("no event passes its filter")
