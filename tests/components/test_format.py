"""The format number of a hub, on both brokers: that of the last transaction applies."""

import pytest
from msgspec import json

from hub.core.rows import FORMAT, META_KEY
from hub.engine import FormatMismatch, check_hub_format
from hub.engine.over_tcp import TcpBroker
from hub.kafka import STATE, Cluster, Record, TopicPartition, TransactionalSession, delete_hub, ensure_topics
from tests.visibility import until_visible

PLACE = TopicPartition(STATE, 0)


async def commit(cluster: Cluster, session: TransactionalSession, format_number: int, rows: int) -> None:
    """A transaction of so many rows, and a `!meta` row of the format as its last; visible when this returns."""
    meta = {"offset": 1, "epoch": 1, "now_us": 1, "partitions": 2, "created_us": 1, "format": format_number}
    records = [Record(b"task/%d" % number, b"{}", (), 1_700_000_000_000) for number in range(rows)]
    first = await session.commit({PLACE: [*records, Record(META_KEY, json.encode(meta), (), 1_700_000_000_000)]})
    await until_visible(cluster, first, len(records) + 1)


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
