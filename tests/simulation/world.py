"""One hub and everything around it, on one deterministic loop: what a seed decides, and how it is healed and judged."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hub.broker import LocalBroker
from hub.kafka import EVENTS, INTAKE, read_batches
from hub.verify import LocalSource, verify_source

from .broker import BrokerProcess
from .clients import Clients
from .coverage import Coverage, EventLog
from .engines import LONG_SECONDS, Engines, settings_of
from .faults import Faults
from .loop import Process, SimulationLoop
from .network import Weather
from .workers import LATE_POOL, Workers

START_US = 1_700_000_000_000_000

#: How long things go wrong, and how long they may take to end afterwards (seconds).
CHAOS_SECONDS = (4.5, 9.5)
HEALED_SECONDS = 150.0

#: After each such time in the healed phase what has not ended is cancelled: strangers want things in a year (seconds).
CANCEL_SECONDS = 6.0


class World:
    """See the module. `run` raises what is wrong. `folder`: an empty one, for the files of engines."""

    def __init__(self, seed: int, loop: SimulationLoop, folder: Path) -> None:
        self.seed = seed
        self.loop = loop
        self.folder = folder
        self.chance = Random(seed)
        self.coverage = Coverage()
        self.log = EventLog(self.coverage)
        self.outside = Process(loop, "outside")
        self.weather = Weather()
        self.failures: list[BaseException] = []
        loop.set_exception_handler(self._failed)
        self.partitions = self.chance.choice([1, 2, 2, 2, 3, 3])
        self.embedded = self.chance.random() < 0.6
        """Whether the engines are in the broker's process."""
        self.has_snapshots = self.chance.random() < 0.2
        self.engine_settings, self.loop_settings = settings_of(self)
        self.broker = BrokerProcess(self)
        self.engines = Engines(self)
        self.clients = Clients(self)
        self.workers = Workers(self)
        self.faults = Faults(self)

    def _failed(self, loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
        """A callback raised; a failure that nobody waits for any more is one of a dead process."""
        if "handle" in about:
            self.failures.append(about["exception"])

    @property
    def is_forgetful(self) -> bool:
        """Whether ids of ended tasks are soon forgotten, so that a message that is there again creates a task again."""
        return self.engine_settings.retention_seconds < LONG_SECONDS

    def forget(self) -> None:
        """What was acknowledged may be gone, and what ran may run again."""
        self.clients.acknowledged.clear()
        self.workers.executions.clear()
        self.workers.tokens.clear()

    def now_us(self) -> int:
        """What a clock that is right shows, in microseconds since the epoch."""
        return START_US + round(self.loop.time() * 1e6)

    async def run(self) -> None:
        """The whole schedule: it begins, goes wrong, is healed, ends, and is judged."""
        await self._begin()
        await self._go_wrong()
        await self._heal()
        await self._judge()

    async def _begin(self) -> None:
        self.broker.start()
        await self.broker.make_hub(self.partitions)
        self._run(self.engines.supervise())
        self.clients.process.start(self.clients.hear()).add_done_callback(self._over)
        for _ in range(self.chance.choice([2, 3, 4, 4])):
            self.workers.join()
        self.coverage.schedules["embedded engines"] += self.embedded
        self.coverage.schedules["with snapshots"] += self.has_snapshots
        self.coverage.schedules["with syncs at intervals"] += self.broker.flush_seconds is not None
        self.coverage.schedules["partitions"] += self.partitions
        self.coverage.schedules["workers"] += len(self.workers.all)

    def _run(self, work: "asyncio._CoroutineLike[None]") -> "asyncio.Task[None]":
        task = self.outside.start(work)  # type: ignore[arg-type]  # a coroutine
        task.add_done_callback(self._over)
        return task

    def _over(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    async def _go_wrong(self) -> None:
        living = [self._run(self.clients.live()), self._run(self.faults.live())]
        await self._sleep(self.chance.uniform(*CHAOS_SECONDS))
        for task in living:
            task.cancel()

    async def _sleep(self, seconds: float) -> None:
        """Let time pass. Raises what failed in it."""
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            await asyncio.sleep(min(0.5, end - self.loop.time()))
            if self.failures:
                raise self.failures[0]

    # Healing

    async def _heal(self) -> None:
        """Nothing goes wrong any more, and there is a good worker in each pool: everything must end."""
        self.faults.heal()
        self.workers.healing = True
        for pool in ("default", LATE_POOL):
            self.workers.join(pool)
        began = self.loop.time()
        cancels_at = began + CANCEL_SECONDS
        while not self._is_over():
            await self._sleep(0.5)
            if self.loop.time() > cancels_at:
                cancels_at += CANCEL_SECONDS
                self.clients.cancel_all(sorted(self.log.live.items()))
            if self.loop.time() > began + HEALED_SECONDS:
                raise AssertionError(f"never ended: {self._unfinished()}")
            self.faults.heal()  # what was about to happen may have happened since
        self.coverage.schedules["seconds"] += round(self.loop.time())

    def _is_over(self) -> bool:
        local = self.broker.local
        if local is None:
            return False
        self.log.read(local)
        link = self.clients.link  # a late copy of a submission that was refused may still be admitted
        undone = self.log.live or self.clients.waiting or link.on_its_way or link.copies or self._undecided(local)
        return not undone and all(self._is_visible(local, partition) for partition in range(self.partitions))

    @staticmethod
    def _is_visible(local: LocalBroker, partition: int) -> bool:
        """Whether readers see all events that were written: no transaction is open or not yet synced."""
        return local.end(EVENTS, partition) == local.end(EVENTS, partition, committed=False, unsynced=True)

    def _undecided(self, local: LocalBroker) -> list[int]:
        """The partitions with reports that nobody has decided."""
        return [partition for partition in range(self.partitions) if self._is_undecided(local, partition)]

    def _is_undecided(self, local: LocalBroker, partition: int) -> bool:
        offset = self.engines.offset(partition)
        if offset >= local.end(INTAKE, partition):
            return False
        log_start = local.fetch(INTAKE, partition, local.end(INTAKE, partition), max_bytes=1).log_start
        fetched = local.fetch(INTAKE, partition, max(offset, log_start), max_bytes=1 << 20)
        return any(record.offset >= offset for record in read_batches(fetched.data, aborted=fetched.aborted))

    def _unfinished(self) -> str:
        local = self.broker.local
        undecided = "the broker is down" if local is None else f"undecided {self._undecided(local)}"
        return f"live {self.log.live}, waiting {self.clients.waiting}, {self.clients.link.on_its_way} on their way, {undecided}"

    # Judging

    async def _judge(self) -> None:
        """The engines end; what readers had seen is there, also after another crash, and the checker finds nothing."""
        await self.engines.stop()
        await self._sleep(0.5)
        local = await self.broker.connected()
        self.log.read(local)
        assert not self.log.unexpected, f"the engine failed: {self.log.unexpected}"
        missing = set(self.clients.acknowledged) - self.log.known
        assert not missing, f"acknowledged, and neither created nor refused: {missing}"
        lost = self.log.lost & self.workers.unharmed
        assert not lost, f"declared lost, though nothing happened to them: {lost}"
        twice = [token for token, count in self.workers.tokens.items() if count > 1]
        assert not twice, f"commands that ran twice: {twice}"
        once = [body for body in self.workers.executions if self.log.runs[body.task] == 1]
        self.broker.crash(torn=True)
        self.broker.start()
        await self._sleep(0.5)
        self.broker.look()
        report = await verify_source(
            LocalSource(await self.broker.connected()),
            require_all_ended=True,
            acknowledged=None if self.is_forgetful else self.clients.acknowledged,
            executions=once,  # a body does not know of which run it is
        )
        assert report.ok, report.render()
        self.coverage.schedules["schedules"] += 1
        self.coverage.schedules["events"] += report.events
        self.coverage.schedules["intake records"] += report.intake_records

    def digest(self) -> str:
        """A hash of every batch of every topic."""
        digest = sha256()
        for (topic, partition), (start, data) in sorted(self.broker.seen.items()):
            digest.update(f"{topic}-{partition} {start} {len(data)} ".encode() + data)
        return digest.hexdigest()


def simulate(seed: int) -> World:
    """The schedule of `seed`, run and judged. Raises what is wrong, with the command that repeats it in a note."""
    with _alone(), TemporaryDirectory(prefix="simulation-") as folder:
        loop = SimulationLoop()
        world = World(seed, loop, Path(folder))
        try:
            loop.run_until_complete(world.outside.start(world.run()))
        except BaseException as error:
            error.add_note(f"Again: python -m tests.simulation 1 {seed}")
            raise
        finally:
            loop.bury()
            loop.close()
    return world


@contextmanager
def _alone() -> Iterator[None]:
    """No logs, and no garbage collection at moments that are not the seed's."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        logging.disable(disabled)
