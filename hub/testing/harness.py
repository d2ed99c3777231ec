"""One subscriber without a hub: a test gives it events and moves its time."""

import asyncio
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from subscribers import Subscriber

from ..delivery import SubscriberPlan
from ..delivery.config import parse_configs, plan
from ..delivery.window import Item
from ..kafka import StoredRecord
from ..metrics import Registry
from ..metrics.plugins import SUBSCRIBER
from .driver import Driver
from .factories import EventRecord, make_event_record
from .manual_time import ManualTime
from .subscription import DeadLetteredEvent, Subscription

STOP_SECONDS = 60.0
OUTSIDE_SECONDS = 5.0
"""Real time that a handler may wait for something outside, such as an answer of an HTTP endpoint of the test."""


class SubscriberHarness:
    """A subscriber with the filter, order, retries, policies and dead letters of delivery, on the test's event loop.

    >>> async with SubscriberHarness(Pager, {"routing_key": "secret"}) as harness:
    ...     await harness.feed("task.failed", attempt=3)
    ...     await harness.advance(seconds=60)
    ...     assert harness.delivered == 1

    Only `advance` moves the time: that of retries and timeouts, and of `asyncio.sleep` in handlers and in the test. Replayed
    events (`feed(..., replay=True)`) get an instance of their own, as in `hub subscribers replay`. Raises ConfigurationError if a
    setting is invalid, when it is created."""

    def __init__(
        self,
        subscriber: type[Subscriber[Any]],
        settings: Mapping[str, Any] | None = None,
        *,
        delivery: Mapping[str, Any] | None = None,
        start: datetime = datetime(2026, 1, 1, 9, 30, 1, tzinfo=UTC),
    ) -> None:
        """`start`: the time at the beginning; the events of the factories are of a second before the default."""
        name = subscriber.name or subscriber.__qualname__
        (config,) = parse_configs([{"use": name, "settings": dict(settings or {}), "delivery": dict(delivery or {})}])
        self._plan: SubscriberPlan = plan(config, subscriber)
        self._clock = ManualTime(asyncio.get_running_loop(), start)
        self._driver = Driver(
            self._clock,
            running=lambda: 0,
            busy_threads=self._active,
            thread_seconds=OUTSIDE_SECONDS,
            stall_seconds=OUTSIDE_SECONDS,
        )
        self._registry = Registry()
        self._live: Subscription | None = None
        self._replaying: Subscription | None = None
        self._offsets = itertools.count()
        self._items: list[Item] = []

    async def __aenter__(self) -> Self:
        self._clock.install()
        self._live = await self._opened(self._plan)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            for one in (self._replaying, self._live):
                if one is not None:
                    await self._driver.finish(one.close(), STOP_SECONDS)
        finally:
            self._clock.uninstall()

    async def _opened(self, plan: SubscriberPlan) -> Subscription:
        one = Subscription(plan, self._clock.now_ms, self._driver.fail, registry=self._registry)
        await self._driver.finish(one.open(), STOP_SECONDS)
        return one

    def _active(self) -> int:
        return sum(one.active for one in (self._live, self._replaying) if one is not None)

    # Events and time

    async def feed(self, event: EventRecord | str, /, *, replay: bool = False, **fields: Any) -> None:
        """Deliver an event and run what can be done at the current time. `event`: a record (`make_event_record`), or an event
        type with `fields` of its data, and `envelope` as for `make_event`."""
        record = event if isinstance(event, EventRecord) else self._example(event, fields)
        if replay and self._replaying is None:
            self._replaying = await self._opened(self._plan._replace(replay=True))
        target = self._replaying if replay else self._live
        assert target is not None, "the harness has not been entered"
        item = target.hand_over(0, StoredRecord(next(self._offsets), self._clock.now_ms(), *record))
        if item is not None:
            self._items.append(item)
        await self.settle()

    def _example(self, event_type: str, fields: dict[str, Any]) -> EventRecord:
        """Each example is another event: it has the next run, and the present time."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        envelope = {"run": next(self._offsets), "time": now, **fields.pop("envelope", {})}
        return make_event_record(event_type, envelope=envelope, **fields)

    async def settle(self) -> None:
        """Run everything that can be done at the current time; waits for handlers that wait for something outside."""
        await self._driver.settle()

    async def advance(
        self, duration: timedelta = timedelta(), *, seconds: float = 0, minutes: float = 0, hours: float = 0
    ) -> None:
        """Advance the time, and run everything that becomes due, at its due time."""
        await self._driver.advance((duration + timedelta(seconds=seconds, minutes=minutes, hours=hours)).total_seconds())

    # What happened

    @property
    def subscription(self) -> Subscription:
        """The subscriber as it is delivered to: `instance`, `counters`, `state`, `stopped`."""
        assert self._live is not None, "the harness has not been entered"
        return self._live

    @property
    def delivered(self) -> int:
        """How many events its handlers have accepted, replayed ones not counted."""
        return self.subscription.counters.delivered

    @property
    def acknowledged(self) -> int:
        """How many events are done with: accepted, and flushed if it buffers; dropped, skipped or dead-lettered."""
        return self.subscription.acknowledged

    @property
    def dead_letters(self) -> list[DeadLetteredEvent]:
        """The events that could not be delivered."""
        return self.subscription.dead_letters

    @property
    def replayed(self) -> int:
        """How many replayed events its handlers have accepted."""
        return 0 if self._replaying is None else self._replaying.counters.delivered

    @property
    def errors(self) -> list[BaseException]:
        """The latest errors of its handlers: of events that wait for another attempt, and of dead letters."""
        waiting = [one.error for one in self._items if not one.done]
        return [error for error in (*waiting, *(one.error for one in self.dead_letters)) if error is not None]

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of an instrument of the subscriber, by the values of its labels in their order."""
        samples = self._registry.collect().instrument(name)
        if samples is None:
            return {}
        kept = [place for place, label in enumerate(samples.labels) if label != SUBSCRIBER]
        return {tuple(point.labels[place] for place in kept): point.value for point in samples.points}
