"""The engine in the process of the embedded broker; it owns all partitions."""

import asyncio
from pathlib import Path

from ..broker import LocalBroker
from ..kafka import INTAKE
from .in_process import InProcessBroker
from .service import Owner
from .settings import EngineSettings, LoopSettings

#: Most reports per batch in the broker's process: clients of the broker wait while a batch is decided (about 40 µs per report).
EMBEDDED_MAX_RECORDS = 128


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
        self._owner = Owner(InProcessBroker(local), partitions, settings, loop_settings, data_dir)
        self._following: asyncio.Task[None] | None = None

    @property
    def partitions(self) -> list[int]:
        """The partitions that are owned and ready."""
        return sorted(self._owner.ready)

    async def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Take every partition over; returns when all are ready. Raises EngineStopped (see service.py), TimeoutError."""
        wanted = set(range(self._owner.partitions))
        self._following = asyncio.get_running_loop().create_task(self._follow(wanted), name="engine-partitions")
        async with asyncio.timeout(timeout_seconds):
            while self._owner.ready != wanted:
                self._owner.raise_failure()
                await asyncio.sleep(0.002)

    async def _follow(self, wanted: set[int]) -> None:
        """Begin every partition, and again those whose loop was fenced (its transaction took too long)."""
        while True:
            await self._owner.own(wanted)
            await asyncio.sleep(1.0)

    async def watch(self) -> None:
        """Returns never; raises EngineStopped when a partition's loop has ended by itself."""
        await self._owner.watch(self._following)

    async def stop(self) -> None:
        """Finish the transactions at hand, say `engine.stopped`, end."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._owner.own(set())

    def status(self) -> list[dict[str, int]]:
        """See `Owner.status`."""
        return self._owner.status()
