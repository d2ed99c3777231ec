"""A subscriber on the log in memory: with the filter, lanes, retries, dead letters and policies of delivery, on the test's event
loop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from schemas import Event, MalformedEvent, decode_event
from subscribers import Subscriber, SubscriberContext

from ..delivery import Counters, SubscriberPlan
from ..delivery.administration import StateInMemory
from ..delivery.runner import DURATION, Runner
from ..delivery.selection import Selection
from ..delivery.window import Item, Session
from ..kafka import EVENTS, StoredRecord
from ..metrics import PluginMetrics, Registry
from ..service import ServiceTasks
from .transport import MemoryTransport

CLIENT_ID = "subscription"
DRAIN_SECONDS = 5.0


class ConsumedRecord(NamedTuple):
    """A record, with the attributes of the consumer's records."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class DeadLetteredEvent(NamedTuple):
    """An event that could not be delivered, with the number of attempts and the last error. `event` is None if the record is not
    an event."""

    event: Event | None
    attempts: int
    error: BaseException | None


class Subscription:
    """One attached subscriber. `instance`: the object whose methods are called; `counters`: numbers of events by outcome;
    `dead_letters`: events that could not be delivered; `state`: its `ctx.state`, in memory;
    `registry`: has its `ctx.metrics`; `stopped`: the error because of which
    `on_error = "stop"` stopped it."""

    def __init__(
        self,
        plan: SubscriberPlan,
        now_ms: Callable[[], int],
        on_failed: Callable[[BaseException], object],
        registry: Registry | None = None,
    ) -> None:
        self.plan = plan
        self.instance: Subscriber[Any] = plan.plugin(plan.settings)
        self.counters = Counters()
        self.dead_letters: list[DeadLetteredEvent] = []
        self.stopped: Exception | None = None
        self.state = StateInMemory()
        self.registry = registry or Registry()
        self._now_ms = now_ms
        self._selection = Selection(plan.plugin, plan.settings, plan.filter)
        self._room = asyncio.Event()
        self._session = Session(plan.delivery.in_flight_max, plan.delivery.in_flight_bytes_max, wake=self._room.set)
        self._logger = logging.getLogger(f"subscribers.{plan.config.id}")
        self._runner: Runner | None = None
        self._reading = ServiceTasks(f"subscriber {plan.config.id}", on_failed)

    async def open(self) -> None:
        """Open the instance. Raises what its `open` raises."""
        async with asyncio.timeout(self.plan.delivery.timeout_seconds):
            metrics = PluginMetrics(self.registry, self.plan.config.id)
            context = SubscriberContext(self.plan.config.id, self._logger, metrics=metrics)
            await self.instance.open(context._replace(state=self.state) if self.plan.plugin.uses_state else context)
        self._runner = Runner(
            self.plan,
            self.instance,
            self,
            self.counters,
            self._stop,
            self._logger,
            now_ms=self._now_ms,
            handler_seconds=self.registry.histogram(DURATION, subscriber=self.plan.config.id),
        )
        self._runner.start()

    def follow(self, transport: MemoryTransport, partitions: int) -> None:
        """Begin to read the log."""
        for partition in range(partitions):
            begin = 0 if self.plan.config.start_from == "earliest" else transport.broker.end(EVENTS, partition)
            self._reading.start(self._read(transport, partition, begin), f"{self.plan.config.id}-{partition}")

    @property
    def active(self) -> int:
        """The number of handlers that are running."""
        return 0 if self._runner is None else self._runner.active

    @property
    def acknowledged(self) -> int:
        """The number of delivered events that are acknowledged: handled, and flushed if the subscriber buffers."""
        return self._session.finished

    def _stop(self, error: Exception) -> None:
        self.stopped = error
        self._session.revoked = True

    async def _read(self, transport: MemoryTransport, partition: int, begin: int) -> None:
        async with transport.reader(client_id=CLIENT_ID) as reader:
            await reader.open(EVENTS, partition, begin)
            while not self._session.revoked:
                await self._wait_for_room()
                for record in await reader.read(1):
                    self.hand_over(partition, record)

    async def _wait_for_room(self) -> None:
        while not self._session.room():
            self._room.clear()
            self._session.waiting = True
            await self._room.wait()

    def hand_over(self, partition: int, record: StoredRecord) -> Item | None:
        """Deliver a record. Returns None if the subscriber does not take it."""
        assert self._runner is not None, "the subscriber is not open"
        offset, timestamp_ms, key, value, headers = record
        route = self._selection.route(tuple(headers))
        if route is None:
            self.counters.filtered += 1
            return None
        item = Item(self._session, route, ConsumedRecord(partition, offset, timestamp_ms, key, value, tuple(headers)))
        self._session.fed += 1
        self._session.fed_bytes += item.size
        self._runner.feed([item])
        return item

    async def put(self, plan: SubscriberPlan, item: Item) -> None:
        """Record an event that could not be delivered (see `hub.delivery.failures.DeadLetterSink`)."""
        try:
            event = decode_event(item.value, item.headers)
        except MalformedEvent:
            event = None
        self.dead_letters.append(DeadLetteredEvent(event, item.failures, item.error))

    async def close(self) -> None:
        """Let running handlers end, flush, and close the instance. Raises what its `close` raises."""
        await self._reading.cancel()
        if self._runner is not None:
            await self._runner.drain(self._session, DRAIN_SECONDS)
            await self._runner.close(DRAIN_SECONDS)
