"""Reads and writes `hub.subscribers`. The topic is created with its first record; until then it has none."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import HubError
from ...kafka import (
    SUBSCRIBERS,
    Cluster,
    OffsetOutOfRange,
    PartitionReader,
    StoredRecord,
    TopicMissing,
    describe_partitions,
    ensure_subscribers,
    is_client_error,
    make_producer,
    next_records,
    read_all,
    wait_for_topic,
)
from ...throttle import LogThrottle
from ..lazy_producer import LazyProducer
from .control_records import subscriber_of

LOOK_SECONDS = 2.0
"""Interval at which a topic that does not exist yet is looked for."""
RETRY_SECONDS = 0.5
LOAD_SECONDS = 30.0
PUT_SECONDS = 15.0
READ_RECORDS = 2_000
READ_MS = 20

_log = logging.getLogger(__name__)


async def read_latest(cluster: Cluster) -> dict[bytes, bytes]:
    """The latest value of each key that was not deleted. Raises Unreachable."""
    latest: dict[bytes, bytes] = {}
    try:
        await describe_partitions(cluster, SUBSCRIBERS)
    except TopicMissing:
        return latest
    async for record in read_all(cluster, SUBSCRIBERS, 0):
        if record.key is not None and record.value is not None:
            latest[record.key] = record.value
        elif record.key is not None:
            latest.pop(record.key, None)
    return latest


class ControlWriter:
    """Writes records with one producer, which is started by the first. Use from one event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer = LazyProducer(self._make)

    async def put(self, key: bytes, value: bytes | None) -> int:
        """Write a record, a tombstone if `value` is None; returns its offset when it is stored. Raises Unreachable, TopicRefused,
        and errors of the client (`is_client_error`)."""
        return (await self.put_all({key: value}))[key]

    async def put_all(self, records: Mapping[bytes, bytes | None]) -> dict[bytes, int]:
        """Write several records; returns their offsets by key when all are stored. Raises as `put` does."""
        async with asyncio.timeout(PUT_SECONDS):
            producer = await self._producer.started()
            sent = {key: await producer.send(SUBSCRIBERS, value, key, 0) for key, value in records.items()}
            return {key: (await future).offset for key, future in sent.items()}

    async def _make(self) -> Any:
        await ensure_subscribers(self._cluster)
        return make_producer(self._cluster)

    async def close(self) -> None:
        """Stop the producer; the next record starts another."""
        await self._producer.discard()


class ControlFollower:
    """Follows the topic from its beginning, across restarts of the broker, for all subscribers of a process. `caught_up` is set
    when all records that existed at the start were applied, or the topic does not exist."""

    def __init__(self, cluster: Cluster) -> None:
        self.caught_up = asyncio.Event()
        self._cluster = cluster
        self._apply: dict[str, Callable[[StoredRecord], None]] = {}
        self._position: int | None = None
        self._throttle = LogThrottle()

    def add(self, subscriber: str, apply: Callable[[StoredRecord], None]) -> None:
        """Call `apply` with each record about this subscriber. Before `run`: earlier records are not read again."""
        self._apply[subscriber] = apply

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._wait_for_topic()
                await self._follow()
            except OffsetOutOfRange:  # the topic was created again
                self._position = None
            except Exception as error:
                if not isinstance(error, HubError | OSError | TimeoutError) and not is_client_error(error):
                    _log.exception("unexpected error while reading %s", SUBSCRIBERS, extra={"action": "control_failed"})
                elif self._throttle.admit("reading") is not None:
                    _log.info("reading %s is interrupted: %s", SUBSCRIBERS, error, extra={"action": "control_interrupted"})
            await asyncio.sleep(RETRY_SECONDS)

    async def _wait_for_topic(self) -> None:
        if self._position is not None:
            return
        await wait_for_topic(self._cluster, SUBSCRIBERS, self.caught_up.set, every_seconds=LOOK_SECONDS)

    async def _follow(self) -> None:
        async with PartitionReader(self._cluster) as reader:
            async with asyncio.timeout(LOAD_SECONDS):
                await reader.open(SUBSCRIBERS, 0, self._position or 0)
                if self._position is None:
                    reader.seek(await reader.start_offset())
                end = await reader.end_offset()
                while reader.position < end:
                    self._take(await reader.read(READ_RECORDS, READ_MS))
                self._position = reader.position
            self.caught_up.set()
            while True:
                self._take(await next_records(reader))

    def _take(self, records: list[StoredRecord]) -> None:
        for record in records:
            apply = self._apply.get(subscriber_of(record.key or b""))
            if apply is not None:
                apply(record)
        if records:
            self._position = records[-1].offset + 1
