"""What the engine writes over TCP is stored compressed and read unchanged, on both brokers."""

import time

from hub.engine.over_tcp import TcpBroker
from hub.kafka import EVENTS, STATE, Cluster, Record, TopicPartition, delete_hub, describe_storage, ensure_topics, read_all
from tests.visibility import until_visible

COUNT = 500


async def test_what_the_engine_writes_is_stored_compressed_and_read_unchanged(empty_bootstrap: str) -> None:
    cluster = Cluster.of(empty_bootstrap)
    await ensure_topics(cluster, partitions=1)
    session = await TcpBroker(cluster).session(0)
    now_ms = int(time.time() * 1000)
    try:
        written = [
            Record(b"task/%d" % n, b'{"state":"completed","number":%d}' % n * 5, [("ce_type", b"task.completed")], now_ms)
            for n in range(COUNT)
        ]
        places = [TopicPartition(EVENTS, 0), TopicPartition(STATE, 0)]
        first = await session.commit(dict.fromkeys(places, written))
        await until_visible(cluster, first, COUNT)
        storage = await describe_storage(cluster)
        for place in places:
            read = [Record(r.key, r.value, list(r.headers), r.timestamp_ms) async for r in read_all(cluster, *place)]
            assert read == written
            assert 0 < storage.sizes[place] < sum(len(record.value or b"") for record in written) // 5
    finally:
        await session.close()
        await delete_hub(cluster)
