"""The engine as a service over TCP: the partitions that this process owns, and their loops.

`EngineService` works with any Kafka and shares the partitions with other engine processes through a consumer group. The group
is used for assignment only; the transactional id alone decides which process may write. The embedded broker is not imported.
"""

import asyncio
from collections.abc import Awaitable, Callable, Set
from functools import partial
from pathlib import Path

from ..kafka import INTAKE, Cluster, GroupMembership, describe_partitions
from ..logs import Logger
from ..service import ServiceTasks
from .figures import PartitionFigures
from .format import FormatMismatch, check_hub_format
from .loop import PartitionLoop, outage_log
from .over_tcp import TcpBroker
from .ports import EngineBroker
from .progress import PartitionProgress
from .settings import EngineSettings, LoopSettings

log = Logger(__name__)

ENGINE_GROUP = "hub.engine"

#: How long a partition that is reassigned may take to finish its current transaction (seconds).
LEAVE_SECONDS = 5.0


class EngineFailedError(Exception):
    """The engine cannot continue: a broken invariant, history that is missing, or a mistake. The cause says which."""


class OwnedPartitions:
    """The loops of the partitions that this process owns now, and the task that follows which ones it should own."""

    def __init__(
        self,
        broker: EngineBroker,
        partitions: int,
        settings: EngineSettings | None,
        loop_settings: LoopSettings | None,
        snapshots: Path | None,
    ) -> None:
        self._broker = broker
        self.partitions = partitions
        self._settings = settings
        self._loop_settings = loop_settings
        self._snapshots = snapshots
        self._tasks = ServiceTasks("the engine", _log_failure)
        self._following: asyncio.Task[None] | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._ready: set[int] = set()
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._outages = outage_log()
        self.figures: dict[int, PartitionFigures] = {}
        """Of every partition that this process owns or has owned."""
        self.loops: dict[int, PartitionLoop] = {}

    def follow(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have `work` call `own` whenever other partitions are wanted, until `stop`."""
        self._following = self._tasks.keep(_or_engine_failed(work), "engine-assignment")

    async def own(self, wanted: set[int]) -> None:
        """Own exactly the partitions `wanted`: stops and starts loops of the difference; the others continue."""
        leaving = [partition for partition in self.loops if partition not in wanted]
        for partition in leaving:
            self.loops[partition].stop()
        for partition in leaving:
            await self._ended(partition)
        for partition in sorted(wanted):
            if partition not in self.loops:
                self._begin(partition)
        self._changed.set()

    def _begin(self, partition: int) -> None:
        loop = PartitionLoop(
            self._broker,
            partition,
            self.partitions,
            settings=self._settings,
            loop_settings=self._loop_settings,
            snapshots=self._snapshots,
            on_ready=self._is_ready,
            outages=self._outages,
            figures=self.figures.setdefault(partition, PartitionFigures()),
        )
        self.loops[partition] = loop
        task = self._tasks.start(_or_engine_failed(loop.run), f"engine-{partition}")
        task.add_done_callback(partial(self._over, partition, loop))
        self._running[partition] = task

    def _is_ready(self, partition: int) -> None:
        self._ready.add(partition)
        self._changed.set()

    def _over(self, partition: int, loop: PartitionLoop, _: asyncio.Task[None]) -> None:
        self._ready.discard(partition)
        self._outages.works(partition)  # or is another process's to watch
        if self.loops.get(partition) is loop:
            del self.loops[partition]
            del self._running[partition]
            self._gone.set()

    async def any_ended(self) -> None:
        """Wait until a loop has ended since the last call."""
        await self._gone.wait()
        self._gone.clear()

    async def _ended(self, partition: int) -> None:
        task = self._running.get(partition)
        if task is None:
            return
        done, _ = await asyncio.wait([task], timeout=LEAVE_SECONDS)
        if not done:
            task.cancel()
            await asyncio.wait([task], timeout=LEAVE_SECONDS)

    async def watch(self) -> None:
        """Does not return; raises EngineFailedError when a partition's loop, or what follows the assignment, has failed, and
        FormatMismatch when a loop could not begin."""
        await self._tasks.watch()

    async def taken_over(self, wanted: Callable[[], Set[int] | None]) -> None:
        """Until exactly those are owned and ready (None: not known yet). Raises as `watch` does where that comes before."""
        await self._tasks.unless_failed(self._until_ready(wanted))

    async def _until_ready(self, wanted: Callable[[], Set[int] | None]) -> None:
        while self.ready != wanted():
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        """Finish current transactions, write `engine.stopped`, and stop."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self.own(set())
        await self._tasks.cancel(again_seconds=LEAVE_SECONDS)

    @property
    def ready(self) -> set[int]:
        """The partitions that have been taken over."""
        return self._ready & set(self.loops)

    def status(self) -> list[dict[str, int]]:
        """Per owned partition: the next input offset and the number of committed transactions."""
        return [
            {"partition": partition, "offset": loop.offset, "transactions": loop.transactions}
            for partition, loop in sorted(self.loops.items())
        ]

    def progress(self) -> list[PartitionProgress]:
        """How current each owned partition is, also one that is being taken over."""
        return [loop.progress for _, loop in sorted(self.loops.items())]


async def _or_engine_failed(work: Callable[[], Awaitable[None]]) -> None:
    """Run it. Raises EngineFailedError in place of what it raises, but for FormatMismatch, which says all there is to say."""
    try:
        await work()
    except FormatMismatch:
        raise
    except Exception as error:
        raise EngineFailedError(str(error) or type(error).__name__) from error


def _log_failure(error: BaseException) -> None:
    if not isinstance(error, FormatMismatch):
        log.error("the engine cannot continue", action="engine_failed", exc_info=error)


class EngineService:
    """Owns the assigned partitions, over TCP."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        data_dir: Path | None = None,
        settings: EngineSettings | None = None,
        loop_settings: LoopSettings | None = None,
    ) -> None:
        self._cluster = cluster.named("engine")
        self._data_dir = data_dir
        self._settings = settings
        self._loop_settings = loop_settings
        self._owned: OwnedPartitions | None = None
        self._membership: GroupMembership | None = None

    @property
    def partitions(self) -> list[int]:
        """The partitions that are ready."""
        return sorted(self._owned.ready) if self._owned is not None else []

    async def start(self) -> None:
        """Join the group and follow its assignments. Raises HubError if the broker is unreachable or topics are missing."""
        partitions = await describe_partitions(self._cluster)
        await check_hub_format(self._cluster)
        broker = TcpBroker(self._cluster, compression=(self._loop_settings or LoopSettings()).compression)
        self._owned = OwnedPartitions(broker, partitions, self._settings, self._loop_settings, self._data_dir)
        self._membership = GroupMembership(self._cluster, ENGINE_GROUP, INTAKE)
        await self._membership.start()
        self._owned.follow(partial(self._follow, self._owned, self._membership))

    async def ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Returns when every partition that is assigned now has been taken over. Raises EngineFailedError, TimeoutError."""
        assert self._owned is not None
        assert self._membership is not None
        async with asyncio.timeout(timeout_seconds):
            await self._owned.taken_over(partial(self._assigned, self._membership))

    @staticmethod
    def _assigned(membership: GroupMembership) -> Set[int] | None:
        return membership.assigned if membership.joined.is_set() else None

    @staticmethod
    async def _follow(owned: OwnedPartitions, membership: GroupMembership) -> None:
        """Follow assignments by difference: a partition that is assigned again keeps its state and session.

        A loop that was fenced although its partition is still assigned here (by a resumed zombie, or because the assignment is
        about to change) is restarted after a backoff.
        """
        while True:
            await owned.own(set(membership.assigned))
            await membership.commit({partition: loop.offset for partition, loop in owned.loops.items()})
            await membership.changed(timeout_seconds=1.0)

    async def watch(self) -> None:
        """See `OwnedPartitions.watch`."""
        assert self._owned is not None
        await self._owned.watch()

    async def stop(self) -> None:
        """Finish current transactions, leave the group, and stop."""
        if self._owned is not None:
            await self._owned.stop()
        if self._membership is not None:
            await self._membership.stop()

    def status(self) -> list[dict[str, int]]:
        """See `OwnedPartitions.status`."""
        return self._owned.status() if self._owned is not None else []

    def progress(self) -> list[PartitionProgress]:
        """See `OwnedPartitions.progress`."""
        return self._owned.progress() if self._owned is not None else []

    def figures(self) -> dict[int, PartitionFigures]:
        """The figures of every partition that this process owns or has owned."""
        return self._owned.figures if self._owned is not None else {}
