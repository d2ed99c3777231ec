"""Sends heartbeats from a thread with its own event loop and producer: a worker whose event loop is blocked by a handler does
not lose its leases, and a worker whose heartbeats are not acknowledged stops its attempts before its leases end.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from ..errors import HubError, cause_of
from ..kafka import Outgoing
from ..logs import Logger, OutageLog
from ..service import ServiceTasks, set_within
from .figures import WorkerFigures
from .reports import ReportBuilder, Reports
from .shared import Locked
from .slots import Slots
from .threads import LoopThread

log = Logger(__name__)

#: Heartbeats per lease: a lease survives the loss of one.
BEATS_PER_LEASE = 3

#: The share of a lease after which, without an acknowledged heartbeat, the worker stops its attempts.
GIVE_UP_SHARE = 0.85

#: Number of checks of the leases between that time and their end.
LOOKS = 3

#: Delay after which a heartbeat that was not acknowledged is sent again (seconds).
AGAIN_SECONDS = 0.1

#: A start that was not reported for this time (seconds) indicates that the worker's event loop is blocked.
BLOCKED_SECONDS = 0.2

STOP_SECONDS = 5.0


class HeartbeatSource(Protocol):
    """Creates the records that are sent; used from the heartbeat thread only."""

    def overdue(self) -> Sequence[Outgoing]:
        """The reports to be sent before the next heartbeat."""

    def heartbeat(self, partition: int) -> Outgoing:
        """The current heartbeat for a partition."""


class DeskHeartbeats:
    """The heartbeats of a desk, and the starts of bodies that its blocked event loop could not report: without them, the engine
    would treat their commands as not started."""

    def __init__(self, desk: Locked[Slots], builder: ReportBuilder, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._builder = builder
        self._clock = clock

    def overdue(self) -> Sequence[Outgoing]:
        """See HeartbeatSource."""
        with self._desk as desk:
            blocked = desk.starts.claim_older(self._clock() - BLOCKED_SECONDS)
        if blocked:
            log.warning("a handler blocks the worker's event loop", action="worker_loop_blocked", attempts=len(blocked))
        return [self._builder.started(attempt) for attempt in blocked]

    def heartbeat(self, partition: int) -> Outgoing:
        """See HeartbeatSource."""
        with self._desk as desk:
            standing = desk.standing(partition)
        return self._builder.heartbeat(partition, standing)


class LeaseKeeper:
    """Sends heartbeats to all engine partitions and monitors the leases; calls `on_lease_lost` with the partition whose leases
    cannot be renewed. An unreachable leader affects only the leases of its partition. Use from one event loop."""

    def __init__(
        self,
        reports: Reports,
        source: HeartbeatSource,
        *,
        partitions: int,
        lease_seconds: float,
        on_lease_lost: Callable[[int], object],
        figures: WorkerFigures | None = None,
    ) -> None:
        self._reports = reports
        self._source = source
        self._partitions = range(partitions)
        self._lease_seconds = lease_seconds
        self._on_lease_lost = on_lease_lost
        self._wakes = [asyncio.Event() for _ in self._partitions]
        self._unsent: list[deque[Outgoing]] = [deque() for _ in self._partitions]
        self._renewed_at: dict[int, float] = {}
        self._lost: set[int] = set()
        self._outages = OutageLog(log, action="heartbeat_failed", over="heartbeats_acknowledged")
        self._stopping = False
        self._figures = figures or WorkerFigures()

    @property
    def lost(self) -> list[int]:
        """The partitions whose leases could not be renewed in time. Other threads may read it."""
        return sorted(self._lost)

    def soon(self, partitions: Iterable[int]) -> None:
        """Send a heartbeat to these partitions now."""
        for partition in partitions:
            if partition in self._partitions:
                self._wakes[partition].set()

    def stop(self) -> None:
        """Request `run` to return."""
        self._stopping = True
        self.soon(self._partitions)

    async def run(self, on_ready: Callable[[], object] = lambda: None) -> None:
        """Connect (`on_ready`), then send heartbeats until `stop`. Raises HubError when it cannot connect, and an ExceptionGroup
        with the unexpected error after which no heartbeat can be sent any more."""
        try:
            await self._reports.start()
            self._renewed_at = dict.fromkeys(self._partitions, asyncio.get_running_loop().time())
            on_ready()
            async with asyncio.TaskGroup() as group:
                keepers = [group.create_task(self._keep(partition)) for partition in self._partitions]
                others = [group.create_task(work) for work in (self._watch(), self._reports.watch())]
                await asyncio.wait(keepers)
                for other in others:
                    other.cancel()
        finally:
            await self._reports.stop()

    async def _keep(self, partition: int) -> None:
        """Send heartbeats to one partition, when they are due or requested."""
        loop, wake = asyncio.get_running_loop(), self._wakes[partition]
        interval = self._lease_seconds / BEATS_PER_LEASE
        next_beat = loop.time() + interval
        while not self._stopping:
            await set_within(wake, next_beat - loop.time())
            wake.clear()
            if self._stopping:
                return
            began_at = loop.time()
            if await self._beat(partition, interval):
                self._renewed_at[partition] = began_at
                self._lost.discard(partition)
                next_beat = began_at + interval
            else:
                next_beat = loop.time() + min(AGAIN_SECONDS, interval)

    async def _beat(self, partition: int, patience: float) -> bool:
        """Send the overdue reports, then a heartbeat. Returns whether all were acknowledged; if not, the remaining reports are
        sent before the next heartbeat."""
        for outgoing in self._source.overdue():
            self._unsent[outgoing.partition].append(outgoing)
            if outgoing.partition != partition:
                self._wakes[outgoing.partition].set()
        unsent = self._unsent[partition]
        try:
            while unsent:
                await self._reports.send(unsent[0], timeout_seconds=patience)
                unsent.popleft()
            await self._reports.send(self._source.heartbeat(partition), timeout_seconds=patience)
        except HubError as error:
            about = {"partition": partition, "reason": str(error)}
            self._outages.failed(partition, cause_of(error), "heartbeat not acknowledged", **about)
            return False
        self._outages.works(partition)
        self._figures.heartbeats += 1
        return True

    async def _watch(self) -> None:
        """Detect leases that cannot be renewed, independently of pending heartbeats."""
        loop = asyncio.get_running_loop()
        interval, give_up = self._lease_seconds / BEATS_PER_LEASE, self._lease_seconds * GIVE_UP_SHARE
        while True:
            looked_at = loop.time()
            await asyncio.sleep((self._lease_seconds - give_up) / LOOKS)
            now = loop.time()
            if now - looked_at > interval + 1:  # This process was suspended, perhaps others too: the engine decides.
                self._renewed_at = dict.fromkeys(self._renewed_at, now)
            for partition, renewed_at in self._renewed_at.items():
                if partition not in self._lost and now - renewed_at >= give_up:
                    self._lost.add(partition)
                    self._on_lease_lost(partition)


class Heartbeats:
    """A `LeaseKeeper` in its own thread. Use from one event loop; `on_failed` is called in the thread."""

    def __init__(self, keeper: LeaseKeeper, on_failed: Callable[[BaseException], object]) -> None:
        self._keeper = keeper
        self._on_failed = on_failed
        self._thread = LoopThread(keeper.run, self._over, name="heartbeats")

    @property
    def lost(self) -> list[int]:
        """See `LeaseKeeper.lost`."""
        return self._keeper.lost

    async def start(self) -> None:
        """Returns when the first heartbeat can be sent. Raises HubError if the broker is unreachable."""
        await self._thread.start()

    def soon(self, partitions: Iterable[int]) -> None:
        """Send a heartbeat to these partitions now."""
        self._thread.call(self._keeper.soon, partitions)

    async def stop(self) -> None:
        """Stop sending heartbeats. May be called without `start`."""
        self._thread.call(self._keeper.stop)
        await self._thread.join(STOP_SECONDS)

    def _over(self, error: BaseException | None) -> None:
        if error is not None:
            log.error("heartbeats ended", action="heartbeats_ended", reason=repr(error), exc_info=error)
            self._on_failed(error)


class LoopHeartbeats:
    """A `LeaseKeeper` on the caller's event loop, for a local transport. `on_failed` is called with the error that ends it."""

    def __init__(self, keeper: LeaseKeeper, on_failed: Callable[[BaseException], object]) -> None:
        self._keeper = keeper
        self._tasks = ServiceTasks("the worker", on_failed)

    @property
    def lost(self) -> list[int]:
        """See `LeaseKeeper.lost`."""
        return self._keeper.lost

    async def start(self) -> None:
        """Returns when the first heartbeat can be sent. Raises HubError if the broker is unreachable."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        running = self._tasks.start(self._keeper.run(partial(ready.set_result, None)), "heartbeats")
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            running.result()

    def soon(self, partitions: Iterable[int]) -> None:
        """Send a heartbeat to these partitions now."""
        self._keeper.soon(partitions)

    async def stop(self) -> None:
        """Stop sending heartbeats. May be called without `start`."""
        self._keeper.stop()
        await self._tasks.wait(STOP_SECONDS)
