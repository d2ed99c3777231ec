"""The worker: reads commands from its inbox, runs handlers in slots, reports their outcomes, renews leases, drains.

Data flows one way: inbox → desk → body → outcome → report on `hub.intake`. Only the engine decides what follows from an outcome.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

import uuid_utils

from schemas import reports as r

from ..errors import ConfigurationError
from ..kafka import Cluster, KafkaTransport, StoredRecord, Transport, commands_topic, inbox_of
from ..logs import Logger
from ..service import ServiceTasks
from .commands import CommandReader
from .desk import Desk
from .ending import Ending
from .figures import WorkerFigures
from .heartbeats import DeskHeartbeats, Heartbeats, LeaseKeeper, LoopHeartbeats
from .inbox import Inbox
from .registry import TaskRegistry
from .reporting import STARTED_LINGER_SECONDS
from .reports import ReportBuilder, Reports, WorkerIdentity
from .settings import WorkerSettings
from .tracing import begin_export, flush_export

log = Logger(__name__)

#: Time for posted reports to be stored when the worker stops (seconds).
FLUSH_SECONDS = 5.0


class Worker:
    """One incarnation of a worker. Use `await worker.run()`, or `start`, `watch` and `stop`.

    `bootstrap`: addresses of brokers, or a `Cluster`. `registry`: its tasks are registered with the engine, also those added
    later. `transport` replaces the connection to `bootstrap`; with a local one, heartbeats are sent from the worker's event loop
    and starts are reported immediately. `make_reports` creates a sender of reports; it is called for the event loop and for the
    heartbeats (default: a sender of the transport). `clock`: the time in seconds.

    Raises ConfigurationError if the registry is empty or `slots` is less than 1."""

    def __init__(
        self,
        bootstrap: str | Cluster,
        registry: TaskRegistry,
        settings: WorkerSettings | None = None,
        *,
        transport: Transport | None = None,
        make_reports: Callable[[], Reports] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or WorkerSettings()
        if not registry.names:
            raise ConfigurationError("The registry has no tasks: register some with @tasks.task(...) before the worker starts.")
        if self.settings.slots < 1:
            raise ConfigurationError(f"slots must be at least 1, got {self.settings.slots}.")
        self.incarnation = str(uuid_utils.uuid7())
        self._transport = transport or KafkaTransport(Cluster.of(bootstrap))
        self._clock = clock
        self._registry = registry
        client_id = f"hub-worker-{os.getpid()}"
        self._make_reports = make_reports or partial(self._transport.sender, client_id=client_id)
        self._reports = self._make_reports()
        self._inbox = Inbox(self._transport, commands_topic(self.settings.pool), self.inbox, client_id=client_id)
        self._commands = CommandReader(self.incarnation, WorkerFigures())
        self._desk: Desk | None = None
        self._heartbeats: Heartbeats | LoopHeartbeats | None = None
        self._registered = False
        self._stopped = False
        self._ending = Ending()
        self._services = ServiceTasks("the worker", self._ending.fail)

    async def run(self, *, handle_signals: bool = True) -> None:
        """Start, run until the end is requested (by SIGTERM or SIGINT), drain. A second signal ends the process immediately.

        Raises HubError if it cannot start, WorkerFailedError if it cannot continue."""
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
        try:
            await self.start()
            await self.watch()
        finally:
            await self.stop()

    def _on_signal(self) -> None:
        if self._ending.asked_for:
            os._exit(1)
        self._ending.ask()

    async def start(self) -> None:
        """Connect, find the end of the inbox, and register with every engine partition. Raises HubError."""
        begin_export(self.settings.span_export)
        self._commands.partitions = await self._transport.describe_partitions()
        await self._transport.ensure_pool(self.settings.pool)
        await self._reports.start()
        await self._inbox.open()
        identity = WorkerIdentity(self.incarnation, self.inbox, self.settings)
        self._desk = desk = self._new_desk(identity)
        self._heartbeats = self._new_heartbeats(identity, desk)
        await self._heartbeats.start()
        self._registered = True
        await desk.reporting.register(self.partitions)
        self._services.keep(self._inbox.read(partial(self._take, desk)), "inbox")
        self._services.keep(desk.keep_time(), "desk clock")
        self._services.keep(desk.keep_registered(), "registry")
        self._services.keep(self._reports.watch(), "reports")
        log.info("worker started", action="worker_started", incarnation=self.incarnation, tasks=self._registry.names)

    def _new_desk(self, identity: WorkerIdentity) -> Desk:
        return Desk(
            identity,
            self._registry,
            self.settings,
            self._reports,
            partitions=self.partitions,
            beat_soon=self._beat_soon,
            on_failed=self._ending.fail,
            clock=self._clock,
            linger_seconds=0.0 if self._transport.local else STARTED_LINGER_SECONDS,
            figures=self.figures,
        )

    def _new_heartbeats(self, identity: WorkerIdentity, desk: Desk) -> Heartbeats | LoopHeartbeats:
        keeper = LeaseKeeper(
            self._make_reports(),
            DeskHeartbeats(desk.slots, ReportBuilder(identity, "h"), self._clock),
            partitions=self.partitions,
            lease_seconds=self.settings.lease_seconds,
            on_lease_lost=partial(desk.calls.call, desk.lease_lost),
            figures=self.figures,
        )
        on_failed = partial(desk.calls.call, self._ending.fail)
        return LoopHeartbeats(keeper, on_failed) if self._transport.local else Heartbeats(keeper, on_failed)

    def _beat_soon(self, partitions: Sequence[int]) -> None:
        if self._heartbeats is not None:
            self._heartbeats.soon(partitions)

    async def _take(self, desk: Desk, records: Sequence[StoredRecord]) -> None:
        read = self._commands.read
        await desk.take(*[command for record in records if (command := read(record)) is not None])

    async def watch(self) -> None:
        """Wait until the end is requested. Raises WorkerFailedError if the worker cannot continue."""
        await self._ending.wait()

    async def stop(self) -> None:
        """Drain and disconnect: accept no more attempts, release waiting ones, let running ones end within the grace time, and
        report all of them. May also be called after a `start` that failed."""
        if self._stopped:
            return
        self._stopped = True
        self._ending.ask()
        try:
            if self._registered and self._desk is not None:
                await self._drain(self._desk)
        finally:
            await self._disconnect()
        ended = {field: count for field, count in self.stats().items() if field in ("done", "failed")}
        log.info("worker stopped", action="worker_stopped", incarnation=self.incarnation, **ended)

    async def _drain(self, desk: Desk) -> None:
        await desk.drain()
        await self._services.cancel()
        await self._reports.flush(timeout_seconds=FLUSH_SECONDS)
        await self._end_heartbeats()
        await desk.reporting.leave(r.WorkerStopped, self.partitions)

    async def _disconnect(self) -> None:
        await self._services.cancel()
        await self._end_heartbeats()
        await self._inbox.close()
        await self._reports.stop()
        if self._desk is not None:
            self._desk.close()
        await flush_export(self.settings.span_export)

    async def _end_heartbeats(self) -> None:
        if self._heartbeats is not None:
            await self._heartbeats.stop()

    @property
    def inbox(self) -> int:
        """The partition of `hub.commands.<pool>` that this worker reads."""
        return inbox_of(self.incarnation)

    @property
    def partitions(self) -> int:
        """The number of engine partitions of the hub; 0 before `start`."""
        return self._commands.partitions

    @property
    def busy_threads(self) -> int:
        """The number of plain functions in threads, including those whose attempt has ended."""
        return 0 if self._desk is None else self._desk.bodies.busy_threads

    @property
    def connected(self) -> bool:
        """Whether the worker receives commands: its inbox is connected."""
        return self._inbox.connected

    @property
    def lost_partitions(self) -> list[int]:
        """The engine partitions that did not accept heartbeats in time; attempts of theirs were stopped."""
        return [] if self._heartbeats is None else self._heartbeats.lost

    @property
    def figures(self) -> WorkerFigures:
        """What the worker counts."""
        return self._commands.figures

    def stats(self) -> dict[str, int]:
        """Counters of this incarnation: slots, attempts by state and by outcome, malformed commands."""
        desk = {} if self._desk is None else self._desk.stats()
        return {"slots": self.settings.slots, **desk, "malformed": self._commands.malformed}
