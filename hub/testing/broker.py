"""The embedded broker's core on an event loop: no sockets, no files, no threads."""

import asyncio
from collections.abc import Callable

from ..broker import Broker, LocalBroker, MemoryStorage
from .manual_time import ManualTime


class BrokerInMemory:
    """A broker in memory; `local` is its API. `on_written` is called after every block, when its records are visible."""

    def __init__(self, clock: ManualTime, on_written: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_written = on_written
        self._storage = MemoryStorage()
        self._core = Broker(self._storage, clock=clock)
        self._core.recover()
        self._core.state.pending.on_flush_needed = self._request
        self._core.timers.on_earlier = self._arm
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.local = LocalBroker(self._core)

    def _request(self, urgent: bool) -> None:
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        block = self._core.cut()
        self._storage.write(block.parts)
        self._core.written(block)
        self._on_written()

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        self._core.timers.run_due()
        deadline = self._core.timers.next_deadline
        if deadline is not None:
            self._arm(deadline)

    def close(self) -> None:
        """Stop the broker."""
        for handle in (self._flushing, self._timer):
            if handle is not None:
                handle.cancel()
