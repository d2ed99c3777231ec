"""The engine in the process of the embedded broker; it owns all partitions."""

import asyncio
from pathlib import Path

from ..broker import LocalBroker
from ..kafka import INTAKE
from .figures import PartitionFigures
from .in_process import InProcessBroker
from .progress import PartitionProgress
from .service import OwnedPartitions
from .settings import EngineSettings, LoopSettings

#: Most reports per batch in the broker's process: clients of the broker wait while a batch is decided (about 40 µs per report).
EMBEDDED_MAX_RECORDS = 128

#: Delay of the restart of a fenced loop (seconds).
RESTART_SECONDS = 1.0


class EmbeddedEngine:
    """Owns all partitions in the broker's process. The topics must exist."""

    def __init__(
        self,
        local: LocalBroker,
        *,
        data_dir: Path | None = None,
        settings: EngineSettings | None = None,
        loop_settings: LoopSettings | None = None,
    ) -> None:
        partitions = local.topics()[INTAKE]
        loop_settings = loop_settings or LoopSettings(max_records=EMBEDDED_MAX_RECORDS)
        broker = InProcessBroker(local, compression=loop_settings.compression)
        self._owned = OwnedPartitions(broker, partitions, settings, loop_settings, data_dir)
        self._wanted = set(range(partitions))

    @property
    def partitions(self) -> list[int]:
        """The partitions that are ready."""
        return sorted(self._owned.ready)

    async def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Take every partition over; returns when all are ready. Raises EngineFailedError (see service.py), TimeoutError."""
        self._owned.follow(self._follow)
        async with asyncio.timeout(timeout_seconds):
            await self._owned.taken_over(lambda: self._wanted)

    async def _follow(self) -> None:
        """Start all partitions, and restart those whose loop was fenced (by a transaction timeout)."""
        while True:
            await self._owned.own(self._wanted)
            await self._owned.any_ended()
            await asyncio.sleep(RESTART_SECONDS)

    async def watch(self) -> None:
        """See `OwnedPartitions.watch`."""
        await self._owned.watch()

    async def stop(self) -> None:
        """See `OwnedPartitions.stop`."""
        await self._owned.stop()

    def status(self) -> list[dict[str, int]]:
        """See `OwnedPartitions.status`."""
        return self._owned.status()

    def progress(self) -> list[PartitionProgress]:
        """See `OwnedPartitions.progress`."""
        return self._owned.progress()

    def figures(self) -> dict[int, PartitionFigures]:
        """See `EngineService.figures`."""
        return self._owned.figures
