"""Subscribers for tests. They record what they receive under the `tag` in their settings."""

import asyncio
import collections
import time
from typing import Any

from schemas import Event
from schemas.events import TaskProgressed
from subscribers import (
    Batch,
    Delivery,
    Drop,
    Meta,
    Postpone,
    Redelivery,
    Subscriber,
    SubscriberContext,
    SubscriberSettings,
    on,
    subscriber,
)

QUICK = Redelivery(initial=0.01, max=0.05, timeout=0.15)


class Seen:
    """What the subscribers with one tag have been given, and how they are to behave."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.metas: list[Meta] = []
        self.batches: list[list[int]] = []
        self.calls: list[str] = []
        self.poison: set[tuple[str, int]] = set()
        self.running = 0
        self.most = 0
        self.open_fails = 0
        self.flush_fails = 0
        self.gate: Any = None

    def of(self, task: str) -> list[int]:
        """The sequence numbers seen of a task, in order."""
        return [sequence for one, sequence in self.events if one == task]


SEEN: dict[str, Seen] = collections.defaultdict(Seen)


class Tagged(SubscriberSettings):
    """Which entry of SEEN to use."""

    tag: str


class Recorder(Subscriber[Tagged]):
    """Notes every event; raises for those in `poison`."""

    name = "recorder"
    delivery = Delivery(retry=QUICK, concurrency=4)

    def __init__(self, settings: Tagged) -> None:
        super().__init__(settings)
        self.seen = SEEN[settings.tag]

    async def open(self, ctx: SubscriberContext) -> None:
        self.seen.calls.append("open")
        if self.seen.open_fails:
            self.seen.open_fails -= 1
            raise RuntimeError("the pager is not plugged in")

    async def close(self) -> None:
        self.seen.calls.append("close")

    @on("*")
    async def any_event(self, event: Event, meta: Meta) -> None:
        if (event.subject, event.sequence) in self.seen.poison:
            self.seen.calls.append(f"poison {meta.attempt}")
            raise ValueError(f"cannot stand {event.subject} {event.sequence}")
        self.seen.events.append((event.subject, event.sequence))
        self.seen.metas.append(meta)


class Progress(Subscriber[Tagged]):
    """Takes the data of one type, by annotation; keeps count of how many run side by side."""

    name = "progress"
    delivery = Delivery(retry=QUICK, concurrency=4)

    @on
    async def progressed(self, event: TaskProgressed, meta: Meta) -> None:
        seen = SEEN[self.settings.tag]
        seen.running += 1
        seen.most = max(seen.most, seen.running)
        try:
            await asyncio.sleep(0.02)
        finally:
            seen.running -= 1
        seen.events.append((meta.subject, int(event.percent or 0)))


class Batches(Subscriber[Tagged]):
    """Takes progress in batches; raises when poison is among them."""

    name = "batches"
    delivery = Delivery(retry=QUICK)

    @on(batch=Batch(max=10, linger=0.05))
    async def many(self, events: list[TaskProgressed], metas: list[Meta]) -> None:
        seen = SEEN[self.settings.tag]
        seen.calls.append(f"batch of {len(events)}")
        if any((meta.subject, meta.sequence) in seen.poison for meta in metas):
            raise ValueError("something in here is bad")
        seen.batches.append([meta.sequence for meta in metas])
        seen.events.extend((meta.subject, meta.sequence) for meta in metas)


class Lingering(Batches):
    """The same, and lingers for so long that nothing but the size of a batch decides what is in it."""

    name = "lingering"

    @on(batch=Batch(max=10, linger=2))
    async def many(self, events: list[TaskProgressed], metas: list[Meta]) -> None:
        await super().many(events, metas)


class Hanging(Recorder):
    """A handler that does not return for what is in `poison`."""

    name = "hanging"
    delivery = Delivery(retry=QUICK, timeout=0.1, concurrency=2)

    @on("*")
    async def any_event(self, event: Event, meta: Meta) -> None:
        if (event.subject, event.sequence) in self.seen.poison:
            self.seen.calls.append(f"hang {meta.attempt}")
            await asyncio.Event().wait()
        self.seen.events.append((event.subject, event.sequence))


class Blocking(Recorder):
    """A handler that blocks its thread until the gate (a threading.Event) opens."""

    name = "blocking"

    @on("*")
    def any_event(self, event: Event) -> None:  # type: ignore[override]  # called by its own signature, as every handler
        self.seen.calls.append("blocks")
        self.seen.gate.wait(300)
        self.seen.events.append((event.subject, event.sequence))


class Busy(Recorder):
    """A handler that works on the processor, without a pause, for 20 ms."""

    name = "busy"

    @on("*")
    async def any_event(self, event: Event) -> None:  # type: ignore[override]  # called by its own signature, as every handler
        ends = time.monotonic() + 0.02
        while time.monotonic() < ends:
            pass
        self.seen.events.append((event.subject, event.sequence))


class Wishing(Recorder):
    """Postpones the first try of every event and drops odd ones."""

    name = "wishing"

    @on("*")
    async def any_event(self, event: Event) -> None:  # type: ignore[override]  # called by its own signature, as every handler
        key = f"{event.subject} {event.sequence}"
        if key not in self.seen.calls:
            self.seen.calls.append(key)
            raise Postpone(after="50ms")
        if event.sequence % 2:
            raise Drop("odd")
        self.seen.events.append((event.subject, event.sequence))


class Sink(Recorder):
    """Buffers, and writes at flush."""

    name = "sink"

    async def open(self, ctx: SubscriberContext) -> None:
        self.buffer: list[tuple[str, int]] = []

    @on("*")
    async def any_event(self, event: Event) -> None:  # type: ignore[override]  # called by its own signature, as every handler
        self.buffer.append((event.subject, event.sequence))

    async def flush(self) -> None:
        self.seen.calls.append("flush")
        if self.seen.flush_fails:
            self.seen.flush_fails -= 1
            raise OSError("the disk is full")
        if self.seen.gate is not None:
            await asyncio.to_thread(self.seen.gate.wait, 20)
        self.seen.events.extend(self.buffer)
        self.buffer.clear()


@subscriber("task.completed", "workflow.*", name="plain")
async def plain(event: Event) -> None:
    """The five-line case."""
    SEEN["plain"].events.append((event.subject, event.sequence))


not_a_subscriber = 17
