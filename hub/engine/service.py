"""The engine as a service over TCP: the partitions that this process owns, and their loops.

`EngineService` works with any Kafka and shares the partitions with other engine processes through a consumer group. The group
is used for assignment only; the transactional id alone decides which process may write. The embedded broker is not imported.
"""

import asyncio
from pathlib import Path

import structlog

from ..kafka import INTAKE, Cluster, GroupMembership, describe_partitions
from .format import FormatMismatch, check_hub_format
from .loop import PartitionLoop, outage_log
from .over_tcp import TcpBroker
from .ports import EngineBroker
from .settings import EngineSettings, LoopSettings

log = structlog.get_logger(__name__)

ENGINE_GROUP = "hub.engine"

#: How long a partition that is reassigned may take to finish its current transaction (seconds).
LEAVE_SECONDS = 5.0


class EngineStopped(Exception):
    """A partition's loop ended by itself: a broken invariant, or history that is missing. The cause says which."""


class Owner:
    """The loops of the partitions that this process owns now."""

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
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ready: set[int] = set()
        self._outages = outage_log()
        self.loops: dict[int, PartitionLoop] = {}
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()

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
        )
        self.loops[partition] = loop
        task = asyncio.get_running_loop().create_task(loop.run(), name=f"engine-{partition}")
        task.add_done_callback(lambda done: self._over(partition, loop, done))
        self._tasks[partition] = task

    def _is_ready(self, partition: int) -> None:
        self._ready.add(partition)

    def _over(self, partition: int, loop: PartitionLoop, task: asyncio.Task[None]) -> None:
        self._ready.discard(partition)
        self._outages.works(partition)  # or is another process's to watch
        if self.loops.get(partition) is loop:
            del self.loops[partition]
            del self._tasks[partition]
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, FormatMismatch):  # which says all there is to say
                log.error("partition stopped", action="engine_partition_stopped", partition=partition, exc_info=error)
            self.failure = error
            self.failed.set()

    async def _ended(self, partition: int) -> None:
        task = self._tasks.get(partition)
        if task is None:
            return
        done, _ = await asyncio.wait([task], timeout=LEAVE_SECONDS)
        if not done:
            task.cancel()
            await asyncio.wait([task], timeout=LEAVE_SECONDS)

    async def watch(self, following: asyncio.Task[None] | None) -> None:
        """Wait until a partition's loop, or the task that follows the assignment, has ended by itself. Raises EngineStopped."""
        failed = asyncio.get_running_loop().create_task(self.failed.wait(), name="engine-watch")
        try:
            await asyncio.wait([failed, *([following] if following is not None else [])], return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed.cancel()
        if self.failure is None and following is not None and following.done() and not following.cancelled():
            self.failure = following.exception()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise EngineStopped if a loop has ended by itself; FormatMismatch if it could not begin."""
        if isinstance(self.failure, FormatMismatch):
            raise self.failure
        if self.failure is not None:
            raise EngineStopped(str(self.failure) or type(self.failure).__name__) from self.failure

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
        self._owner: Owner | None = None
        self._membership: GroupMembership | None = None
        self._following: asyncio.Task[None] | None = None
        self._broker: TcpBroker | None = None

    @property
    def partitions(self) -> list[int]:
        """The partitions that are owned and ready."""
        return sorted(self._owner.ready) if self._owner is not None else []

    async def start(self) -> None:
        """Join the group and follow its assignments. Raises HubError if the broker is unreachable or topics are missing."""
        partitions = await describe_partitions(self._cluster)
        await check_hub_format(self._cluster)
        self._broker = TcpBroker(self._cluster)
        self._owner = Owner(self._broker, partitions, self._settings, self._loop_settings, self._data_dir)
        self._membership = GroupMembership(self._cluster, ENGINE_GROUP, INTAKE)
        await self._membership.start()
        self._following = asyncio.get_running_loop().create_task(self._follow(), name="engine-assignment")

    async def ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Returns when every partition that is assigned now has been taken over. Raises EngineStopped, TimeoutError."""
        assert self._owner is not None
        assert self._membership is not None
        async with asyncio.timeout(timeout_seconds):
            await self._membership.joined.wait()
            while self._owner.ready != self._membership.assigned:
                self._owner.raise_failure()
                await asyncio.sleep(0.005)

    async def _follow(self) -> None:
        """Compare assignments by difference: a partition that comes back keeps its memory and its session.

        A loop that was fenced although its partition is still assigned here (by a resumed zombie, or because the assignment is
        about to change) is restarted after a backoff.
        """
        assert self._owner is not None
        assert self._membership is not None
        while True:
            await self._owner.own(set(self._membership.assigned))
            await self._membership.commit({partition: loop.offset for partition, loop in self._owner.loops.items()})
            await self._membership.changed(timeout_seconds=1.0)

    async def watch(self) -> None:
        """Returns never; raises EngineStopped when a partition's loop has ended by itself."""
        assert self._owner is not None
        await self._owner.watch(self._following)

    async def stop(self) -> None:
        """Finish the transactions at hand, leave the group, end."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        if self._owner is not None:
            await self._owner.own(set())
        if self._membership is not None:
            await self._membership.stop()

    def status(self) -> list[dict[str, int]]:
        """See `Owner.status`."""
        return self._owner.status() if self._owner is not None else []
