"""One subscriber on records of its own, in virtual time: the runner without a broker, and a script instead of a destination."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from hub.delivery import Counters, SubscriberConfig, SubscriberPlan
from hub.delivery.config import plan
from hub.delivery.current_events import CurrentEvents
from hub.delivery.runner import Runner
from hub.delivery.selection import Selection
from hub.delivery.window import Item, Session
from hub.testing import make_event_record
from schemas import Event
from subscribers import Batch, Meta, Subscriber, SubscriberSettings, on

BEGIN_MS = 1_800_000_000_000
Script = Callable[[list[Meta]], Awaitable[None]]


async def accept(metas: list[Meta]) -> None:
    """The script of a destination that takes everything."""


class Destination(Subscriber[SubscriberSettings]):
    """Calls its script with each event. `calls`: time, and the names of the events."""

    def __init__(self, settings: SubscriberSettings) -> None:
        super().__init__(settings)
        self.script: Script = accept
        self.calls: list[tuple[float, list[str]]] = []
        self.accepted: list[str] = []
        self.metas: list[Meta] = []

    async def take(self, metas: list[Meta]) -> None:
        names = [name_of(meta) for meta in metas]
        self.calls.append((asyncio.get_running_loop().time(), names))
        await self.script(metas)
        self.accepted += names
        self.metas += metas

    @on("*")
    async def one(self, event: Event, meta: Meta) -> None:
        await self.take([meta])


class BatchDestination(Destination):
    """The same, in batches."""

    @on("*", batch=Batch(max=8, linger=0.1))
    async def one(self, events: list[Event], metas: list[Meta]) -> None:  # type: ignore[override]  # by its own signature
        await self.take(metas)


class BufferingDestination(Destination):
    """Buffers, and calls its script at flush."""

    def __init__(self, settings: SubscriberSettings) -> None:
        super().__init__(settings)
        self.buffer: list[Meta] = []

    @on("*")
    async def one(self, event: Event, meta: Meta) -> None:
        self.buffer.append(meta)

    async def flush(self) -> None:
        part = list(self.buffer)
        await self.take(part)
        del self.buffer[: len(part)]  # handlers may have added others


def name_of(meta: Meta) -> str:
    """Task and sequence number: a3."""
    return f"{meta.subject}{meta.sequence}"


class Delivering:
    """The subscriber `plugin`, with these entries of its configuration; used within a loop with virtual time."""

    def __init__(
        self, plugin: type[Destination] = Destination, *, replay: bool = False, current: CurrentEvents | None = None, **entry: Any
    ) -> None:
        config = SubscriberConfig(use="x:Y", id="s", **entry)
        self.plan = plan(config, plugin)._replace(replay=replay)
        self.selection = Selection(self.plan.plugin, self.plan.settings, self.plan.filter)
        self.destination = plugin(self.plan.settings)
        self.counters, self.fatal = Counters(), list[Exception]()
        self.letters: list[str] = []
        self.items: list[Item] = []
        self.loop = asyncio.get_running_loop()
        self.session = self.new_session()
        self.runner = Runner(
            self.plan,
            self.destination,
            self,
            self.counters,
            self.fatal.append,
            logging.getLogger("hub.policies"),
            now_ms=self.now_ms,
            current=current,
        )
        self.runner.start()

    def new_session(self) -> Session:
        return Session(1_000_000, 1 << 40, wake=lambda: None)

    def now_ms(self) -> int:
        return BEGIN_MS + round(self.loop.time() * 1000)

    async def put(self, plan: SubscriberPlan, item: Item) -> None:
        headers = {name: value.decode() for name, value in item.headers if value is not None}
        self.letters.append(f"{headers['ce_subject']}{int(headers['ce_sequence'])}")

    def feed(self, *names: str, type: str = "task.progressed", root: str | None = None, age_seconds: float = 0.0) -> None:
        """Feed events of tasks: "a1" is the first of the task a, "a2!" a second one, of the type task.failed."""
        items = []
        for name in names:
            event_type = "task.failed" if name.endswith("!") else type
            task, sequence = name[0], int(name[1:].rstrip("!"))
            record = make_event_record(event_type, envelope={"subject": task, "sequence": sequence, "rootid": root or task})
            items.append(self.item_of(record, self.now_ms() - round(age_seconds * 1000)))
            self.items.append(items[-1])
        self.runner.feed(items)

    def item_of(self, record: Any, timestamp_ms: int) -> Item:
        offset = len(self.items)
        headers = tuple(record.headers)
        fetched = SimpleNamespace(
            partition=0, offset=offset, key=record.key, value=record.value, headers=headers, timestamp=timestamp_ms
        )
        return Item(self.session, self.selection.route(headers), fetched)

    async def advance(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @property
    def unfinished(self) -> int:
        return sum(not item.done for item in self.items)

    @property
    def calls(self) -> list[tuple[float, list[str]]]:
        return self.destination.calls

    @property
    def called_at(self) -> list[float]:
        return [when for when, _ in self.calls]

    @property
    def accepted(self) -> list[str]:
        return self.destination.accepted

    async def close(self) -> None:
        await self.runner.close(1.0)


def of_task(names: Sequence[str], task: str) -> list[int]:
    """The sequence numbers of one task."""
    return [int(name[1:]) for name in names if name[0] == task]
