"""A desk at work: commands go to `Slots`, and what it decides is carried out. It has no inbox, no connection and no heartbeats of
its own; `worker.py` gives it those."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from schemas import reports as r

from ..errors import HubError
from ..logs import Logger
from ..service import ServiceTasks
from .bodies import Bodies
from .effects import (
    BeatSoon,
    BeginBody,
    Command,
    Effect,
    GiveUp,
    GrantBody,
    ImmediateEffect,
    ReportCancelled,
    ReportReleased,
    ReportStanding,
    StopBody,
)
from .registry import TaskRegistry
from .reporting import STARTED_LINGER_SECONDS, Reporting
from .reports import ReportBuilder, Reports, WorkerIdentity
from .settings import WorkerFailedError, WorkerSettings
from .shared import Locked, LoopCalls
from .slots import HOLD_SECONDS, Slots
from .threads import DaemonThreads

log = Logger(__name__)

#: With one engine partition nothing waits for a time but the end of a worker whose slots all hang (seconds).
IDLE_TICK_SECONDS = 1.0

#: What was registered while the broker did not answer is reported again after this time (seconds).
REGISTER_AGAIN_SECONDS = 1.0

#: How long bodies may take to end after they were stopped (seconds).
STOP_SECONDS = 5.0


class Desk:
    """The attempts of one worker and their bodies. Use from one event loop; only `slots` is shared with other threads.

    `beat_soon` is given the partitions whose credit changed, `on_failed` what keeps the worker from continuing. A body that is
    over within `linger_seconds` is not announced."""

    def __init__(
        self,
        identity: WorkerIdentity,
        registry: TaskRegistry,
        settings: WorkerSettings,
        reports: Reports,
        *,
        partitions: int,
        beat_soon: Callable[[Sequence[int]], object],
        on_failed: Callable[[BaseException], object],
        clock: Callable[[], float] = time.monotonic,
        linger_seconds: float = STARTED_LINGER_SECONDS,
    ) -> None:
        self._incarnation = identity.incarnation
        self._settings = settings
        self._partitions = partitions
        self._beat_soon = beat_soon
        self._on_failed = on_failed
        self._clock = clock
        self._threads = DaemonThreads(settings.slots, name="task")
        self._tasks = ServiceTasks("the worker", on_failed)
        self._registry = registry
        registration = registry.registration
        self._announced = registration.revision
        self.slots = Locked(Slots(settings.slots, partitions, grace_seconds=settings.grace_seconds, registration=registration))
        self.calls = LoopCalls(asyncio.get_running_loop())
        self.reporting = Reporting(reports, ReportBuilder(identity), self.slots, self._tasks, self.calls, linger_seconds)
        self.bodies = Bodies(
            registry, self.slots, self.reporting, self._tasks, self._threads, self.calls, self._carry_out_now, clock
        )

    async def take(self, command: Command) -> None:
        """Do what a command asks for."""
        with self.slots as slots:
            effects = slots.take(command, self._clock())
        if effects:
            await self._carry_out(effects)

    async def keep_time(self) -> None:
        """Do what follows from the time; never returns."""
        seconds = HOLD_SECONDS / 2 if self._partitions > 1 else IDLE_TICK_SECONDS
        while True:
            await asyncio.sleep(seconds)
            await self.tick()

    async def tick(self) -> None:
        """Do what follows from the time now."""
        with self.slots as slots:
            effects = slots.tick(self._clock())
        await self._carry_out(effects)

    async def keep_registered(self) -> None:
        """Report what is registered while the worker runs; never returns."""
        changed = asyncio.Event()
        with self._registry.watched(partial(self.calls.call, changed.set)):
            while True:
                changed.clear()
                if await self._register():
                    await changed.wait()
                else:
                    await asyncio.sleep(REGISTER_AGAIN_SECONDS)

    async def _register(self) -> bool:
        """Report what is registered now, if that was not reported yet; whether it is stored."""
        registration = self._registry.registration
        if registration.revision == self._announced:
            return True
        with self.slots as slots:
            slots.registered.change(registration)
        try:
            await self.reporting.register(self._partitions)
        except HubError as error:
            about = {"report": "WorkerRegistered", "reason": str(error)}
            log.warning("worker status report not delivered", action="worker_report_failed", **about)
            return False
        self._announced = registration.revision
        return True

    def lease_lost(self, partition: int) -> None:
        """The leases of a partition cannot be renewed."""
        with self.slots as slots:
            effects = slots.lease_lost(partition)
        level = logging.ERROR if effects else logging.DEBUG  # where nothing ran, nothing is lost
        about = {"incarnation": self._incarnation, "partition": partition, "attempts": len(effects)}
        log.log(level, "leases lost", action="worker_leases_lost", **about)
        self._carry_out_now(effects)

    async def drain(self) -> None:
        """Begin nothing more, hand back what waits, let end what runs within the grace time, then stop it."""
        with self.slots as slots:
            released = slots.drain()
        await self.reporting.leave(r.WorkerDraining, self._partitions)
        await self._carry_out(released)
        await self._tasks.wait(self._settings.grace_seconds)
        with self.slots as slots:
            stopped = slots.stop()
        self._carry_out_now(stopped)
        await self._tasks.wait(STOP_SECONDS)

    def close(self) -> None:
        """End the threads that are idle; those that run end with what they run."""
        self._threads.shutdown(wait=False)

    def stats(self) -> dict[str, int]:
        """What the desk has in hand, and has done."""
        with self.slots as slots:
            now = {"running": slots.running, "waiting": slots.waiting}
        ends = self.reporting
        return now | {"done": ends.done, "failed": ends.failed, "cancelled": ends.cancelled, "released": ends.released}

    async def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case BeginBody(attempt):  # nearly all of them
                    self.bodies.begin(attempt)
                case ReportReleased(attempt, reason):
                    await self.reporting.release(attempt, reason)
                case ReportCancelled(attempt):
                    await self.reporting.cancel(attempt)
                case ReportStanding(partition, standing):
                    await self.reporting.heartbeat(partition, standing)
                case _:
                    self._carry_out_now((effect,))

    def _carry_out_now(self, effects: Iterable[ImmediateEffect]) -> None:
        for effect in effects:
            match effect:
                case BeginBody(attempt):
                    self.bodies.begin(attempt)
                case StopBody(attempt, reason):
                    self.bodies.stop(attempt, reason)
                case GrantBody(attempt):
                    self.bodies.grant(attempt)
                case BeatSoon(partitions):
                    self._beat_soon(partitions)
                case GiveUp():
                    self._give_up()

    def _give_up(self) -> None:
        slots, grace = self._settings.slots, self._settings.grace_seconds
        about = {"slots": slots, "grace_seconds": grace}
        log.error("all slots are held by hung functions; shutting down", action="worker_exhausted", **about)
        self._on_failed(
            WorkerFailedError(
                f"Every one of {slots} slots is held by a function that did not end after its timeout. "
                "The worker ends, since threads cannot be ended; let such functions look at ctx.cancelled."
            )
        )
