"""The format number of a hub, on both brokers: that of the last transaction applies."""

import pytest
from msgspec import json

from hub.core.rows import FORMAT, META_KEY
from hub.engine import FormatMismatch, check_hub_format
from hub.engine.over_tcp import TcpBroker
from hub.kafka import STATE, Cluster, Record, TopicPartition, TransactionalSession, delete_hub, ensure_topics

PLACE = TopicPartition(STATE, 0)


async def commit(session: TransactionalSession, format_number: int, rows: int) -> None:
    """A transaction of so many rows, and a `!meta` row of the format as its last."""
    meta = {"offset": 1, "epoch": 1, "now_us": 1, "partitions": 2, "created_us": 1, "format": format_number}
    records = [Record(b"task/%d" % number, b"{}", (), 1_700_000_000_000) for number in range(rows)]
    await session.commit({PLACE: [*records, Record(META_KEY, json.encode(meta), (), 1_700_000_000_000)]})


async def test_the_format_of_a_hub_is_checked_by_its_last_transaction(empty_bootstrap: str) -> None:
    await check_hub_format(Cluster.of(empty_bootstrap))  # no topics yet
    await ensure_topics(Cluster.of(empty_bootstrap), partitions=2)
    await check_hub_format(Cluster.of(empty_bootstrap))  # nothing on them
    session = await TcpBroker(Cluster.of(empty_bootstrap)).session(0)
    try:
        await commit(session, FORMAT + 1, 300)
        with pytest.raises(FormatMismatch, match=f"is of format {FORMAT + 1}, and this version reads format {FORMAT} only"):
            await check_hub_format(Cluster.of(empty_bootstrap))
        await commit(session, FORMAT, 300)
        await check_hub_format(Cluster.of(empty_bootstrap))
    finally:
        await session.close()
        await delete_hub(Cluster.of(empty_bootstrap))
