"""Keeps one subscriber running: its thread, its code and its consumer are recreated after failures, with backoff.

    import + settings  ->  open  ->  consumer joins  ->  events flow
         \\_____________________ failed: wait, retry _________________/      (policy "stop": remains stopped)

Exceptions of a plugin are handled here and not raised.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from subscribers import Subscriber, SubscriberContext

from ..errors import ConfigurationError
from ..kafka import SUBSCRIBERS, TopicMissing
from ..metrics import PluginMetrics, Registry
from ..service import ServiceTasks, no_log, set_within
from .administration.control import Control, Paused
from .administration.control_topic import ControlFollower
from .admission import wall_ms
from .clients import Clients
from .config import SubscriberConfig, SubscriberPlan, plan
from .current_events import CurrentEvents
from .dead_letters import DeadLetters
from .discovery import load
from .feed import Disconnected, Feed
from .lifecycle import Lifecycle
from .reading import AssignmentReader
from .restarting import Restarting, is_cancelled
from .runner import DURATION, Runner
from .selection import Selection
from .status import Counters, SubscriberStatus
from .thread import SubscriberThread
from .window import Session

IMPORT_SECONDS = 30.0
BLOCKED_SECONDS = 3.0
RECONNECT_MAX_SECONDS = 3.0
CONTROL_SECONDS = 5.0


class SharedResources(NamedTuple):
    """What the subscribers of a process share. `follower`: of their pauses and states; `registry`: where their metrics are;
    `current`: where the events that are being handled are written, in the process of an isolated subscriber."""

    clients: Clients
    dead_letters: DeadLetters
    follower: ControlFollower
    registry: Registry
    topic: str
    drain_seconds: float
    current: CurrentEvents | None = None


class SubscriberSupervisor:
    """One configured subscriber, run until `stop`."""

    def __init__(self, config: SubscriberConfig, shared: SharedResources, on_change: Callable[[], None]) -> None:
        self.config = config
        self._shared = shared
        self._clients, self._topic, self._drain_seconds = shared.clients, shared.topic, shared.drain_seconds
        self._log = logging.getLogger(f"hub.delivery.{config.id}")
        self._counters = Counters()
        self.lifecycle = Lifecycle(self._log, on_change)
        self._restarting = Restarting(self.lifecycle)
        self._reconnects = 0
        self._control = Control(shared.clients.cluster, config.id, shared.follower)
        self._thread: SubscriberThread | None = None
        self._runner: Runner | None = None
        self._feed: Feed | None = None

    @property
    def checked(self) -> "asyncio.Future[None]":
        """Done when the configuration is known to be valid; its exception is the ConfigurationError otherwise."""
        return self._restarting.checked

    def status(self) -> SubscriberStatus:
        """The present status."""
        feed, counters = self._feed, self._counters
        state = self.lifecycle.state
        if state == "running" and self._thread is not None and self._thread.blocked_seconds() > BLOCKED_SECONDS:
            state = "blocked"
        if state == "running" and counters.outages:
            state = "unavailable"
        session = None if feed is None else feed.session
        return SubscriberStatus(
            id=self.config.id,
            use=self.config.use,
            state=state,
            partitions=() if feed is None else feed.partitions,
            lag=0 if feed is None else feed.lag,
            lag_seconds=None if feed is None else feed.lag_seconds(wall_ms()),
            in_flight=0 if session is None else session.in_flight,
            **asdict(counters),
            restarts=self._restarting.restarts,
            reconnects=self._reconnects,
            error=(self._runner.error if self._runner is not None else None) or self.lifecycle.error,
        )

    async def run(self) -> None:
        """Run until cancelled or stopped by its policy. An invalid configuration is reported by `checked`."""
        try:
            await self._restarting.run(self._until_failed)
        finally:
            await self._control.stop()

    async def _until_failed(self) -> None:
        """Run the subscriber, also again after each pause, which closes it. Raises what ends it."""
        while True:
            try:
                return await self._one_feed()
            except Paused:
                self._feed = None

    async def _one_feed(self) -> None:
        self._thread = SubscriberThread(f"hub.sub.{self.config.id}")
        try:
            prepared = await self._thread.run(self._prepare(), IMPORT_SECONDS)
            self._restarting.is_valid()
            if prepared.delivery.on_error == "dlq":
                await self._ensure_dead_letter_topic()
            await self._until_allowed()
            fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._runner = await self._thread.run(
                self._open(prepared, asyncio.get_running_loop(), fatal), prepared.delivery.timeout_seconds
            )
            try:
                await self._deliver(prepared, self._runner, fatal)
            finally:
                runner, self._runner = self._runner, None
                if fatal.done():
                    fatal.exception()  # already reported; otherwise asyncio would log it
                self.lifecycle.error = runner.error or self.lifecycle.error
                await self._close(runner)
        finally:
            thread, self._thread = self._thread, None
            if not await thread.stop(2.0):
                self._log.error(
                    "the subscriber's thread did not stop in time; abandoning it", extra={"action": "subscriber_thread_abandoned"}
                )

    async def _prepare(self) -> SubscriberPlan:
        """Import and check in the subscriber's thread, so that an import that hangs or raises affects only this subscriber."""
        return plan(self.config, load(self.config.use))

    async def _ensure_dead_letter_topic(self) -> None:
        delay = 0.2
        while True:
            try:
                return await self._clients.ensure_dead_letter_topic(self.config.id, self._topic)
            except TopicMissing as error:
                self.lifecycle.enter("waiting", error)
            except ConfigurationError:
                raise
            except Exception as error:
                self.lifecycle.enter("reconnecting", error)
            await asyncio.sleep(delay)
            delay = min(RECONNECT_MAX_SECONDS, delay * 2)

    async def _until_allowed(self) -> None:
        """Wait until the records about this subscriber are known and it is not paused."""
        self._control.start()
        while not self._control.caught_up.is_set():
            if not await set_within(self._control.caught_up, CONTROL_SECONDS):
                self.lifecycle.enter("reconnecting", Disconnected(f"no response to reading {SUBSCRIBERS}"))
        if self._control.paused is not None:
            self.lifecycle.enter("paused", Paused(self._control.paused))
            await self._control.until_resumed()
            self.lifecycle.enter("starting")

    async def _open(
        self, prepared: SubscriberPlan, service_loop: asyncio.AbstractEventLoop, fatal: "asyncio.Future[None]"
    ) -> Runner:
        """Create the instance, open it and start its workers; runs in the subscriber's thread."""

        def on_fatal(error: Exception) -> None:
            service_loop.call_soon_threadsafe(_settle, fatal, error)

        instance: Subscriber[Any] = prepared.plugin(prepared.settings)
        logger = logging.getLogger(f"subscribers.{self.config.id}")
        context = SubscriberContext(self.config.id, logger, metrics=PluginMetrics(self._shared.registry, self.config.id))
        await instance.open(context._replace(state=self._control.state) if prepared.plugin.uses_state else context)
        seconds = self._shared.registry.histogram(DURATION, subscriber=self.config.id)
        runner = Runner(
            prepared,
            instance,
            self._shared.dead_letters,
            self._counters,
            on_fatal,
            self._log,
            handler_seconds=seconds,
            current=self._shared.current,
        )
        runner.start()
        return runner

    async def _close(self, runner: Runner) -> None:
        if self._thread is None or self._thread.blocked_seconds() > self._drain_seconds:
            return  # a blocked thread does not respond
        try:
            await self._thread.run(runner.close(self._drain_seconds), self._drain_seconds + 2)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            self._log.warning("close failed: %s: %s", type(error).__name__, error, extra={"action": "subscriber_close_failed"})

    async def _deliver(self, prepared: SubscriberPlan, runner: Runner, fatal: "asyncio.Future[None]") -> None:
        """Run one consumer after another until `fatal` is set."""
        selection = Selection(prepared.plugin, prepared.settings, prepared.filter)
        delay = 0.2
        while True:
            feed = self._feed = self._new_feed(prepared, runner, selection)
            feeding = ServiceTasks(f"subscriber {self.config.id}", no_log)
            watching = ServiceTasks(f"subscriber {self.config.id}", partial(_settle, fatal))
            reading = feeding.start(feed.run(), f"{self.config.id} feed")
            watching.start(self._watch(feed), f"{self.config.id} watch")
            watching.start(self._control.until_paused(), f"{self.config.id} pause")
            try:
                await asyncio.wait({reading, fatal}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                joined = feed.joined.is_set()
                feed.ending = True
                watching.request_cancel()
                await feeding.cancel()
                await watching.cancel()
            if fatal.done():
                fatal.result()
            error = None if reading.cancelled() else reading.exception()
            self.lifecycle.enter("reconnecting", error or Disconnected("the consumer ended"))
            if error is not None and not isinstance(error, Disconnected):
                self._log.error("unexpected error while reading events", exc_info=error, extra={"action": "feed_failed"})
            self._reconnects += 1
            delay = 0.2 if joined else min(RECONNECT_MAX_SECONDS, delay * 2)
            await asyncio.sleep(delay)

    async def _watch(self, feed: Feed) -> None:
        while not feed.joined.is_set():
            self.lifecycle.join(topic_exists=feed.topic_exists)
            await set_within(feed.joined, 1.0)
        self.lifecycle.run()

    def _new_feed(self, prepared: SubscriberPlan, runner: Runner, selection: Selection) -> Feed:
        async def drain(session: Session) -> None:
            thread = self._thread
            if thread is None:
                return
            thread.blocked_seconds()  # starts the measurement for `_close`
            try:
                await thread.run(runner.drain(session, self._drain_seconds), 2 * self._drain_seconds + 1)
            except TimeoutError:
                self._log.warning("drain timed out; in-flight events will be redelivered", extra={"action": "drain_timed_out"})
            finally:
                session.revoked = True

        return Feed(
            self._clients.consumer(self.config.group),
            self._topic,
            self._counters,
            new_reader=partial(AssignmentReader, self._clients.cluster, self._topic, selection),
            hand_over=runner.feed,
            drain=drain,
            limits=(prepared.delivery.in_flight_max, prepared.delivery.in_flight_bytes_max),
            start_from=self.config.start_from,
            logger=self._log,
            on_commit=self._note_commit,
        )

    def _note_commit(self) -> None:
        if self._shared.current is not None and self._counters.delivered:
            self._shared.current.note_commit()


def _settle(fatal: "asyncio.Future[None]", error: BaseException) -> None:
    """Set the error that ends the subscriber's present run."""
    if not fatal.done():
        fatal.set_exception(error)
        fatal.exception()  # a subscriber that ends already does not ask for it; asyncio would log that
