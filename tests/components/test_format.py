"""The format number of a hub, on both brokers: that of the last transaction applies."""

import asyncio

import pytest
from msgspec import json

from hub.core.rows import FORMAT, META_KEY
from hub.engine import FormatMismatch, check_hub_format
from hub.engine.over_tcp import TcpBroker
from hub.kafka import STATE, Cluster, PartitionReader, Record, TopicPartition, TransactionalSession, delete_hub, ensure_topics

PLACE = TopicPartition(STATE, 0)


async def commit(cluster: Cluster, session: TransactionalSession, format_number: int, rows: int) -> None:
    """A transaction of so many rows, and a `!meta` row of the format as its last; visible when this returns."""
    meta = {"offset": 1, "epoch": 1, "now_us": 1, "partitions": 2, "created_us": 1, "format": format_number}
    records = [Record(b"task/%d" % number, b"{}", (), 1_700_000_000_000) for number in range(rows)]
    before = await end_offset(cluster)
    await session.commit({PLACE: [*records, Record(META_KEY, json.encode(meta), (), 1_700_000_000_000)]})
    async with asyncio.timeout(30):  # Kafka answers before it has written the marker
        while await end_offset(cluster) <= before + rows:
            await asyncio.sleep(0.02)


async def end_offset(cluster: Cluster) -> int:
    """The last stable offset of the changelog."""
    async with PartitionReader(cluster) as reader:
        await reader.open(PLACE.topic, PLACE.partition, 0)
        return await reader.end_offset()


async def test_the_format_of_a_hub_is_checked_by_its_last_transaction(empty_bootstrap: str) -> None:
    cluster = Cluster.of(empty_bootstrap)
    await check_hub_format(cluster)  # no topics yet
    await ensure_topics(cluster, partitions=2)
    await check_hub_format(cluster)  # nothing on them
    session = await TcpBroker(cluster).session(0)
    try:
        await commit(cluster, session, FORMAT + 1, 300)
        with pytest.raises(FormatMismatch, match=f"is of format {FORMAT + 1}, and this version reads format {FORMAT} only"):
            await check_hub_format(cluster)
        await commit(cluster, session, FORMAT, 300)
        await check_hub_format(cluster)
    finally:
        await session.close()
        await delete_hub(cluster)
