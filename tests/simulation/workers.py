"""Workers: the real desk, bodies, reports and lease keeper, each worker a process that can be frozen, cut off and killed."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hub.kafka import commands_topic, partition_of
from hub.kafka.topics import pool_topic
from hub.verify import Execution
from hub.worker import Permanent, RetryLater, TaskContext, TaskRegistry, WorkerSettings
from hub.worker.commands import CommandReader
from hub.worker.desk import Desk
from hub.worker.effects import Command
from hub.worker.heartbeats import DeskHeartbeats, LeaseKeeper
from hub.worker.reports import ReportBuilder, WorkerIdentity
from hub.worker.slots import HOLD_SECONDS
from schemas import reports as r

from .broker import INBOXES
from .loop import Process
from .network import Link, LinkReports, Reader

if TYPE_CHECKING:
    from .world import World

NAMES = ("a", "b", "c")

#: Every worker has the first version of its names, some have the others, too, or get them while they run.
VERSIONS = ("1", "2", "10")

#: A namespace for which some workers have handlers of its own.
NAMESPACE = "shop"

#: A worker that gets further versions while it runs gets them after up to this time (seconds).
LATE_SECONDS = 6.0

#: A pool whose topic is made in the middle of a schedule; only its workers know the name "c".
LATE_POOL = "late"

#: How often a desk is looked at of which no command waits for a slot (seconds); another one every half of HOLD_SECONDS.
IDLE_SECONDS = 1.0


class SimulatedWorker:
    """One incarnation of a worker, in a process of its own."""

    def __init__(self, world: "World", name: str, pool: str, registry: TaskRegistry, settings: WorkerSettings) -> None:
        self._world = world
        self.name = name
        self.pool = pool
        self.process = Process(world.loop, name)
        self.registered = self.stopped = self._ticks = False
        self._inbox = partition_of(name, INBOXES)
        identity = WorkerIdentity(name, self._inbox, settings, process=("simulation", 1))
        self.links = Link(world, self.process), Link(world, self.process)
        self._reader = Reader(world, commands_topic(pool), self._inbox)
        self._commands = CommandReader(name)
        self._commands.partitions = world.partitions
        self.process.start(self._run(identity, registry, settings)).add_done_callback(self._over)

    async def _run(self, identity: WorkerIdentity, registry: TaskRegistry, settings: WorkerSettings) -> None:
        world = self._world
        await world.broker.create(pool_topic(self.pool))
        await self._reader.open()
        clock = asyncio.get_running_loop().time
        self.desk = Desk(
            identity,
            registry,
            settings,
            LinkReports(self.links[0]),
            partitions=world.partitions,
            beat_soon=self._beat_soon,
            on_failed=self._failed,
            clock=clock,
        )
        self._keeper = LeaseKeeper(
            LinkReports(self.links[1]),
            DeskHeartbeats(self.desk.slots, ReportBuilder(identity, "h"), clock),
            partitions=world.partitions,
            lease_seconds=settings.lease_seconds,
            on_lease_lost=partial(self.desk.calls.call, self.desk.lease_lost),
        )
        self.process.start(self._keeper.run()).add_done_callback(self._over)
        await self.desk.reporting.register(world.partitions)
        self.registered = True
        if not world.workers.healing and world.chance.random() < 0.3:
            self.process.later(world.chance.uniform(0.0, LATE_SECONDS), world.workers.register_more, registry)
        self.process.start(self._keep_time()).add_done_callback(self._over)
        self.process.start(self.desk.keep_registered()).add_done_callback(self._over)
        while True:
            for record in await self._reader.read():
                command = self._commands.read(record)
                if command is not None:
                    await self._take(command)

    async def _take(self, command: Command) -> None:
        await self.desk.take(command)
        self._tick_where_one_waits()
        if self._world.chance.random() < self._world.weather.repeated:
            self.process.later(self._world.chance.expovariate(1.0), self._take_again, command)

    def _take_again(self, command: Command) -> None:
        self.process.start(self.desk.take(command)).add_done_callback(self._over)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            await self.desk.tick()

    def _tick_where_one_waits(self) -> None:
        with self.desk.slots as slots:
            wanted = slots.waiting > 0 and not self._ticks
        if wanted:
            self._ticks = True
            self.process.start(self._tick_while_one_waits()).add_done_callback(self._over)

    async def _tick_while_one_waits(self) -> None:
        while self._ticks:
            await asyncio.sleep(HOLD_SECONDS / 2)
            await self.desk.tick()
            with self.desk.slots as slots:
                self._ticks = slots.waiting > 0

    def _beat_soon(self, partitions: Sequence[int]) -> None:
        self._keeper.soon(partitions)

    def _failed(self, error: BaseException) -> None:
        """It cannot continue: its process ends."""
        self._world.workers.kill(self, noticed=True)

    def _over(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.failures.append(error)

    def drain(self) -> None:
        """It is asked to end in order."""
        if self.registered:
            self.process.start(self._drain()).add_done_callback(self._over)

    async def _drain(self) -> None:
        await self.desk.drain()
        await LinkReports(self.links[0]).flush(timeout_seconds=5.0)
        self._keeper.stop()
        await self.desk.reporting.leave(r.WorkerStopped, self._world.partitions)
        self.stopped = True
        self._world.workers.kill(self, noticed=False)

    def cut_off(self, seconds: float) -> None:
        """Nothing goes from or to the broker for a while."""
        until = self._world.loop.time() + seconds
        for link in self.links:
            link.cut_until = until
        self._reader.cut_until = until


class Workers:
    """All workers, and what their bodies do."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._started = 0
        self.all: list[SimulatedWorker] = []
        self.executions: list[Execution] = []
        self.tokens: Counter[str] = Counter()
        """How often a body ran for each command."""
        self.healing = False
        self.unharmed: set[str] = set()
        """Those that joined when nothing went wrong any more."""

    def join(self, pool: str = "default") -> SimulatedWorker:
        """A worker starts."""
        chance = self._world.chance
        names = NAMES if pool == LATE_POOL or self.healing else NAMES[:2]
        settings = WorkerSettings(
            pool=pool,
            slots=20 if self.healing else chance.choice([1, 2, 4]),
            lease_seconds=chance.choice([2.0, 4.0, 5.0, 5.0]),
            grace_seconds=chance.choice([0.5, 3.0]),
        )
        self._started += 1
        worker = SimulatedWorker(self._world, f"worker-{self._started}", pool, self._registry(names), settings)
        self.all.append(worker)
        if self.healing:
            self.unharmed.add(worker.name)
        return worker

    def kill(self, worker: SimulatedWorker, *, noticed: bool) -> None:
        """Its process ends; where that is `noticed`, somebody reports it."""
        worker.process.kill()
        if worker in self.all:
            self.all.remove(worker)
        if noticed:
            self._world.clients.report_lost(worker.name)

    def _registry(self, names: Sequence[str]) -> TaskRegistry:
        registry, chance = TaskRegistry(), self._world.chance
        for name in names:
            self._register(registry, name, VERSIONS[0], None)
            for namespace in (None, NAMESPACE):
                for version in VERSIONS:
                    further = (namespace, version) != (None, VERSIONS[0])
                    if further and (self.healing or chance.random() < 0.1):
                        self._register(registry, name, version, namespace)
        return registry

    def register_more(self, registry: TaskRegistry) -> None:
        """A handler of a worker that runs."""
        chance = self._world.chance
        name, version, namespace = chance.choice(NAMES), chance.choice(VERSIONS), chance.choice([None, NAMESPACE])
        if registry.find(namespace or "", name, version) is None:
            self._register(registry, name, version, namespace)

    def _register(self, registry: TaskRegistry, name: str, version: str, namespace: str | None) -> None:
        chance = self._world.chance
        options: dict[str, Any] = {}
        if chance.random() < 0.2:
            options["retry"] = self._world.clients.retry()
        if chance.random() < 0.1:
            options["timeout_seconds"] = chance.choice([0.5, 5.0])
        if chance.random() < 0.1:
            options["delivery"] = "at_most_once"
        registry.task(name, version=version, namespace=namespace, **options)(self._body)

    async def _body(self, ctx: TaskContext, **args: Any) -> Any:
        """A body of any task: it takes a while, and ends in one of all possible ways."""
        chance = self._world.chance
        self.executions.append(Execution(ctx.task_id, ctx.attempt))
        self.tokens[ctx._command.token] += 1
        if self.healing:
            await asyncio.sleep(0.01)
            return ctx.task_id
        await self._work(ctx)
        match chance.choices(["return", "later", "fail", "permanent"], [12, 1, 3, 1])[0]:
            case "later":
                raise RetryLater("not now", after=chance.choice([None, 0.0, 1.0]))
            case "permanent":
                raise Permanent("never")
            case "fail":
                raise ValueError("no")
        return {"done": ctx.task_id}

    async def _work(self, ctx: TaskContext) -> None:
        chance = self._world.chance
        seconds = chance.choice([0.0, 0.001, 0.02, 0.3, 1.0, 1.0, 4.0])
        if chance.random() < 0.1:
            ctx.progress(chance.choice([0, 50, 120]), "on the way")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if chance.random() < 0.2:
                await asyncio.sleep(0.5)  # It takes its time to stop, and is late.
            raise
