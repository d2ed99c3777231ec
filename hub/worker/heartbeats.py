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
                self._on_failed(error)
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
        acknowledged = dict.fromkeys(range(self._partitions), loop.time())
        lost: set[int] = set()
        while not self._stopping:
            looked_at = loop.time()
            try:
                async with asyncio.timeout(max(0.0, min(next_beat - looked_at, interval))):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if loop.time() >= next_beat:
                self._wanted |= set(range(self._partitions))
            self._wake.clear()
            if self._stopping:
                return
            was_stopped = loop.time() - looked_at > interval + 1
            if was_stopped:  # Others may have been, too: the engine will say whose leases are over.
                acknowledged = dict.fromkeys(acknowledged, loop.time())
            partitions, self._wanted = self._wanted, set()
            if len(partitions) == self._partitions:
                next_beat = loop.time() + interval
            give_up = self._lease_seconds * GIVE_UP_SHARE
            ends = [since + give_up for partition, since in acknowledged.items() if partition not in lost]
            patience = max(0.05, min([interval, *(end - loop.time() for end in ends)]))
            failed = await self._send_all(sender, sorted(partitions), patience)
            for partition in partitions - failed:
                acknowledged[partition] = loop.time()
                lost.discard(partition)
            if failed:
                self._wanted |= failed
                await asyncio.sleep(min(0.1, interval))
                self._wake.set()
            for partition, since in acknowledged.items():
                if partition not in lost and loop.time() - since >= give_up:
                    lost.add(partition)
                    self._on_lease_lost(partition)

    async def _send_all(self, sender: Sender, partitions: list[int], patience: float) -> set[int]:
        """A heartbeat to each, side by side; those that did not get theirs."""
        try:
            for outgoing in self._before():
                await sender.send(outgoing, timeout_seconds=patience)
        except HubError as error:
            log.warning("starts not announced", action="heartbeat_failed", reason=str(error))
        loop = asyncio.get_running_loop()
        beats = {
            loop.create_task(sender.send(self._beat(partition), timeout_seconds=patience)): partition for partition in partitions
        }
        failed = set()
        if beats:
            await asyncio.wait(beats)
        for beat, partition in beats.items():
            reason = beat.exception()
            if isinstance(reason, HubError):
                failed.add(partition)
                log.warning("heartbeat not acknowledged", action="heartbeat_failed", partition=partition, reason=str(reason))
            elif reason is not None:
                raise reason
        return failed
