"""The engine's partitions on the broker in memory: the real loops with a manual clock."""

import asyncio
from collections.abc import Callable

from ..broker import LocalBroker
from ..engine import EngineSettings, PartitionLoop
from ..engine.in_process import InProcessBroker
from ..service import ServiceTasks

#: Poll interval of the loops (seconds); records and due timers wake them up.
IDLE_SECONDS = 2.0


class EngineInMemory:
    """Owns all partitions from `start` to `stop`. `on_failed` is called with the error of a loop that fails."""

    def __init__(
        self,
        local: LocalBroker,
        partitions: int,
        settings: EngineSettings,
        now_us: Callable[[], int],
        on_failed: Callable[[BaseException], object],
    ) -> None:
        self._ready: set[int] = set()
        self._taken_over = asyncio.Event()
        broker = InProcessBroker(local)
        self._loops = [
            PartitionLoop(
                broker, number, partitions, settings=settings, now_us=now_us, on_ready=self._is_ready, idle_seconds=IDLE_SECONDS
            )
            for number in range(partitions)
        ]
        self._tasks = ServiceTasks("the engine in memory", on_failed)

    async def start(self) -> None:
        """Take over all partitions; returns when all are ready."""
        for loop in self._loops:
            task = self._tasks.start(loop.run(), f"engine-{loop.partition}")
            task.add_done_callback(lambda _: self._taken_over.set())
        await self._taken_over.wait()

    def _is_ready(self, partition: int) -> None:
        self._ready.add(partition)
        if len(self._ready) == len(self._loops):
            self._taken_over.set()

    async def stop(self) -> None:
        """Finish current transactions, write `engine.stopped`, and stop."""
        for loop in self._loops:
            loop.stop()
        await self._tasks.wait()
