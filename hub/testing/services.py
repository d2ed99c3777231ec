"""The parts of a hub in memory: broker, engine, worker, subscribers."""

from ..engine import EngineSettings
from ..kafka import hub_topics
from ..service import ServiceTasks
from ..worker import TaskRegistry, Worker, WorkerSettings
from .broker import BrokerInMemory
from .driver import Driver
from .engine import EngineInMemory
from .event_log import EventLog
from .manual_time import ManualTime
from .subscription import Subscription
from .transport import ADDRESS, MemoryTransport


class WorkerInMemory:
    """One worker with its own transport, which can be disconnected."""

    def __init__(
        self, tasks: TaskRegistry, settings: WorkerSettings, transport: MemoryTransport, clock: ManualTime, driver: Driver
    ) -> None:
        """`driver` gets the error if the worker fails."""
        self.transport = transport
        self._tasks = ServiceTasks("the worker in memory", driver.fail)
        self._worker = Worker(ADDRESS, tasks, settings, transport=transport, clock=clock.monotonic)

    @property
    def running(self) -> int:
        """The number of running bodies."""
        return self._worker.stats().get("running", 0)

    @property
    def busy_threads(self) -> int:
        """The number of running plain functions."""
        return self._worker.busy_threads

    async def start(self) -> None:
        """Returns when it is registered."""
        await self._worker.start()
        self._tasks.start(self._worker.watch(), "worker")

    async def stop(self) -> None:
        """Drain and stop."""
        self.transport.restore()
        await self._worker.stop()
        await self._tasks.wait()


class Services:
    """All parts of the hub except the client. `log` has the events; `driver` advances the time."""

    def __init__(
        self, clock: ManualTime, partitions: int, settings: EngineSettings, thread_seconds: float, stall_seconds: float
    ) -> None:
        self.log = EventLog()
        self.driver = Driver(
            clock,
            running=lambda: sum(worker.running for worker in self._workers),
            busy_threads=lambda: sum(worker.busy_threads for worker in self._workers),
            thread_seconds=thread_seconds,
            stall_seconds=stall_seconds,
        )
        self._clock = clock
        self._partitions = partitions
        self._broker = BrokerInMemory(clock, on_written=lambda: self.log.catch_up(self.local))
        self.local = self._broker.local
        self._engine = EngineInMemory(self.local, partitions, settings, clock.now_us, self.driver.fail)
        self._workers: list[WorkerInMemory] = []
        self._subscriptions: list[Subscription] = []

    def transport(self) -> MemoryTransport:
        """A new connection to the broker."""
        return MemoryTransport(self.local, self._clock.now_ms)

    async def start(self, pool: str) -> None:
        """Create the topics and take over all partitions."""
        for spec in hub_topics(self._partitions, pools=[pool]):
            await self.local.create_topic(spec.name, spec.partitions, spec.config)
        await self._engine.start()
        self.driver.raise_failure()

    async def start_worker(self, tasks: TaskRegistry, settings: WorkerSettings) -> WorkerInMemory:
        """Start a worker; returns when it is registered."""
        worker = WorkerInMemory(tasks, settings, self.transport(), self._clock, self.driver)
        self._workers.append(worker)
        await worker.start()
        return worker

    async def subscribe(self, subscription: Subscription) -> None:
        """Start to deliver events to it. Raises what its `open` raises."""
        await subscription.open()
        subscription.follow(self.transport(), self._partitions)
        self._subscriptions.append(subscription)

    async def stop(self) -> None:
        """Drain the workers, then stop the engine's partitions."""
        for worker in self._workers:
            await worker.stop()
        await self._engine.stop()

    async def stop_subscriptions(self) -> None:
        """Let subscribers finish their events, and close them."""
        for subscription in self._subscriptions:
            await subscription.close()

    def close(self) -> None:
        """Stop the broker."""
        self._broker.close()
