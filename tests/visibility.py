"""Waits until what a transaction wrote is visible: Apache Kafka acknowledges the end of a transaction before its markers are
written, the embedded broker after it."""

import asyncio
from collections.abc import Mapping

from hub.kafka import Cluster, PartitionReader, TopicPartition

PATIENCE_SECONDS = 60


async def stable_offset(cluster: Cluster, place: TopicPartition) -> int:
    """The last stable offset of a partition."""
    async with PartitionReader(cluster) as reader:
        await reader.open(place.topic, place.partition, 0)
        return await reader.end_offset()


async def until_visible(cluster: Cluster, first: Mapping[TopicPartition, int], records: int) -> None:
    """Wait for the markers of a transaction that wrote so many `records` to each partition, from the offset `first` on."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for place, offset in first.items():
            while await stable_offset(cluster, place) <= offset + records:
                await asyncio.sleep(0.02)
