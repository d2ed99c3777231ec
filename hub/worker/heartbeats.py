"""Heartbeats, from a thread with an event loop and a producer of their own: a handler that blocks the worker's loop is not
mistaken for a dead worker, and a worker whose heartbeats do not arrive notices it before its leases end.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable

import structlog

from ..errors import HubError
from ..kafka import Outgoing, Sender

log = structlog.get_logger(__name__)

#: Heartbeats per lease: one may be lost, and still the lease holds.
BEATS_PER_LEASE = 3

#: When this share of a lease has passed without an acknowledged heartbeat, the worker stops what it can no longer renew.
GIVE_UP_SHARE = 0.85

START_SECONDS = 30.0
STOP_SECONDS = 5.0


class Heartbeats:
    """`beat(partition)` makes the heartbeat of a partition, `before()` what has to be said before one; both are called from the
    heartbeat thread, and `on_lease_lost` too."""

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        partitions: int,
        lease_seconds: float,
        beat: Callable[[int], Outgoing],
        before: Callable[[], list[Outgoing]],
        on_lease_lost: Callable[[], object],
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._partitions = partitions
        self._lease_seconds = lease_seconds
        self._beat = beat
        self._before = before
        self._on_lease_lost = on_lease_lost
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._wanted: set[int] = set()
        self._wake: asyncio.Event | None = None
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
        self._wanted |= partitions
        if self._wake is not None:
            self._wake.set()

    def stop(self) -> None:
        """No heartbeat is sent any more when this returns. Blocks: call in a thread."""
        self._stopping = True
        self.soon(())
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # Handed to whoever waits in `start`, else to the log.
            self._failure = error
            if self._started.is_set():
                log.exception("heartbeats ended", action="heartbeats_ended")
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        sender = Sender(self._bootstrap, client_id=self._client_id)
        await sender.start()
        self._started.set()
        try:
            await self._go(sender)
        finally:
            await sender.stop()

    async def _go(self, sender: Sender) -> None:
        assert self._wake is not None
        loop = asyncio.get_running_loop()
        interval = self._lease_seconds / BEATS_PER_LEASE
        next_beat = loop.time() + interval
        acknowledged_at = loop.time()
        lost = False
        while not self._stopping:
            looked_at = loop.time()
            try:
                async with asyncio.timeout(max(0.0, min(next_beat - looked_at, interval))):
                    await self._wake.wait()
            except TimeoutError:
                self._wanted |= set(range(self._partitions))
            self._wake.clear()
            if self._stopping:
                return
            if loop.time() - looked_at > interval + 1:
                acknowledged_at = loop.time()  # The process itself was stopped: others may have been, too. The engine will say.
            partitions, self._wanted = self._wanted, set()
            if len(partitions) == self._partitions:
                next_beat = loop.time() + interval
            left = acknowledged_at + self._lease_seconds * GIVE_UP_SHARE - loop.time()
            patience = max(0.05, min(interval, left)) if not lost else interval
            try:
                for outgoing in self._before():
                    await sender.send(outgoing, timeout_seconds=patience)
                for partition in sorted(partitions):
                    await sender.send(self._beat(partition), timeout_seconds=patience)
                acknowledged_at, lost = loop.time(), False
            except HubError as error:
                log.warning("heartbeat not acknowledged", action="heartbeat_failed", reason=str(error))
                self._wanted |= partitions
                await asyncio.sleep(min(0.1, interval))
                self._wake.set()
            if not lost and loop.time() - acknowledged_at >= self._lease_seconds * GIVE_UP_SHARE:
                lost = True
                self._on_lease_lost()
