"""Consumer group membership for the assignment of partitions only; no records are consumed through it.

It never decides which process may write; transactional ids do. A process may see an assignment late, and a suspended process
may still use an old one.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as ClientPartition

from ..service import ServiceTasks, set_within
from .clients import make_consumer, read_nothing
from .cluster import Cluster

POLL_MS = 1_000
"""Poll interval; a consumer that is not polled leaves the group."""


class GroupMembership:
    """A member of `group` that gets partitions of `topic` assigned. `assigned` is the latest known assignment."""

    def __init__(self, cluster: Cluster, group: str, topic: str) -> None:
        self._topic = topic
        self._consumer = make_consumer(cluster, group=group, auto_offset_reset="earliest")
        self._tasks = ServiceTasks("the group membership", self._cannot_poll)
        self._changed = asyncio.Event()
        self.assigned: frozenset[int] = frozenset()
        self.joined = asyncio.Event()

    async def start(self) -> None:
        """Join the group. Raises aiokafka's connection errors if no broker responds."""
        await self._consumer.start()
        read_nothing(self._consumer)
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        self._tasks.keep(self._poll(), f"membership-{self._topic}")

    async def _poll(self) -> None:
        while True:
            try:
                await self._consumer.getmany(
                    timeout_ms=POLL_MS
                )  # All partitions are paused: this only keeps the membership alive.
            except KafkaError:
                await asyncio.sleep(POLL_MS / 1000)  # Its background tasks reconnect; the last known assignment is kept.

    def take(self, partitions: frozenset[int]) -> None:
        """Set the partitions that a rebalance assigned."""
        if partitions:
            self._consumer.pause(*(ClientPartition(self._topic, partition) for partition in partitions))
        self.assigned = partitions
        self.joined.set()
        self._changed.set()

    def _cannot_poll(self, _: BaseException) -> None:
        """The group will remove this member: callers that wait for a rebalance get the error."""
        self._changed.set()

    async def changed(self, *, timeout_seconds: float) -> bool:
        """Wait for a rebalance; False when none came in time. Raises the unexpected error that ended the membership."""
        if not await set_within(self._changed, timeout_seconds):
            return False
        self._tasks.raise_failure()
        self._changed.clear()
        return True

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit the position of each partition for tools that display lag. Nothing else uses it."""
        shown = {
            ClientPartition(self._topic, partition): offset for partition, offset in offsets.items() if partition in self.assigned
        }
        if shown:
            with contextlib.suppress(KafkaError):  # For display only, and retried soon.
                await self._consumer.commit(shown)

    async def stop(self) -> None:
        """Leave the group."""
        await self._tasks.cancel()
        await self._consumer.stop()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, membership: GroupMembership) -> None:
        self._membership = membership

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Does nothing: a partition that is assigned again continues uninterrupted, and a new owner fences this one."""

    async def on_partitions_assigned(self, assigned: set[ClientPartition]) -> None:
        self._membership.take(frozenset(place.partition for place in assigned))
