"""A fresh instance of a configured subscriber outside of its group: it gets the events that the caller feeds, with the order,
retries and policies of delivery. Used by replays, retries of dead letters, and trials."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from subscribers import State, Subscriber, SubscriberContext

from ...errors import HubError
from ...kafka import Cluster, wait_until_reachable
from ...service import set_within
from ..config import SubscriberPlan
from ..failures import DeadLetterSink
from ..runner import Runner
from ..selection import Headers, Route
from ..status import Counters
from ..thread import SubscriberThread
from ..window import Item, Session
from .control import Control

DRAIN_SECONDS = 5.0
LOOK_SECONDS = 0.02
REACH_SECONDS = 5.0
SILENT = logging.Logger("hub.delivery.silent", logging.CRITICAL + 1)


class LoggedRecord(NamedTuple):
    """A record of the log, with the attributes of a consumer's records."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class FailedItems:
    """A sink that keeps the errors of events that could not be delivered, instead of writing dead letters."""

    def __init__(self) -> None:
        self.errors: dict[Item, BaseException | None] = {}

    async def put(self, plan: SubscriberPlan, item: Item) -> None:
        """See DeadLetterSink."""
        self.errors[item] = item.error


class DestinationUnavailable(HubError):
    """The destination of a subscriber cannot take events at present."""


def refuse_outage(counters: Counters) -> None:
    """Raise DestinationUnavailable during an outage of the destination."""
    outages = counters.outages  # replaced by another thread
    if outages:
        raise DestinationUnavailable(outages[0]["reason"])


class Instance:
    """One opened instance, in a thread of its own. `counters`: events by outcome. `on_wait` is called with them while `feed` or
    `finish` waits, and may raise an error. Use `opened`."""

    def __init__(
        self, plan: SubscriberPlan, sink: DeadLetterSink, on_wait: Callable[[Counters], None], logger: logging.Logger
    ) -> None:
        self.counters = Counters()
        self._on_wait, self._log = on_wait, logger
        self._plan, self._sink = plan, sink
        self._loop = asyncio.get_running_loop()
        self._thread = SubscriberThread(f"hub.sub.{plan.config.id}")
        self._room = asyncio.Event()
        self._fatal: asyncio.Future[None] = self._loop.create_future()
        self._runner: Runner | None = None
        delivery = plan.delivery
        self._session = Session(delivery.in_flight_max, delivery.in_flight_bytes_max, wake=self._wake)

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._room.set)

    def _settle(self, error: Exception) -> None:
        if not self._fatal.done():
            self._fatal.set_exception(error)
            self._room.set()

    async def open(self, state: State | None) -> None:
        """Create the instance and open it. Raises what its constructor or `open` raises, TimeoutError."""
        self._runner = await self._thread.run(self._open(state), self._plan.delivery.timeout_seconds)

    async def _open(self, state: State | None) -> Runner:
        plan = self._plan
        context = SubscriberContext(plan.config.id, logging.getLogger(f"subscribers.{plan.config.id}"))
        instance: Subscriber[Any] = plan.plugin(plan.settings)
        await instance.open(context if state is None else context._replace(state=state))

        def on_fatal(error: Exception) -> None:
            self._loop.call_soon_threadsafe(self._settle, error)

        runner = Runner(plan, instance, self._sink, self.counters, on_fatal, self._log)
        runner.start()
        return runner

    async def feed(self, route: Route, record: LoggedRecord) -> Item:
        """Pass a record to the handler of `route`; waits while too many events are in flight. Raises StoppedByPolicy,
        and what `on_wait` raises."""
        assert self._runner is not None, "the instance is open"
        while not self._session.room():
            self._room.clear()
            self._session.waiting = True
            if self._session.has_room(0.5):
                break
            self._raise_failure()
            self._on_wait(self.counters)
            await set_within(self._room, LOOK_SECONDS)
        self._raise_failure()
        item = Item(self._session, route, record)
        self._session.fed += 1
        self._session.fed_bytes += item.size
        self._runner.feed([item])
        return item

    async def finish(self) -> None:
        """Wait until all events are acknowledged. Raises StoppedByPolicy, and what `on_wait` raises."""
        while self._session.in_flight:
            self._raise_failure()
            self._on_wait(self.counters)
            await asyncio.sleep(LOOK_SECONDS)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._fatal.done():
            self._fatal.result()

    async def close(self) -> None:
        """Let running handlers end, flush, and close the instance."""
        try:
            if self._runner is not None:
                await self._thread.run(self._runner.drain(self._session, DRAIN_SECONDS), 2 * DRAIN_SECONDS + 1)
                await self._thread.run(self._runner.close(DRAIN_SECONDS), DRAIN_SECONDS + 2)
        finally:
            await self._thread.stop(2.0)


@asynccontextmanager
async def opened(
    plan: SubscriberPlan,
    sink: DeadLetterSink,
    state: State | None = None,
    *,
    on_wait: Callable[[Counters], None] = refuse_outage,
    logger: logging.Logger = SILENT,
) -> AsyncIterator[Instance]:
    """An open instance; `state`: its `ctx.state`, if its class declares that it uses it. `logger`: for retries and failures; by
    default they are not logged, for callers that report them. Raises as `Instance.open` does."""
    instance = Instance(plan, sink, on_wait, logger)
    try:
        await instance.open(state if plan.plugin.uses_state else None)
        yield instance
    finally:
        await instance.close()


@asynccontextmanager
async def durable_state(cluster: Cluster, plan: SubscriberPlan) -> AsyncIterator[State | None]:
    """The state of the subscriber, shared with its running processes; None if its class does not use it. Raises Unreachable."""
    if not plan.plugin.uses_state:
        yield None
        return
    await wait_until_reachable(cluster, REACH_SECONDS)
    control = Control(cluster, plan.config.id)
    control.start()
    try:
        await control.caught_up.wait()
        yield control.state
    finally:
        await control.stop()
