"""Makes the core's changes durable: writes pending blocks and checkpoints, and keeps journal files prepared.

Group commit: changes that arrive while a block is written form the next block. A block is written on the event loop or in a
thread, see `WritePace`.

After a failed write or sync of the journal it is unknown what is on disk, so the process exits. It also exits if a background
task fails unexpectedly.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..service import ServiceTasks, set_within
from .broker import Broker
from .journal_thread import JournalThread, WritePace
from .pending import PendingBlock
from .storage import CheckpointPlan, Storage

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")

LAZY_FLUSH_SECONDS = 0.005
"""Longest time before data without a waiting client (inside transactions) is written."""
PENDING_BYTES_MAX = 4 << 20
MAINTENANCE_SECONDS = 1.0
"""Between two maintenances (journal files, free space) while something is written or the disk is full."""
IDLE_MAINTENANCE_SECONDS = 4.0
"""Added to it while nothing is written; the next write ends this wait."""


def end_process(error: BaseException) -> None:
    """Exit at once with code 70: the journal can no longer be trusted."""
    logger.critical(
        "the broker cannot store data and exits; see the error for the reason", exc_info=error, extra={"action": "journal_failed"}
    )
    os._exit(70)


class Flusher:
    """Writes blocks and checkpoints. `sync_seconds`: None syncs every block, 0 never syncs, otherwise the interval."""

    def __init__(
        self,
        broker: Broker,
        storage: Storage,
        *,
        sync_seconds: float | None,
        on_fatal: Callable[[BaseException], None] = end_process,
    ) -> None:
        self._broker = broker
        self._storage = storage
        self._sync_seconds = sync_seconds
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._writer = JournalThread(self._loop)
        self._background = ThreadPoolExecutor(1, "broker-files")
        self._scheduled: asyncio.Handle | None = None
        self._lazy: asyncio.TimerHandle | None = None
        self._writing = False
        self._checkpointing: asyncio.Task[None] | None = None
        self._maintenance: asyncio.Task[None] | None = None
        self._tasks = ServiceTasks("the broker", on_fatal)
        self._pace = WritePace()
        self._wanted = False
        self._written = asyncio.Event()
        """Something was written since the last maintenance."""
        self._stopping = False
        self.on_checkpoint: Callable[[], None] = lambda: None
        """Called after each checkpoint."""
        broker.state.pending.on_flush_needed = self._request

    def start(self) -> None:
        """Start the periodic work."""
        self._maintenance = self._tasks.keep(self._maintain(), "broker-maintenance")

    def checkpoint_soon(self) -> None:
        """Request a checkpoint regardless of the size of the journal, to free space. It is written with the next block, or
        now."""
        self._wanted = True
        if self._scheduled is None and not self._writing:
            self._scheduled = self._loop.call_soon(self._flush)

    async def in_background(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run `work` in the thread that writes checkpoints, between two checkpoints. Returns or raises what `work` does."""
        return await self._loop.run_in_executor(self._background, work, *arguments)

    # --- blocks

    def _request(self, urgent: bool) -> None:
        if urgent or self._broker.state.pending.bytes > PENDING_BYTES_MAX:
            if self._scheduled is None and not self._writing:
                self._scheduled = self._loop.call_soon(self._flush)
        elif self._lazy is None and self._scheduled is None:
            self._lazy = self._loop.call_later(LAZY_FLUSH_SECONDS, self._flush_lazily)

    def _flush_lazily(self) -> None:
        self._lazy = None
        if self._broker.state.pending.is_due:
            self._request(True)

    def _flush(self) -> None:
        for handle in (self._scheduled, self._lazy):
            if handle is not None:
                handle.cancel()
        self._scheduled = self._lazy = None
        if self._checkpointing is not None and self._storage.checkpoint_overdue:
            return  # writes wait for the checkpoint: this bounds memory
        block = self._broker.cut()
        # the plan is the state at the end of this block: nothing may change between cut and plan
        due = (self._storage.checkpoint_due or self._wanted) and self._checkpointing is None and not self._stopping
        plan = self._broker.plan_checkpoint(clean=False) if due else None
        if not block.parts:
            self._after(block, plan)
            return
        if self._pace.suits_event_loop:
            self._write(block)
            self._after(block, plan)
        else:
            self._writing = True
            self._writer.call(lambda: self._write(block), lambda error: self._after_thread(block, plan, error))

    def _write(self, block: PendingBlock) -> None:
        started = time.perf_counter()
        try:
            self._storage.write(block.parts)
        except BaseException as error:
            self._on_fatal(error)
            raise
        seconds = time.perf_counter() - started
        if self._sync_seconds is None:
            self._broker.state.figures.sync_seconds.record(seconds)
        self._pace.record(seconds)

    def _after_thread(self, block: PendingBlock, plan: CheckpointPlan | None, error: BaseException | None) -> None:
        self._writing = False
        if error is not None:
            return
        try:
            self._after(block, plan)
        finally:
            if self._broker.state.pending.is_due or self._wanted:
                self._request(True)

    def _after(self, block: PendingBlock, plan: CheckpointPlan | None) -> None:
        self._written.set()
        if plan is not None:
            self._wanted = False
            position = self._storage.begin_checkpoint()
            self._checkpointing = self._tasks.start(self._checkpoint(plan, position), "broker-checkpoint")
        self._broker.written(block)

    # --- checkpoints and files

    async def _checkpoint(self, plan: CheckpointPlan, position: Any) -> None:
        try:
            await self._loop.run_in_executor(self._background, self._storage.checkpoint, plan, position)
            self._broker.checkpointed(plan)
        except OSError:
            logger.exception(
                "checkpoint failed; its data stays in the journal, and it will be retried",
                extra={"action": "checkpoint_failed"},
            )
        else:
            self.on_checkpoint()
        finally:
            self._checkpointing = None
            if self._broker.state.pending.is_due or self._wanted:
                self._request(True)

    async def _maintain(self) -> None:
        while True:
            await self._loop.run_in_executor(self._background, self._storage.maintain)
            if self._sync_seconds and not self._writing:
                await self._sync_in_thread()
            if not self._writing and not self._broker.state.pending.is_due:
                self._storage.rest()
            await asyncio.sleep(self._sync_seconds or MAINTENANCE_SECONDS)
            if self._storage.writable and not self._sync_seconds:
                await set_within(self._written, IDLE_MAINTENANCE_SECONDS)
            self._written.clear()

    async def _sync_in_thread(self) -> None:
        synced: asyncio.Future[None] = self._loop.create_future()
        self._writer.call(self._sync, lambda error: _end(synced, error))
        await synced

    def _sync(self) -> None:
        started = time.perf_counter()
        try:
            self._storage.sync()
        except BaseException as error:
            self._on_fatal(error)
            raise
        self._broker.state.figures.sync_seconds.record(time.perf_counter() - started)

    async def stop(self, *, checkpoint: bool) -> None:
        """Write pending changes, then, with `checkpoint`, a last checkpoint."""
        self._stopping = True
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.wait([self._maintenance])
        if self._checkpointing is not None:
            await asyncio.wait([self._checkpointing])
        while self._writing or self._broker.state.pending.is_due:
            if not self._writing:
                self._flush()
            await asyncio.sleep(0.001 if self._writing else 0)
        if self._checkpointing is not None:
            await asyncio.wait([self._checkpointing])
        self._sync()
        if checkpoint:
            await self._checkpoint(self._broker.plan_checkpoint(clean=True), self._storage.begin_checkpoint())
        for handle in (self._scheduled, self._lazy):
            if handle is not None:
                handle.cancel()
        self._writer.stop()
        self._background.shutdown()


def _end(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
