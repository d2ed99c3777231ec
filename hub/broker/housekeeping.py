"""Keeps the disk and the memory from filling: runs retention, compaction and expiry beside the traffic.

Two tasks: one deletes what is too old or too much (and forgets who is long gone), one compacts. Both look after every
checkpoint, since logs grow on disk only then; when something was deleted by a client; and at intervals for what merely gets
old. What they do on the loop is short; compaction works in a thread that rests most of the time (`Pace`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import chain

from ..service import ServiceTasks
from .broker import Broker
from .compactor import Compactor
from .flushing import Flusher
from .log import PartitionLog
from .retention import retained_from
from .storage import Storage

logger = logging.getLogger(__name__)

LOGS_AT_ONCE = 64
"""Logs that are looked at before other tasks get their turn."""
QUIET_SECONDS = 0.25
"""Shortest time between two rounds: checkpoints may come more often."""
FAILURE_PAUSE_SECONDS = 60.0
"""After a round failed."""


class Housekeeper:
    """See the module. `on_fatal` is called with what ends one of its tasks: nothing would be freed any more."""

    def __init__(self, broker: Broker, storage: Storage, flusher: Flusher, on_fatal: Callable[[BaseException], None]) -> None:
        self._broker = broker
        self._state = broker.state
        self._storage = storage
        self._flusher = flusher
        self._wake: list[asyncio.Event] = []
        self._tasks = ServiceTasks("the broker", on_fatal)
        self._expired_at = self._state.clock.monotonic()
        self._compactor = Compactor(broker, storage, flusher)

    def start(self) -> None:
        """Begin."""
        self._flusher.on_checkpoint = self._state.topics.on_space_freed = self.look
        self._begin("retention", self.retain)
        self._begin("compaction", self.compact)

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        wake = asyncio.Event()
        wake.set()
        self._wake.append(wake)
        self._tasks.keep(self._repeat(name, work, wake), f"broker-{name}")

    def look(self) -> None:
        """Something changed: the next round is due."""
        for wake in self._wake:
            wake.set()

    async def _repeat(self, name: str, work: Callable[[], Awaitable[None]], wake: asyncio.Event) -> None:
        while True:
            try:
                async with asyncio.timeout(self._state.settings.retention_check_seconds):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()
            try:
                await work()
            except Exception:
                logger.exception(
                    "%s failed: space is not freed; it will be tried again in %g s",
                    name,
                    FAILURE_PAUSE_SECONDS,
                    extra={"action": f"{name}_failed"},
                )
                await asyncio.sleep(FAILURE_PAUSE_SECONDS)
            await asyncio.sleep(QUIET_SECONDS)

    async def stop(self) -> None:
        """End; what is under way is given up."""
        self._compactor.give_up()
        await self._tasks.cancel()
        await self._compactor.stop()

    # --- compaction

    async def compact(self) -> None:
        """One round of compaction over all logs."""
        for number, log in enumerate(list(self._state.topics.logs())):
            if number % LOGS_AT_ONCE == LOGS_AT_ONCE - 1:
                await asyncio.sleep(0)
            if log.settings.compact:
                await self._compactor.clean(log)

    # --- retention and expiry

    async def retain(self) -> None:
        """One round of retention over all logs, and of expiry when it is due."""
        for number, log in enumerate(list(self._state.topics.logs())):
            if number % LOGS_AT_ONCE == LOGS_AT_ONCE - 1:
                await asyncio.sleep(0)
            if log.settings.delete and self._state.topics.hold(log):
                keep = self._retained_from(log)
                if keep > log.start:
                    self._state.topics.delete_records(log, keep)
        now = self._state.clock.monotonic()
        if now - self._expired_at >= self._state.settings.expiration_check_seconds:
            self._expired_at = now
            self._broker.expire()
        if self._storage.holds_before(self._state.topics.starts()):
            self._flusher.checkpoint_soon()

    def _retained_from(self, log: PartitionLog) -> int:
        """The plan for a log, over its segments and what is only in memory so far.

        Its sizes come from one look at the table of segments, which another thread changes: files that lie before the log's
        start may be there or not, and a segment that a checkpoint is adding to is left for the next round."""
        store = self._storage.segments
        views = [] if store is None else [view for view in store.views(log.key) if view.end > log.start]
        on_file = [view for view in views if view.end <= log.memory_start]
        in_memory = log.memory_views(log.settings.segment_bytes) if len(on_file) == len(views) else iter(())
        size = sum(view.size for view in on_file) + log.memory_bytes
        now_ms, limit = self._state.clock.now_ms(), log.visible_end(committed=True)
        parts = chain(on_file, in_memory)
        return retained_from(parts, size, log.settings, start=log.start, limit=limit, now_ms=now_ms)
