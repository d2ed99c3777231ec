"""Membership of a consumer group for assignment only: who has which partitions of a topic. Nothing is consumed through it.

Who may write is never decided here (that is what transactional ids are for): an assignment may be seen late, and a process that
was stopped may believe in an old one.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as ClientPartition

from ..service import ServiceTasks
from .clients import make_consumer
from .cluster import Cluster

POLL_MS = 1_000
"""How often the client is asked whether it still takes part; it leaves the group when nobody asks."""


class GroupMembership:
    """A member of `group` that is assigned partitions of `topic`. `assigned` is the assignment as it is known now."""

    def __init__(self, cluster: Cluster, group: str, topic: str) -> None:
        self._topic = topic
        self._consumer = make_consumer(cluster, group=group, auto_offset_reset="earliest")
        self._tasks = ServiceTasks("the group membership", self._cannot_poll)
        self._changed = asyncio.Event()
        self.assigned: frozenset[int] = frozenset()
        self.joined = asyncio.Event()

    async def start(self) -> None:
        """Join. Raises aiokafka's connection errors when no broker answers."""
        await self._consumer.start()
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        self._tasks.keep(self._poll(), f"membership-{self._topic}")

    async def _poll(self) -> None:
        while True:
            try:
                await self._consumer.getmany(timeout_ms=POLL_MS)  # Everything is paused: this only keeps the membership alive.
            except KafkaError:
                await asyncio.sleep(POLL_MS / 1000)  # Its background tasks reconnect; the assignment known last stays.

    def take(self, partitions: frozenset[int]) -> None:
        """A rebalance gave us `partitions`."""
        if partitions:
            self._consumer.pause(*(ClientPartition(self._topic, partition) for partition in partitions))
        self.assigned = partitions
        self.joined.set()
        self._changed.set()

    def _cannot_poll(self, _: BaseException) -> None:
        """The group will drop this member: whoever waits for a rebalance gets the error."""
        self._changed.set()

    async def changed(self, *, timeout_seconds: float) -> bool:
        """Wait for a rebalance; False when none came in time. Raises the unexpected error that ended the membership."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._tasks.raise_failure()
        self._changed.clear()
        return True

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Show how far the owner of each partition is, for tools that display lag. Nothing depends on it."""
        shown = {
            ClientPartition(self._topic, partition): offset for partition, offset in offsets.items() if partition in self.assigned
        }
        if shown:
            with contextlib.suppress(KafkaError):  # For display only, and tried again soon.
                await self._consumer.commit(shown)

    async def stop(self) -> None:
        """Leave the group."""
        await self._tasks.cancel()
        await self._consumer.stop()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, membership: GroupMembership) -> None:
        self._membership = membership

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Nothing: what is assigned again continues without a break, and whoever gets a partition fences us."""

    async def on_partitions_assigned(self, assigned: set[ClientPartition]) -> None:
        self._membership.take(frozenset(place.partition for place in assigned))
