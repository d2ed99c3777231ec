"""A hub in the event loop of the test, on any broker: engines over TCP, workers, a client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from hub.client import Hub
from hub.engine import EngineService
from hub.kafka import Cluster, ensure_topics
from hub.verify import verify
from hub.worker import TaskRegistry, Worker, WorkerSettings

PARTITIONS = 4


class Running:
    """What runs, and how to add to it."""

    def __init__(self, bootstrap: str, registry: TaskRegistry, stack: AsyncExitStack) -> None:
        self.bootstrap = bootstrap
        self.registry = registry
        self._stack = stack
        self.engines: list[EngineService] = []
        self.workers: list[Worker] = []
        self.hub = Hub(bootstrap)

    async def engine(self) -> EngineService:
        """Another engine process's worth."""
        service = EngineService(Cluster.of(self.bootstrap))
        await service.start()
        self._stack.push_async_callback(service.stop)
        self.engines.append(service)
        return service

    async def worker(self, **settings: object) -> Worker:
        """Another worker."""
        worker = Worker(self.bootstrap, self.registry, WorkerSettings(**{"slots": 16, "grace_seconds": 5, **settings}))  # type: ignore[arg-type]
        await worker.start()
        self._stack.push_async_callback(worker.stop)
        self.workers.append(worker)
        return worker

    async def owned(self) -> list[list[int]]:
        """Wait until every partition is owned by exactly one engine, and every engine has some; which, per engine."""

        def shared() -> bool:
            owned = [engine.partitions for engine in self.engines]
            return all(owned) and sorted(partition for some in owned for partition in some) == list(range(PARTITIONS))

        await until(shared)
        return [engine.partitions for engine in self.engines]


@asynccontextmanager
async def running(
    bootstrap: str, registry: TaskRegistry, *, engines: int = 1, workers: int = 1, foreign: bool = False, **settings: object
) -> AsyncIterator[Running]:
    """A hub with so many engines and workers. When all of them have stopped, the checker finds nothing wrong with the log;
    with `foreign`, it finds what the test wrote to topics that are the engine's alone."""
    await ensure_topics(Cluster.of(bootstrap), partitions=PARTITIONS)
    async with AsyncExitStack() as stack:
        world = Running(bootstrap, registry, stack)
        for _ in range(engines):
            await world.engine()
        await world.owned()
        for _ in range(workers):
            await world.worker(**settings)
        await stack.enter_async_context(world.hub)
        yield world
    report = await verify(Cluster.of(bootstrap))
    assert report.ok is not foreign, report.render()


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, seconds: float = 60.0) -> None:
    """Wait until `condition` holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if await held if isinstance(held, Awaitable) else held:
                return
            await asyncio.sleep(0.01)
