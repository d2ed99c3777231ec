"""The processes that own engine partitions: the real loop on the broker's own door. Several may take themselves for the owner."""

import asyncio
from typing import TYPE_CHECKING

from hub.engine import EngineSettings, LoopSettings, PartitionLoop
from hub.engine.in_process import InProcessBroker
from hub.engine.ports import EngineBroker

from .loop import Process
from .over_network import NetworkBroker

if TYPE_CHECKING:
    from .world import World

#: How soon it is noticed that nobody owns a partition (seconds).
NOTICED_SECONDS = 0.3

#: Longer than any clock jumps.
LONG_SECONDS = 100_000.0


class EngineProcess:
    """One process and the loops of the partitions that it believes to own. Its wall clock may have been set anywhere."""

    def __init__(self, world: "World", number: int, partitions: list[int], *, ahead_us: int) -> None:
        self._world = world
        self._ahead_us = ahead_us
        self.process = Process(world.loop, f"engine-{number}")
        self.loops: dict[int, PartitionLoop] = {}
        self.ready: set[int] = set()
        assert world.broker.local is not None
        port: EngineBroker = InProcessBroker(world.broker.local) if world.embedded else NetworkBroker(world)
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
            now_us=self._now_us,
            on_ready=self.ready.add,
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
        self._stopping = False

    def start(self, partitions: list[int]) -> EngineProcess:
        """A process that takes these partitions over, whoever has them now."""
        self._started += 1
        engine = EngineProcess(self._world, self._started, partitions, ahead_us=self.clock_ahead_us)
        self.all.append(engine)
        return engine

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

    def offset(self, partition: int) -> int:
        """The next intake offset that the partition's owner decides; 0 while nobody is known to own it."""
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
    engine = EngineSettings(retention_seconds=chance.choice([2.0, LONG_SECONDS, LONG_SECONDS]))
    intake_seconds = 8.0 if chance.random() < 0.15 else 7 * 86_400.0
    return engine, LoopSettings(max_records=chance.choice([1, 5, 50, 128]), intake_retention_seconds=intake_seconds)
