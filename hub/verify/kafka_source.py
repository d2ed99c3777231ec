"""Reads the topics of a cluster over the network, with consumers without a group."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ..errors import Unreachable
from ..kafka import Cluster, StoredRecord, TopicPartition, make_admin, make_consumer, poll, wait_until_reachable
from .history import LogRecord
from .source import Span

REACHABLE_SECONDS = 10.0
FETCH_WAIT_MS = 5
POLL_MS_MIN, POLL_MS_MAX = 5, 1_000
"""Poll timeout, doubled after each poll without records (for example if only commit markers are left)."""
SILENT_MS_MAX = 15_000
"""Reading fails if a partition returns no records for this time before its end."""
RECORDS_PER_POLL = 5_000
RETRY_MS = 5
"""Pause before a request is sent again. The first one for the offsets of a topic always is, after a request for its leaders."""


class KafkaSource:
    """The topics of a cluster as a `Source`. Consumer `committed` reads; `uncommitted` only finds the ends of partitions."""

    def __init__(self, cluster: Cluster, topics: dict[str, int], committed: Any, uncommitted: Any) -> None:
        self._cluster = cluster
        self._topics = topics
        self._committed = committed
        self._uncommitted = uncommitted

    async def topics(self) -> dict[str, int]:
        """Number of partitions by topic when the source was opened."""
        return self._topics

    async def spans(self, topic: str) -> dict[int, Span]:
        """The current offsets of each partition of the topic."""
        places = [TopicPartition(topic, number) for number in range(self._topics[topic])]
        starts = await self._committed.beginning_offsets(places)
        stable = await self._committed.end_offsets(places)
        ends = await self._uncommitted.end_offsets(places)
        return {place.partition: Span(starts[place], stable[place], ends[place]) for place in places}

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Committed records with start <= offset < end.

        Raises OffsetOutOfRange if they were removed, Unreachable if the broker stops returning them.
        """
        place = TopicPartition(topic, partition)
        self._committed.assign([place])
        self._committed.seek(place, start)
        poll_ms, silent_ms = POLL_MS_MIN, 0
        while await self._committed.position(place) < end:
            polled = await poll(self._committed, timeout_ms=poll_ms, max_records=RECORDS_PER_POLL)
            records = polled.get(place, ())
            silent_ms = 0 if records else silent_ms + poll_ms
            poll_ms = POLL_MS_MIN if records else min(2 * poll_ms, POLL_MS_MAX)
            if silent_ms > SILENT_MS_MAX:
                raise Unreachable(
                    f"{self._cluster} returns no more records of {topic}-{partition} before its end at offset {end}."
                )
            yield [
                StoredRecord(record.offset, record.timestamp, record.key, record.value, record.headers)
                for record in records
                if record.offset < end
            ]


@asynccontextmanager
async def kafka_source(cluster: Cluster) -> AsyncIterator[KafkaSource]:
    """A source for the cluster. Raises BrokerUnreachable."""
    await wait_until_reachable(cluster, REACHABLE_SECONDS)
    topics = await _topics(cluster)
    committed = make_consumer(cluster, fetch_max_wait_ms=FETCH_WAIT_MS, retry_backoff_ms=RETRY_MS)
    uncommitted = make_consumer(cluster, isolation_level="read_uncommitted", retry_backoff_ms=RETRY_MS)
    try:
        await committed.start()
        await uncommitted.start()
        yield KafkaSource(cluster, topics, committed, uncommitted)
    finally:
        await committed.stop()
        await uncommitted.stop()


async def _topics(cluster: Cluster) -> dict[str, int]:
    admin = make_admin(cluster)
    try:
        await admin.start()
        return {row["topic"]: len(row["partitions"]) for row in await admin.describe_topics()}
    finally:
        await admin.close()
