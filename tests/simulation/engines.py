"""The processes that own engine partitions: the real loop on the broker's own door. Several may take themselves for the owner."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from hub.broker import LocalBroker
from hub.engine import EngineSettings, LoopSettings, PartitionLoop
from hub.engine.in_process import InProcessBroker, InProcessIntake
from hub.engine.ports import EngineBroker, Intake
from hub.kafka import INTAKE, StoredRecord

from .broker import INBOXES
from .loop import Process
from .over_network import NetworkBroker

if TYPE_CHECKING:
    from .world import World

#: How soon it is noticed that nobody owns a partition (seconds).
NOTICED_SECONDS = 0.3

#: How long a loop waits for what nothing announces (seconds).
IDLE_SECONDS = 1.0

#: How long an engine waits for its turn on average, once there is something to do; a seed has one of these (seconds).
TURN_SECONDS = (0.005, 0.05, 0.1)

#: How long after a batch the next one is decided, where it has been read already (seconds).
STEP_SECONDS = 0.001

#: On so many machines engines run that are not in the broker's process.
MACHINES = 2

#: Longer than any clock jumps.
LONG_SECONDS = 100_000.0


class BusyBroker(InProcessBroker):
    """The door of the broker's process, where other tasks have their turns."""

    def __init__(self, world: "World", local: LocalBroker) -> None:
        super().__init__(local)
        self._world = world

    async def intake(self, partition: int, offset: int) -> Intake:
        """See EngineBroker."""
        return BusyIntake(self._world, self._local, partition, offset)


class BusyIntake(InProcessIntake):
    """See BusyBroker."""

    def __init__(self, world: "World", local: LocalBroker, partition: int, offset: int) -> None:
        super().__init__(local, partition, offset)
        self._world = world

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        """See Intake."""
        if not self._buffer:
            if timeout_seconds > 0:
                await self._local.wait(INTAKE, self._partition, self._position, timeout_seconds=timeout_seconds, unsynced=True)
            await self._world.engines.turn()
        else:
            await asyncio.sleep(STEP_SECONDS)
        return await super().read(max_records, 0.0)


class EngineProcess:
    """One process and the loops of the partitions that it believes to own. Its wall clock may have been set anywhere.
    `snapshots`: a folder of its machine."""

    def __init__(self, world: "World", number: int, partitions: list[int], *, ahead_us: int, snapshots: Path | None) -> None:
        self._world = world
        self._ahead_us = ahead_us
        self._snapshots = snapshots
        self.process = Process(world.loop, f"engine-{number}")
        self.loops: dict[int, PartitionLoop] = {}
        self.ready: set[int] = set()
        assert world.broker.local is not None
        port: EngineBroker = BusyBroker(world, world.broker.local) if world.embedded else NetworkBroker(world)
        for partition in partitions:
            self._begin(port, partition, number)

    def _begin(self, port: EngineBroker, partition: int, number: int) -> None:
        world = self._world
        loop = self.loops[partition] = PartitionLoop(
            port,
            partition,
            world.partitions,
            settings=world.engine_settings,
            loop_settings=world.loop_settings,
            snapshots=self._snapshots,
            now_us=self._now_us,
            on_ready=self.ready.add,
            idle_seconds=IDLE_SECONDS,
            owner=("simulation", number),
        )
        self.process.start(loop.run()).add_done_callback(lambda done: self._over(partition, done))

    def _now_us(self) -> int:
        return self._world.now_us() + self._ahead_us

    def _over(self, partition: int, task: "asyncio.Task[None]") -> None:
        self.loops.pop(partition, None)
        self.ready.discard(partition)
        if (failure := task.exception()) is not None:
            self._world.failures.append(failure)

    @property
    def works(self) -> bool:
        """Whether it is neither frozen nor dead."""
        return not self.process.frozen and not self.process.dead


class Engines:
    """All engine processes, and a supervisor that starts one where a partition has none."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._started = 0
        self.all: list[EngineProcess] = []
        self.clock_ahead_us = 0
        self.pause_seconds = 0.0
        self._turn_seconds = world.chance.choice(TURN_SECONDS)
        self._stopping = False

    def start(self, partitions: list[int]) -> EngineProcess:
        """A process that takes these partitions over, whoever has them now."""
        self._started += 1
        engine = EngineProcess(
            self._world, self._started, partitions, ahead_us=self.clock_ahead_us, snapshots=self._folder_of_a_machine()
        )
        self.all.append(engine)
        return engine

    def _folder_of_a_machine(self) -> Path | None:
        """Where the next process finds the snapshots of those that were on the same machine before."""
        world = self._world
        if not world.has_snapshots:
            return None
        return world.folder / f"machine-{0 if world.embedded else world.chance.randrange(MACHINES)}"

    def kill(self, engine: EngineProcess) -> None:
        """It ends between two steps."""
        engine.process.kill()
        self.all.remove(engine)

    def kill_all(self) -> None:
        """They are in the broker's process, which has ended."""
        for engine in self.all[:]:
            self.kill(engine)

    async def supervise(self) -> None:
        """Start an owner for every partition that has none, after a while; never returns."""
        while True:
            await asyncio.sleep(NOTICED_SECONDS + self.pause_seconds)
            self.all = [engine for engine in self.all if engine.loops]
            owned = {partition for engine in self.all for partition in engine.loops}
            free = [partition for partition in range(self._world.partitions) if partition not in owned]
            if free and not self._stopping and self._world.broker.local is not None:
                self.start(free)

    async def turn(self) -> None:
        """Wait until other tasks of the process had their turns: what comes meanwhile is decided together."""
        await asyncio.sleep(self._world.chance.expovariate(1 / self._turn_seconds))

    def offset(self, partition: int) -> int:
        """The next intake offset after what the partition's owner has committed; 0 while nobody is known to own it."""
        return max((e.loops[partition].offset for e in self.all if partition in e.ready and e.works), default=0)

    async def stop(self) -> None:
        """All leave in order, and nobody follows them."""
        self._stopping = True
        for engine in self.all:
            for loop in list(engine.loops.values()):
                loop.stop()
        while any(engine.loops for engine in self.all):
            await asyncio.sleep(0.05)


def settings_of(world: "World") -> tuple[EngineSettings, LoopSettings]:
    """Settings that a seed draws: small bounds make rare things frequent."""
    chance = world.chance
    engine = EngineSettings(retention_seconds=chance.choice([2.0, LONG_SECONDS, LONG_SECONDS]), inboxes=INBOXES)
    intake_seconds = 8.0 if chance.random() < 0.15 else 7 * 86_400.0
    return engine, LoopSettings(
        max_records=chance.choice([1, 5, 5, 20, 50, 50, 128, 128]),
        intake_retention_seconds=intake_seconds,
        snapshot_bytes=chance.choice([3_000, 30_000]),
    )
