"""The engine's partitions on the broker in memory: the real loops, by a time that is moved by hand."""

import asyncio
from collections.abc import Callable

from ..broker import LocalBroker
from ..engine import EngineSettings, PartitionLoop
from ..engine.in_process import InProcessBroker
from ..service import ServiceTasks

#: Between looks around without any record or due item (seconds): it wakes up for those anyway.
IDLE_SECONDS = 2.0


class EngineInMemory:
    """Owns every partition from `start` to `stop`. `on_failed` is called with what ends one of them before."""

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
        """Returns when every partition has been taken over."""
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
