"""Gives the queues of a producer what they need before they can be sent: an identity, and a connection to their leader. Repeats
every step, with backoff, until it succeeds."""

import asyncio
from collections.abc import Callable, Collection

from ..errors import Unreachable
from ..logs import Logger
from ..service import ServiceTasks, set_within
from .cluster import Address
from .connection import Connection
from .errors import BrokerUnreachable
from .leader_directory import LeaderDirectory
from .partition_queue import IdempotentIdentity, PartitionQueue

log = Logger(__name__)

BACKOFF_SECONDS = (0.02, 1.0)
"""The first pause after a failure of a partition, which doubles with each further one, and the longest."""

Attach = Callable[[PartitionQueue, Address, Connection], object]


class Router:
    """Calls `attach` with each requested queue when there is an open connection to its leader. Queues without records are
    forgotten instead."""

    def __init__(self, directory: LeaderDirectory, tasks: ServiceTasks, attach: Attach) -> None:
        self._directory = directory
        self._tasks = tasks
        self._attach = attach
        self._identity: IdempotentIdentity | None = None
        self._due: dict[PartitionQueue, float] = {}
        self._busy: set[PartitionQueue] = set()
        self._routing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Obtain the first identity. Raises BrokerUnreachable, and ConnectionLost if the broker refuses."""
        self._identity = await self._directory.new_identity()

    def request(self, queue: PartitionQueue) -> None:
        """Find a route for `queue`, after a pause if it has failed; nothing to do if this is under way."""
        if queue in self._busy or queue in self._due:
            return
        self._due[queue] = asyncio.get_running_loop().time() + _pause_after(queue.failures)
        self._changed.set()
        if self._routing is None or self._routing.done():
            self._routing = self._tasks.start(self._run(), "producer-routing")

    async def _run(self) -> None:
        while self._due:
            now = asyncio.get_running_loop().time()
            due = [queue for queue, at in self._due.items() if at <= now]
            if due:
                await self._route(due)
            else:
                self._changed.clear()
                await set_within(self._changed, min(self._due.values()) - now)

    async def _route(self, due: Collection[PartitionQueue]) -> None:
        for queue in due:
            del self._due[queue]
            if not queue.has_work:  # its records were given up during the pause: the next one must not wait for another pause
                queue.failures = 0
        queues = [queue for queue in due if queue.has_work]
        self._busy.update(queues)
        try:
            await self._identify(queues)
            await self._find_leaders(queues)
        except BrokerUnreachable as away:
            self._delay(queues, away.reason)
        except Unreachable as refused:
            self._delay(queues, str(refused))
        else:
            self._connect(queues)

    async def _identify(self, queues: Collection[PartitionQueue]) -> None:
        """Give an identity to the queues that need one. They may share it, but each one uses it only once: sequence numbers
        begin at 0."""
        needing = [queue for queue in queues if queue.identity is None or queue.identity_refused]
        if not needing:
            return
        if self._identity is None or any(queue.identity == self._identity for queue in needing):
            self._identity = await self._directory.new_identity()
        for queue in needing:
            if queue.identity is not None:
                topic, partition = queue.partition
                place = {"topic": topic, "partition": partition}
                log.info(
                    "new producer id: unacknowledged records may be stored twice",
                    action="producer_replaced",
                    reason=queue.reason,
                    **place,
                )
            queue.renew(self._identity)

    async def _find_leaders(self, queues: Collection[PartitionQueue]) -> None:
        leader_of = self._directory.leader_of
        unknown = [queue.partition for queue in queues if queue.failures or leader_of(queue.partition) is None]
        if unknown:
            await self._directory.look_up(unknown)

    def _connect(self, queues: Collection[PartitionQueue]) -> None:
        by_leader: dict[Address, list[PartitionQueue]] = {}
        for queue in queues:
            leader = self._directory.leader_of(queue.partition)
            if leader is None:
                self._delay([queue], queue.reason)
            else:
                by_leader.setdefault(leader, []).append(queue)
        for leader, led in by_leader.items():
            self._tasks.start(self._open(leader, led), "producer-connecting")

    async def _open(self, leader: Address, queues: Collection[PartitionQueue]) -> None:
        try:
            connection = await self._directory.connect(leader)
        except BrokerUnreachable as away:  # one broker: the message must not say that the cluster is
            self._delay(queues, away.reason)
            return
        self._busy.difference_update(queues)
        for queue in queues:
            self._attach(queue, leader, connection)

    def _delay(self, queues: Collection[PartitionQueue], reason: str) -> None:
        self._busy.difference_update(queues)
        for queue in queues:
            if not queue.failures:
                topic, partition = queue.partition
                log.debug(
                    "records wait for their leader", action="producer_waits", topic=topic, partition=partition, reason=reason
                )
            queue.delay(reason)
            self.request(queue)


def _pause_after(failures: int) -> float:
    """Seconds; none before the first failure."""
    first, longest = BACKOFF_SECONDS
    return min(first * 2.0 ** min(failures - 1, 30), longest) if failures else 0.0
