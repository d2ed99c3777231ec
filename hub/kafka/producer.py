"""An idempotent producer for partitions that the caller chooses: plain asyncio with callbacks, without a task or a future per
record.

The records of a partition are stored in the order in which they are posted, and once, even if requests or responses are lost
(KIP-98: the broker recognises repeated batches by producer id and sequence number). Failed requests are repeated until they
succeed. Only after a partition has forgotten the producer, or has rejected a batch finally, is a new producer id used; records
whose outcome is unknown at that time may be stored twice.
"""

import asyncio
from functools import partial

from ..logs import Logger
from ..protocol import TopicPartition
from ..service import ServiceTasks
from .cluster import Address, Cluster, name_of_address
from .connection import Connection
from .errors import ConnectionLost
from .leader_directory import LeaderDirectory
from .leader_link import LeaderLink
from .partition_queue import OnDone, PartitionQueue, QueuedRecord
from .routing import Router
from .unacknowledged import PartitionStanding

log = Logger(__name__)


class Producer:
    """Create one per client, and use it on one event loop. Its background work runs in `tasks`, which fail if it raises an
    unexpected exception. `linger_ms`: time to wait for further records before a batch is sent."""

    def __init__(self, cluster: Cluster, tasks: ServiceTasks, *, linger_ms: int = 0) -> None:
        self._tasks = tasks
        self._linger_seconds = linger_ms / 1000
        self._request_seconds = cluster.request_seconds
        self._directory = LeaderDirectory(cluster, role="producer")
        self._router = Router(self._directory, tasks, self._attach)
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._links: dict[Address, LeaderLink] = {}
        self._routes: dict[PartitionQueue, LeaderLink] = {}

    async def start(self) -> None:
        """Connect. Raises BrokerUnreachable."""
        try:
            await self._router.start()
        except ConnectionLost as refused:
            log.debug(
                "no producer id yet: it is requested again with the first record", action="producer_waits", reason=str(refused)
            )

    def post(self, topic: str, partition: int, queued: QueuedRecord) -> None:
        """Send a record with the other records of this turn of the event loop, or of the linger."""
        queue = self._queues.get((topic, partition)) or self._add(TopicPartition(topic, partition))
        queue.append(queued)
        link = self._routes.get(queue)
        if link is None:
            self._router.request(queue)
        else:
            link.offer(queue)

    def _add(self, partition: TopicPartition) -> PartitionQueue:
        queue = self._queues[partition] = PartitionQueue(partition)
        return queue

    def _attach(self, queue: PartitionQueue, leader: Address, connection: Connection) -> None:
        """Send the queue over this connection from now on."""
        link = self._links.get(leader)
        if link is None or not link.uses(connection):
            if link is not None:
                self._detach_all(link)
            loop = asyncio.get_running_loop()
            call_soon = partial(loop.call_later, self._linger_seconds) if self._linger_seconds else loop.call_soon
            link = LeaderLink(connection, self._request_seconds, call_soon, self._detach, self._fail)
            self._links[leader] = link
        self._routes[queue] = link
        queue.resume()
        link.offer(queue)

    def _detach_all(self, link: LeaderLink) -> None:
        """Send nothing more over a link whose connection was replaced, also what is posted to queues that were idle."""
        link.drop()
        for queue in [queue for queue, route in self._routes.items() if route is link]:
            self._detach(queue)

    def _detach(self, queue: PartitionQueue) -> None:
        self._routes.pop(queue, None)
        self._router.request(queue)

    def _fail(self, error: Exception) -> None:
        """Report an unexpected exception in a callback as the failure of a task."""
        self._tasks.start(_raise(error), "producer")

    def discard(self, topic: str, partition: int, on_done: OnDone) -> None:
        """Do not send the records with this callback, unless they have been sent already: these will be sent again until they are
        stored."""
        if queue := self._queues.get((topic, partition)):
            queue.discard(on_done)

    def standing_of(self, topic: str, partition: int) -> PartitionStanding | None:
        """What is known of a partition with records that are not acknowledged; None if there are none."""
        queue = self._queues.get((topic, partition))
        if queue is None or not queue.has_work:
            return None
        directory = self._directory
        leader = directory.leader_of(queue.partition)
        link = None if leader is None else self._links.get(leader)
        return PartitionStanding(
            leader=None if leader is None else name_of_address(*leader),
            connected=link is not None and link.is_open,
            brokers=directory.broker_count,
            unreachable=directory.unreachable,
            reason=queue.reason,
        )

    def close(self) -> None:
        """Close all connections. The callbacks of all records that are not acknowledged get a ConnectionLost."""
        self._routes.clear()
        for link in self._links.values():
            link.drop()
        self._directory.close()
        for queue in self._queues.values():
            queue.abandon(ConnectionLost("The sender was stopped before the record was acknowledged."))


async def _raise(error: Exception) -> None:
    raise error
