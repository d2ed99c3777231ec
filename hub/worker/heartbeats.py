"""Heartbeats, from a thread with an event loop and a producer of their own: a handler that blocks the worker's loop is not
mistaken for a dead worker, and a worker whose heartbeats do not arrive notices it before its leases end.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from ..errors import HubError, cause_of
from ..kafka import Outgoing, Sender
from ..telemetry import OutageLog

log = structlog.get_logger(__name__)

#: Heartbeats per lease: one may be lost, and still the lease holds.
BEATS_PER_LEASE = 3

#: When this share of a lease has passed without an acknowledged heartbeat, the worker stops what it can no longer renew.
GIVE_UP_SHARE = 0.85

#: So often the leases are looked at between that moment and their end.
LOOKS = 3

#: A heartbeat that did not arrive is sent again after this time (seconds).
AGAIN_SECONDS = 0.1

START_SECONDS = 30.0
STOP_SECONDS = 5.0


class Heartbeats:
    """`beat(partition)` makes the heartbeat of a partition, `before()` what has to be said before one; both are called from the
    heartbeat thread, and `on_lease_lost` (a partition) and `on_failed` too. Partitions are on their own: one whose leader is away
    costs the leases of that partition only."""

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        partitions: int,
        lease_seconds: float,
        beat: Callable[[int], Outgoing],
        before: Callable[[], list[Outgoing]],
        on_lease_lost: Callable[[int], object],
        on_failed: Callable[[BaseException], object],
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._partitions = partitions
        self._lease_seconds = lease_seconds
        self._beat = beat
        self._before = before
        self._on_lease_lost = on_lease_lost
        self._on_failed = on_failed
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._wakes: list[asyncio.Event] = []
        self._unsaid: list[deque[Outgoing]] = [deque() for _ in range(partitions)]
        self._renewed_at: dict[int, float] = {}
        self._lost: set[int] = set()
        self._outages = OutageLog(log, action="heartbeat_failed", over="heartbeats_acknowledged")
        self._stopping = False

    def start(self) -> None:
        """Begin to beat; returns when the producer is connected. Raises HubError when it cannot be. Blocks: call in a thread."""
        self._thread.start()
        self._started.wait(START_SECONDS)
        if self._failure is not None:
            raise self._failure

    def soon(self, partitions: Iterable[int]) -> None:
        """Send a heartbeat to these partitions now. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._want, set(partitions))

    def _want(self, partitions: set[int]) -> None:
        for partition in partitions:
            if partition < len(self._wakes):
                self._wakes[partition].set()

    def stop(self) -> None:
        """No heartbeat is sent any more when this returns, whether `start` was ever called. Blocks: call in a thread."""
        self._stopping = True
        self.soon(range(self._partitions))
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # Handed to whoever waits in `start`, else to the log.
            self._failure = error
            if self._started.is_set():
                log.exception("heartbeats ended", action="heartbeats_ended")
                self._on_failed(error)
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wakes = [asyncio.Event() for _ in range(self._partitions)]
        sender = Sender(self._bootstrap, client_id=self._client_id)
        await sender.start()
        self._renewed_at = dict.fromkeys(range(self._partitions), self._loop.time())
        self._started.set()
        try:
            await self._go(sender)
        finally:
            await sender.stop()

    async def _go(self, sender: Sender) -> None:
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(sender, partition)) for partition in range(self._partitions)]
            watch = group.create_task(self._watch())
            await asyncio.wait(keepers)
            watch.cancel()

    async def _keep(self, sender: Sender, partition: int) -> None:
        """A heartbeat to one partition whenever it is due or wanted."""
        loop, wake = asyncio.get_running_loop(), self._wakes[partition]
        interval = self._lease_seconds / BEATS_PER_LEASE
        next_beat = loop.time() + interval
        while not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_beat):
                    await wake.wait()
            wake.clear()
            if self._stopping:
                return
            began_at = loop.time()
            if await self._say(sender, partition, interval):
                self._renewed_at[partition] = began_at
                self._lost.discard(partition)
                next_beat = began_at + interval
            else:
                next_beat = loop.time() + min(AGAIN_SECONDS, interval)

    async def _say(self, sender: Sender, partition: int, patience: float) -> bool:
        """What has to be said first, then a heartbeat; whether all arrived. What did not is said with the next one."""
        for outgoing in self._before():
            self._unsaid[outgoing.partition].append(outgoing)
            if outgoing.partition != partition:
                self._wakes[outgoing.partition].set()
        unsaid = self._unsaid[partition]
        try:
            while unsaid:
                await sender.send(unsaid[0], timeout_seconds=patience)
                unsaid.popleft()
            await sender.send(self._beat(partition), timeout_seconds=patience)
        except HubError as error:
            about = {"partition": partition, "reason": str(error)}
            self._outages.failed(partition, cause_of(error), "heartbeat not acknowledged", **about)
            return False
        self._outages.works(partition)
        return True

    async def _watch(self) -> None:
        """Judge the leases, on time whatever a heartbeat waits for."""
        loop = asyncio.get_running_loop()
        interval, give_up = self._lease_seconds / BEATS_PER_LEASE, self._lease_seconds * GIVE_UP_SHARE
        while True:
            looked_at = loop.time()
            await asyncio.sleep((self._lease_seconds - give_up) / LOOKS)
            now = loop.time()
            if now - looked_at > interval + 1:  # The process itself was stopped. Others may have been, too: the engine will say.
                self._renewed_at = dict.fromkeys(self._renewed_at, now)
            for partition, renewed_at in self._renewed_at.items():
                if partition not in self._lost and now - renewed_at >= give_up:
                    self._lost.add(partition)
                    self._on_lease_lost(partition)
