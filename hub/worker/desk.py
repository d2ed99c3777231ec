"""Runs a desk: passes commands and times to `Slots` and executes the resulting effects. Inbox, connection and heartbeats belong
to `worker.py`."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from schemas import reports as r

from ..errors import HubError
from ..logs import Logger
from ..service import ServiceTasks, set_within
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
from .figures import WorkerFigures
from .registry import TaskRegistry
from .reporting import STARTED_LINGER_SECONDS, Reporting
from .reports import ReportBuilder, Reports, WorkerIdentity
from .settings import WorkerFailedError, WorkerSettings
from .shared import Locked, LoopCalls
from .slots import HOLD_SECONDS, Slots
from .threads import DaemonThreads

log = Logger(__name__)

#: Interval of `tick` while no attempt waits for a slot (seconds): only the check for hung slots depends on time then.
IDLE_TICK_SECONDS = 1.0

#: Delay before a registration that could not be reported is sent again (seconds).
REGISTER_AGAIN_SECONDS = 1.0

#: Time for bodies to end after they were requested to stop (seconds).
STOP_SECONDS = 5.0


class Desk:
    """The attempts of one worker and their bodies. Use from one event loop; only `slots` is shared with other threads.

    `beat_soon` is called with the partitions whose credit changed, `on_failed` with the error that ends the worker. The start of
    a body that ends within `linger_seconds` is not reported separately. `figures` are written by the desk."""

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
        figures: WorkerFigures | None = None,
    ) -> None:
        self._figures = figures or WorkerFigures()
        self._incarnation = identity.incarnation
        self._settings = settings
        self._partitions = partitions
        self._beat_soon = beat_soon
        self._on_failed = on_failed
        self._clock = clock
        self._tasks = ServiceTasks("the worker", on_failed)
        self._registry = registry
        registration = registry.registration
        self._announced = registration.revision
        self.slots = Locked(Slots(settings.slots, partitions, grace_seconds=settings.grace_seconds, registration=registration))
        self._contended = asyncio.Event()
        self.calls = LoopCalls(asyncio.get_running_loop())
        self.reporting = Reporting(reports, ReportBuilder(identity), self.slots, self._tasks, self.calls, linger_seconds)
        self.bodies = Bodies(
            registry,
            self.slots,
            self.reporting,
            self._tasks,
            DaemonThreads(settings.slots, name="task"),
            self.calls,
            self._carry_out_now,
            clock,
            self._figures,
        )

    async def take(self, *commands: Command) -> None:
        """Execute commands."""
        now = self._clock()
        with self.slots as slots:
            effects = [effect for command in commands for effect in slots.take(command, now)]
            if slots.is_contended:
                self._contended.set()
        if effects:
            await self._carry_out(effects)

    async def keep_time(self) -> None:
        """Call `tick` at regular intervals, short ones while the slots are contended; does not return."""
        while True:
            with self.slots as slots:
                contended = slots.is_contended
            seconds = HOLD_SECONDS / 2 if contended else IDLE_TICK_SECONDS
            due = time.perf_counter() + seconds
            if contended:
                await asyncio.sleep(seconds)
            else:
                self._contended.clear()
                if await set_within(self._contended, seconds):
                    continue
            self._figures.loop_delay_seconds = max(0.0, time.perf_counter() - due)
            await self.tick()

    async def tick(self) -> None:
        """Execute what is due by the current time."""
        with self.slots as slots:
            effects = slots.tick(self._clock())
        await self._carry_out(effects)

    async def keep_registered(self) -> None:
        """Report changes of the registry while the worker runs; does not return."""
        changed = asyncio.Event()
        with self._registry.watched(partial(self.calls.call, changed.set)):
            while True:
                changed.clear()
                if await self._register():
                    await changed.wait()
                else:
                    await asyncio.sleep(REGISTER_AGAIN_SECONDS)

    async def _register(self) -> bool:
        """Report the current registration unless it was reported already. Returns whether it is stored."""
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
        """Stop the attempts of a partition whose leases cannot be renewed."""
        with self.slots as slots:
            effects = slots.lease_lost(partition)
        self._figures.leases_lost += len(effects)
        level = logging.ERROR if effects else logging.DEBUG  # without running attempts nothing is lost
        about = {"incarnation": self._incarnation, "partition": partition, "attempts": len(effects)}
        log.log(level, "leases lost", action="worker_leases_lost", **about)
        self._carry_out_now(effects)

    async def drain(self) -> None:
        """Begin no more attempts, release waiting ones, let running ones end within the grace time, then stop them."""
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
        """End idle threads; busy ones end when their function returns."""
        self.bodies.close()

    def stats(self) -> dict[str, int]:
        """Numbers of attempts by state (running, waiting) and by outcome (done, failed, cancelled, released)."""
        with self.slots as slots:
            now = {"running": slots.running, "waiting": slots.waiting}
        ends = self.reporting
        return now | {"done": ends.done, "failed": ends.failed, "cancelled": ends.cancelled, "released": ends.released}

    async def _carry_out(self, effects: Iterable[Effect]) -> None:
        """Reports, which may have to wait, are sent last: a body that is to begin must not be stopped before it has begun."""
        reports = [effect for effect in effects if not self._carry_out_one(effect)]
        for report in reports:
            match report:
                case ReportReleased(attempt, reason):
                    await self.reporting.release(attempt, reason)
                case ReportCancelled(attempt):
                    await self.reporting.cancel(attempt)
                case ReportStanding(partition, standing):
                    await self.reporting.heartbeat(partition, standing)

    def _carry_out_now(self, effects: Iterable[ImmediateEffect]) -> None:
        for effect in effects:
            self._carry_out_one(effect)

    def _carry_out_one(self, effect: Effect) -> bool:
        """False for a report."""
        match effect:
            case BeginBody(attempt):  # nearly all of them
                self.bodies.begin(attempt)
            case StopBody(attempt, reason):
                self.bodies.stop(attempt, reason)
            case GrantBody(attempt):
                self.bodies.grant(attempt)
            case BeatSoon(partitions):
                self._beat_soon(partitions)
            case GiveUp():
                self._give_up()
            case _:
                return False
        return True

    def _give_up(self) -> None:
        slots, grace = self._settings.slots, self._settings.grace_seconds
        about = {"slots": slots, "grace_seconds": grace}
        log.error("all slots are held by hung functions; shutting down", action="worker_exhausted", **about)
        self._on_failed(
            WorkerFailedError(
                f"All {slots} slots are held by functions that did not end after their timeout. "
                "The worker ends, because threads cannot be stopped; check ctx.cancelled in these functions."
            )
        )
