"""Subscribers whose process ends at one event, `FATAL`, each in another way; each appends a line per event to a file."""

import asyncio
import ctypes
import os
from pathlib import Path

from schemas import Event
from subscribers import Batch, Delivery, Meta, Subscriber, SubscriberSettings, on

FATAL = ("t7", 31)


class EndingSettings(SubscriberSettings):
    """Where to write; whether there is no such event."""

    path: Path
    healthy: bool = False


class Exits(Subscriber[EndingSettings]):
    """Ends its process with `os._exit`, while up to seven others are being handled."""

    delivery = Delivery(concurrency=8)

    @on("task.*")
    async def seen(self, event: Event, meta: Meta) -> None:
        await asyncio.sleep(0.001)
        if self.is_fatal(event):
            os._exit(9)
        self.write([event])

    def is_fatal(self, event: Event) -> bool:
        return (event.subject, event.sequence) == FATAL and not self.settings.healthy

    def write(self, events: list[Event]) -> None:
        with self.settings.path.open("a") as file:
            file.write("".join(f"{event.subject} {event.sequence}\n" for event in events))


class ExitsInBatch(Exits):
    """Ends its process at a batch with this event."""

    delivery = Delivery(concurrency=1)

    @on("task.*", batch=Batch(max=50, linger=0.05))
    async def seen(self, events: list[Event], metas: list[Meta]) -> None:  # type: ignore[override]  # by its own signature
        if any(map(self.is_fatal, events)):
            os._exit(9)
        self.write(events)


class CrashesInFlush(Exits):
    """Reads from address 0 when it flushes this event."""

    delivery = Delivery(concurrency=1)

    def __init__(self, settings: EndingSettings) -> None:
        super().__init__(settings)
        self.buffer: list[Event] = []

    @on("task.*")
    async def seen(self, event: Event, meta: Meta) -> None:
        self.buffer.append(event)

    async def flush(self) -> None:
        if any(map(self.is_fatal, self.buffer)):
            ctypes.string_at(0)
        self.write(self.buffer)
        self.buffer.clear()


class Stops(Exits):
    """Must not leave out an event."""

    delivery = Delivery(concurrency=1, order="partition", on_error="stop")
