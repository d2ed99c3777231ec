"""Offsets of topics and of consumer groups, for administration: ranges, offsets by time, committed offsets."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

from ..errors import HubError
from .clients import make_consumer, started
from .cluster import Cluster
from .topics import describe_partitions

READ_MS = 200
LOOK_SECONDS = 3.0
"""How long `timestamps_at` waits for records."""
LOOK_BYTES = 65_536
BUSY = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


class OffsetRange(NamedTuple):
    """The offsets of a partition that readers of committed records can see: from `start` up to, but not including, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """The number of offsets; those of transaction markers count, too."""
        return self.end - self.start


class GroupInUse(HubError):
    """Offsets of a consumer group cannot be set, because it has members."""

    def __init__(self, group: str) -> None:
        super().__init__(f"The group {group} has members: its offsets can be set only while it has none.")


async def describe_offsets(cluster: Cluster, topic: str) -> dict[int, OffsetRange]:
    """The offsets of each partition of a topic. Raises `TopicMissing`, `BrokerUnreachable`, `ConnectionLost`."""
    places = await _places(cluster, topic)
    async with _consumer(cluster) as consumer:
        starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    return {place.partition: OffsetRange(starts[place], ends[place]) for place in places}


async def find_offsets(cluster: Cluster, topic: str, timestamp_ms: int) -> dict[int, int | None]:
    """By partition, the offset of the first record whose timestamp is at least `timestamp_ms`; None if there is none. Raises as
    `describe_offsets` does."""
    places = await _places(cluster, topic)
    async with _consumer(cluster) as consumer:
        found = await consumer.offsets_for_times(dict.fromkeys(places, max(0, timestamp_ms)))
    return {place.partition: None if found[place] is None else found[place].offset for place in places}


async def read_committed(cluster: Cluster, group: str, topic: str) -> dict[int, int | None]:
    """The committed offset of a group by partition; None if it has not committed one. Raises as `describe_offsets` does."""
    places = await _places(cluster, topic)
    async with _consumer(cluster, group) as consumer:
        return {place.partition: await consumer.committed(place) for place in places}


async def commit_offsets(cluster: Cluster, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Set committed offsets of a group without members, by partition. Raises `GroupInUse`, `BrokerUnreachable`,
    `ConnectionLost`."""
    wanted = {ClientPartition(topic, partition): offset for partition, offset in offsets.items()}
    async with _consumer(cluster, group) as consumer:
        consumer.assign(list(wanted))
        try:
            await consumer.commit(wanted)
        except BUSY:
            raise GroupInUse(group) from None


async def timestamps_at(cluster: Cluster, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
    """The timestamp (ms) of the first record at or after an offset, by partition; partitions without such a record, or whose
    record was not received in time, are left out. Raises `BrokerUnreachable`, `ConnectionLost`."""
    if not offsets:
        return {}
    found: dict[int, int] = {}
    async with _consumer(cluster, max_partition_fetch_bytes=LOOK_BYTES, auto_offset_reset="earliest") as consumer:
        consumer.assign([ClientPartition(topic, partition) for partition in offsets])
        for partition, offset in offsets.items():
            consumer.seek(ClientPartition(topic, partition), offset)
        ends = await consumer.end_offsets(consumer.assignment())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOOK_SECONDS
        while (waiting := list(consumer.assignment() - consumer.paused())) and loop.time() < deadline:
            for place, records in (await consumer.getmany(*waiting, timeout_ms=READ_MS, max_records=len(waiting))).items():
                found.setdefault(place.partition, records[0].timestamp)
            for place in waiting:
                if place.partition in found or await consumer.position(place) >= ends[place]:
                    consumer.pause(place)
    return found


async def _places(cluster: Cluster, topic: str) -> list[ClientPartition]:
    return [ClientPartition(topic, partition) for partition in range(await describe_partitions(cluster, topic))]


def _consumer(cluster: Cluster, group: str | None = None, **settings: object) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
    consumer = make_consumer(cluster, group=group, **settings)
    return started(consumer, consumer.stop, cluster, "respond to a request about offsets")
