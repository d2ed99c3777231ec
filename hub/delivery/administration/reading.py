"""Reads a range of offsets of a partition."""

import asyncio
from collections.abc import AsyncGenerator

from ...kafka import Cluster, OffsetRange, PartitionReader, StoredRecord

READ_RECORDS = 1_000
READ_MS = 20
CHECK_SECONDS = 5.0
"""A reader that has received nothing for this time is checked."""


async def read_range(cluster: Cluster, topic: str, partition: int, offsets: OffsetRange) -> AsyncGenerator[StoredRecord, None]:
    """The records of a partition with these offsets. Raises Unreachable, OffsetOutOfRange, CorruptBatch."""
    if offsets.start == offsets.end:
        return
    loop = asyncio.get_running_loop()
    async with PartitionReader(cluster) as reader:
        await reader.open(topic, partition, offsets.start)
        position, moved_at = offsets.start, loop.time()
        while position < offsets.end:
            for record in await reader.read(READ_RECORDS, READ_MS):
                if record.offset < offsets.end:
                    yield record
            before, position = position, reader.position
            if position > before:
                moved_at = loop.time()
            elif loop.time() - moved_at > CHECK_SECONDS:
                await reader.ensure_moving()
                moved_at = loop.time()
