"""The broker as a service: opens the storage, recovers, listens, and shuts down in order."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .broker import Broker
from .figures import BrokerAmounts, BrokerFigures
from .files import FileStorage
from .flushing import Flusher, end_process
from .housekeeping import Housekeeper
from .listener import ClientListener
from .local import LocalBroker
from .settings import BrokerSettings
from .storage import MemoryStorage, Storage
from .timing import Clock

logger = logging.getLogger(__name__)


def parse_flush(flush: str) -> float | None:
    """Parse a flush policy: `always` -> None, `os` -> 0.0, `interval:<ms>` -> seconds. Raises ValueError."""
    if flush == "always":
        return None
    if flush == "os":
        return 0.0
    kind, _, milliseconds = flush.partition(":")
    if kind != "interval" or not milliseconds.isdigit() or int(milliseconds) < 1:
        raise ValueError(f"flush: must be always, os or interval:<ms>, got {flush!r}")
    return int(milliseconds) / 1000


class BrokerServer:
    """A single-node broker on a TCP port.

    Without `data_dir` everything is kept in memory. `port` 0 selects a free port, available as `port` after `start`. With
    `flush` `always` a produce request is acknowledged when its data is synced to disk; with `interval:<ms>` and `os` when it
    is written, and it is synced at that interval or by the operating system. `figures` are written by the broker.
    """

    def __init__(
        self,
        data_dir: Path | None,
        host: str = "127.0.0.1",
        port: int = 0,
        flush: str = "always",
        *,
        settings: BrokerSettings | None = None,
        clock: Clock | None = None,
        storage: Storage | None = None,
        frame_bytes_max: int = 100 << 20,
        advertised_host: str | None = None,
        on_fatal: Callable[[BaseException], None] = end_process,
        figures: BrokerFigures | None = None,
    ) -> None:
        self.listener = ClientListener(host, port, advertised_host=advertised_host, frame_bytes_max=frame_bytes_max)
        self._data_dir = data_dir
        self._flush = flush
        self._sync_seconds = parse_flush(flush)
        self._new_broker = partial(Broker, clock=clock, settings=settings, figures=figures)
        self._given_storage = storage
        self._on_fatal = on_fatal
        self._serving = False
        self._timer: asyncio.TimerHandle | None = None
        self._storage: Storage | None = None
        self._flusher: Flusher | None = None
        self._housekeeper: Housekeeper | None = None
        self._broker: Broker | None = None
        self._local: LocalBroker | None = None

    @property
    def broker(self) -> Broker:
        """The core; available after `start`."""
        assert self._broker is not None, "the broker has not been started"
        return self._broker

    @property
    def figures(self) -> BrokerFigures:
        """What the broker counts; available after `start`."""
        return self.broker.state.figures

    @property
    def local(self) -> LocalBroker:
        """The in-process API; available after `start`."""
        assert self._local is not None, "the broker has not been started"
        return self._local

    @property
    def host(self) -> str:
        """The host on which the broker listens."""
        return self.listener.host

    @property
    def port(self) -> int:
        """The port; after `start` the actual one."""
        return self.listener.port

    @property
    def bootstrap(self) -> str:
        """host:port for clients, an IPv6 address in brackets."""
        return self.listener.bootstrap

    @property
    def listening(self) -> bool:
        """Whether clients can connect."""
        return self._serving and self.listener.listening

    @property
    def writable(self) -> bool:
        """Whether writes are accepted: the disk has room. As of the last write; no I/O."""
        return self._storage is not None and self._storage.writable

    def amounts(self) -> BrokerAmounts:
        """The present amounts, with one look at the file system; available after `start`."""
        state = self.broker.state
        try:
            usable = state.storage.disk_space().usable
        except OSError:
            usable = -1
        return BrokerAmounts(
            appended_bytes=state.pending.appended_bytes,
            appended_records=state.pending.appended_records,
            log_bytes=sum(log.file_bytes + log.memory_bytes for log in state.topics.logs()),
            connections=len(self.listener.connections),
            usable_bytes=usable if usable >= 0 else None,
        )

    async def start(self) -> None:
        """Recover the data and listen. Raises `DataDirectoryInUse`, `OtherFormat`, `StorageDamaged`, `AddressInUse`."""
        storage = self._storage = self._open_storage()
        try:
            broker = self._broker = self._new_broker(storage)
            broker.timers.on_earlier = self._arm
            await self.listener.open(broker)  # first: if the port is in use, the data must not change
            broker.recover()
            block = broker.cut()
            storage.write(block.parts)
            broker.written(block)
        except BaseException:
            self.listener.close()
            storage.close()
            raise
        self._serving = True
        broker.state.host, broker.state.port = self.listener.advertised_host, self.listener.port
        self._flusher = Flusher(broker, storage, sync_seconds=self._sync_seconds, on_fatal=self._on_fatal)
        self._flusher.start()
        self._housekeeper = Housekeeper(broker, storage, self._flusher, self._on_fatal)
        self._housekeeper.start()
        self._local = LocalBroker(broker)
        await self.listener.serve()

    def _open_storage(self) -> Storage:
        if self._given_storage is not None:
            return self._given_storage
        return MemoryStorage() if self._data_dir is None else FileStorage(self._data_dir, flush=self._flush)

    def _arm(self, deadline: float) -> None:
        """Schedule the core's timers for their earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, deadline - self.broker.state.clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        self.broker.timers.run_due()
        deadline = self.broker.timers.next_deadline
        if deadline is not None:
            self._arm(deadline)

    async def stop(self) -> None:
        """Close connections, abort open transactions, write a last checkpoint. Safe to call twice."""
        if not self._serving:
            return
        self._serving = False
        self.listener.close()
        self.broker.transactions.abort_open()
        assert self._housekeeper is not None
        await self._housekeeper.stop()
        assert self._flusher is not None
        assert self._storage is not None
        await self._flusher.stop(checkpoint=not isinstance(self._storage, MemoryStorage))
        if self._timer is not None:
            self._timer.cancel()
        self._storage.close()
        await self.listener.closed()
