"""What goes wrong: one function for each kind of fault, and the table with how often each is drawn."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from .broker import SYNC_SECONDS
from .workers import LATE_POOL, SimulatedWorker

if TYPE_CHECKING:
    from .world import World

#: Mean time between two faults (seconds).
PACE_SECONDS = 1.4


class Faults:
    """Draws and causes faults. `heal` ends those that last."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._kinds: list[tuple[Callable[[], None], float]] = [
            (self.broker_crash, 3.0),
            (self.engine_crash, 3.0),
            (self.take_over, 2.0),
            (self.engine_pause, 2.0),
            (self.slow_disk, 2.0),
            (self.full_disk, 1.0),
            (self.disk_fills_up, 1.0),
            (self.checkpoint, 2.0),
            (self.worker_crash, 3.0),
            (self.worker_pause, 2.0),
            (self.worker_cut_off, 2.0),
            (self.worker_drain, 2.0),
            (self.late_messages, 2.0),
            (self.repeated_messages, 2.0),
            (self.lost_acknowledgements, 2.0),
            (self.clock_jump, 1.0),
            (self.suspended_machine, 1.0),
        ]
        if world.broker.flush_seconds is not None:
            self._kinds.append((self.power_failure, 6.0))
        self._crashes = [self.broker_crash, self.engine_crash]

    async def live(self) -> None:
        """Cause faults, time and again; the first is a crash."""
        chance = self._world.chance
        await asyncio.sleep(chance.uniform(0.5, PACE_SECONDS))
        self._cause(chance.choice(self._crashes))
        while True:
            await asyncio.sleep(chance.expovariate(1 / PACE_SECONDS))
            self._cause(chance.choices([kind for kind, _ in self._kinds], [weight for _, weight in self._kinds])[0])

    def _cause(self, fault: Callable[[], None]) -> None:
        self._world.coverage.faults[fault.__name__] += 1
        fault()

    def heal(self) -> None:
        """Nothing is wrong any more."""
        world = self._world
        world.weather.clear()
        world.broker.disk.full = False
        world.broker.disk.usable_bytes = world.broker.disk.disk_space().total
        world.broker.sync_seconds = SYNC_SECONDS
        world.engines.pause_seconds = 0.0
        for process in [engine.process for engine in world.engines.all] + [worker.process for worker in world.workers.all]:
            process.thaw()

    def _for_a_while(self, seconds: tuple[float, float], undo: Callable[[], None]) -> None:
        self._world.outside.later(self._world.chance.uniform(*seconds), undo)

    # The broker and its disk

    def broker_crash(self) -> None:
        """The broker's process ends, with the engines that are in it; what was under way to the disk is there or not."""
        world = self._world
        if world.broker.local is None:
            return
        world.broker.crash(torn=world.chance.random() < 0.5)
        if world.embedded:
            world.engines.kill_all()
        if world.chance.random() < 0.3:
            self.clock_jump()
        self._for_a_while((0.05, 3.0), world.broker.start)

    def power_failure(self) -> None:
        """Broker, engines and workers are on one machine, which fails. What had not been synced is gone, also where it was
        acknowledged."""
        world = self._world
        if world.broker.local is None:
            return
        world.broker.lose_power()
        world.engines.kill_all()
        for worker in world.workers.all[:]:
            world.workers.kill(worker, noticed=False)
            self._replace(worker)
        world.forget()
        self._for_a_while((0.05, 3.0), world.broker.start)

    def slow_disk(self) -> None:
        """Syncs take long: much is undecided when something else happens."""
        broker = self._world.broker
        broker.sync_seconds = self._world.chance.choice([0.02, 0.2, 1.0])
        self._for_a_while((1.0, 6.0), lambda: setattr(broker, "sync_seconds", SYNC_SECONDS))

    def full_disk(self) -> None:
        """Nothing can be written."""
        disk = self._world.broker.disk
        disk.full = True
        self._for_a_while((0.5, 4.0), lambda: setattr(disk, "full", False))

    def disk_fills_up(self) -> None:
        """The engine is to refuse submissions until there is space again."""
        disk = self._world.broker.disk
        disk.usable_bytes = self._world.chance.choice([1 << 20, 1 << 30])
        self._for_a_while((5.0, 20.0), lambda: setattr(disk, "usable_bytes", disk.disk_space().total))

    def checkpoint(self) -> None:
        """The journal is due for a checkpoint."""
        self._world.broker.disk.wants_checkpoint = True

    # Engines

    def engine_crash(self) -> None:
        """An engine process ends between two steps."""
        world = self._world
        if world.engines.all:
            world.engines.kill(world.chance.choice(world.engines.all))
            world.engines.pause_seconds = world.chance.choice([0.0, 0.0, 2.0, 6.0])

    def take_over(self) -> None:
        """Another process takes some partitions over, though their owner runs."""
        world = self._world
        if world.broker.local is not None:
            count = world.chance.randrange(1, world.partitions + 1)
            world.engines.start(sorted(world.chance.sample(range(world.partitions), count)))

    def engine_pause(self) -> None:
        """An engine process is stopped for a while; perhaps somebody takes its partitions over meanwhile."""
        world = self._world
        engines = [engine for engine in world.engines.all if engine.works]
        if engines:
            engine = world.chance.choice(engines)
            engine.process.freeze()
            self._for_a_while((0.5, 12.0), engine.process.thaw)
            if world.chance.random() < 0.6 and engine.loops and world.broker.local is not None:
                world.engines.start(sorted(engine.loops))

    def clock_jump(self) -> None:
        """The wall clock is set; processes that start from now on follow it."""
        world = self._world
        jump_us = round(world.chance.choice([-3_600, -10, -1, 1, 10, 3_600]) * 1e6)
        world.engines.clock_ahead_us = jump_us
        world.broker.clock.ahead_ms = jump_us // 1000

    def suspended_machine(self) -> None:
        """Time passes, and nobody runs."""
        self._world.loop.leap(self._world.chance.choice([1.0, 5.0, 20.0]))

    # Workers

    def _worker(self) -> SimulatedWorker | None:
        workers = self._world.workers.all
        return self._world.chance.choice(workers) if workers else None

    def _replace(self, worker: SimulatedWorker) -> None:
        world = self._world
        pool = LATE_POOL if world.chance.random() < 0.3 else worker.pool
        self._for_a_while((0.1, 5.0), lambda: None if world.workers.healing else _join(world, pool))

    def worker_crash(self) -> None:
        """A worker's process ends; sometimes somebody notices and says so."""
        if (worker := self._worker()) is not None:
            self._world.workers.kill(worker, noticed=self._world.chance.random() < 0.5)
            self._replace(worker)

    def worker_pause(self) -> None:
        """A worker's process is stopped for a while."""
        if (worker := self._worker()) is not None:
            worker.process.freeze()
            self._for_a_while((0.5, 10.0), worker.process.thaw)

    def worker_cut_off(self) -> None:
        """A worker does not reach the broker for a while."""
        if (worker := self._worker()) is not None:
            worker.cut_off(self._world.chance.uniform(0.5, 10.0))

    def worker_drain(self) -> None:
        """A worker ends in order, and another one starts."""
        if (worker := self._worker()) is not None:
            worker.drain()
            self._replace(worker)

    # Messages

    def late_messages(self) -> None:
        """Messages are held up and overtaken."""
        self._weather("late", 0.3)

    def repeated_messages(self) -> None:
        """Messages are there twice."""
        self._weather("repeated", 0.4)

    def lost_acknowledgements(self) -> None:
        """Messages arrive, and their senders do not hear of it."""
        self._weather("unacknowledged", 0.5)

    def _weather(self, what: str, share: float) -> None:
        weather = self._world.weather
        setattr(weather, what, share)
        self._for_a_while((1.0, 5.0), lambda: setattr(weather, what, 0.0))


def _join(world: "World", pool: str) -> None:
    world.workers.join(pool)
