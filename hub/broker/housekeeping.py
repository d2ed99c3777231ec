"""Bounds disk space and memory: runs retention, compaction and expiration in the background.

One task applies retention and expires producers, transactional ids and offsets; another task compacts. Both run after every
checkpoint (logs grow on disk only then), after a client deleted something, and at intervals. Their work on the event loop is
short; compaction runs in a thread that sleeps most of the time (`Pace`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import chain

from ..service import ServiceTasks, set_within
from .broker import Broker
from .compactor import Compactor
from .flushing import Flusher
from .log import PartitionLog
from .retention import retained_from
from .storage import Storage

logger = logging.getLogger(__name__)

LOGS_AT_ONCE = 64
"""Logs that are checked before control returns to the event loop."""
QUIET_SECONDS = 0.25
"""Shortest time between two rounds; checkpoints may be more frequent."""
FAILURE_PAUSE_SECONDS = 60.0
"""Pause after a failed round."""


class Housekeeper:
    """Runs the two tasks. `on_fatal` is called with the error that ends one of them, because no space would be freed any
    longer."""

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
        """Start both tasks. Compaction waits for the first checkpoint or interval: after a start, its thread would compete with
        the engine, which restores its rows."""
        self._flusher.on_checkpoint = self._state.topics.on_space_freed = self.look
        self._begin("retention", self.retain, at_once=True)
        self._begin("compaction", self.compact, at_once=False)

    def _begin(self, name: str, work: Callable[[], Awaitable[None]], *, at_once: bool) -> None:
        wake = asyncio.Event()
        if at_once:
            wake.set()
        self._wake.append(wake)
        self._tasks.keep(self._repeat(name, work, wake), f"broker-{name}")

    def look(self) -> None:
        """Request a round: something changed."""
        for wake in self._wake:
            wake.set()

    async def _repeat(self, name: str, work: Callable[[], Awaitable[None]], wake: asyncio.Event) -> None:
        while True:
            await set_within(wake, self._state.settings.retention_check_seconds)
            wake.clear()
            try:
                await work()
            except Exception:
                logger.exception(
                    "%s failed, no space was freed; retrying in %g s",
                    name,
                    FAILURE_PAUSE_SECONDS,
                    extra={"action": f"{name}_failed"},
                )
                await asyncio.sleep(FAILURE_PAUSE_SECONDS)
            await asyncio.sleep(QUIET_SECONDS)

    async def stop(self) -> None:
        """Stop both tasks; a running cleaning is aborted."""
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
        """The first offset that retention keeps of a log, given its segments and its batches in memory.

        The sizes come from one reading of the segment table, which another thread changes: files before the start of the log
        may or may not be listed, and a segment to which a checkpoint is appending is left for the next round."""
        store = self._storage.segments
        views = [] if store is None else [view for view in store.views(log.key) if view.end > log.start]
        on_file = [view for view in views if view.end <= log.memory_start]
        in_memory = log.memory_views(log.settings.segment_bytes) if len(on_file) == len(views) else iter(())
        size = sum(view.size for view in on_file) + log.memory_bytes
        now_ms, limit = self._state.clock.now_ms(), log.visible_end(committed=True)
        parts = chain(on_file, in_memory)
        return retained_from(parts, size, log.settings, start=log.start, limit=limit, now_ms=now_ms)
