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
    """One worker on a transport of its own, which can be cut."""

    def __init__(
        self, tasks: TaskRegistry, settings: WorkerSettings, transport: MemoryTransport, clock: ManualTime, driver: Driver
    ) -> None:
        """What keeps it from continuing is reported to `driver`."""
        self.transport = transport
        self._tasks = ServiceTasks("the worker in memory", driver.fail)
        self._worker = Worker(ADDRESS, tasks, settings, transport=transport, clock=clock.monotonic)

    @property
    def running(self) -> int:
        """How many bodies run."""
        return self._worker.stats().get("running", 0)

    @property
    def busy_threads(self) -> int:
        """How many plain functions run."""
        return self._worker.busy_threads

    async def start(self) -> None:
        """Returns when it is registered."""
        await self._worker.start()
        self._tasks.start(self._worker.watch(), "worker")

    async def stop(self) -> None:
        """Drain and end."""
        self.transport.restore()
        await self._worker.stop()
        await self._tasks.wait()


class Services:
    """Everything behind the client. `log` has the events; `driver` moves the time."""

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
        """A connection of its own to the broker."""
        return MemoryTransport(self.local, self._clock.now_ms)

    async def start(self, pool: str) -> None:
        """Create the topics and take every partition over."""
        for spec in hub_topics(self._partitions, pools=[pool]):
            await self.local.create_topic(spec.name, spec.partitions, spec.config)
        await self._engine.start()
        self.driver.raise_failure()

    async def start_worker(self, tasks: TaskRegistry, settings: WorkerSettings) -> WorkerInMemory:
        """A worker, registered."""
        worker = WorkerInMemory(tasks, settings, self.transport(), self._clock, self.driver)
        self._workers.append(worker)
        await worker.start()
        return worker

    async def subscribe(self, subscription: Subscription) -> None:
        """Hand it events from now on. Raises what its `open` raises."""
        await subscription.open(self._partitions)
        self._subscriptions.append(subscription)

    async def stop(self) -> None:
        """The workers drain, then the engine's partitions end."""
        for worker in self._workers:
            await worker.stop()
        await self._engine.stop()

    async def stop_subscriptions(self) -> None:
        """Subscribers finish what they have in hand, and close."""
        for subscription in self._subscriptions:
            await subscription.close()

    def close(self) -> None:
        """Stop the broker."""
        self._broker.close()
