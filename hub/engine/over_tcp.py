"""Implements the interfaces of `ports.py` over TCP, for Apache Kafka or an embedded broker in another process."""

import asyncio
import math
import time
from collections.abc import AsyncIterator

from ..kafka import (
    EVENTS,
    INTAKE,
    STATE,
    Cluster,
    ConnectionLost,
    OffsetOutOfRange,
    PartitionReader,
    Seen,
    StoredRecord,
    TransactionalSession,
    delete_records,
    describe_storage,
    list_pools,
    open_session,
    read_all,
)
from .ports import DiskSpace, Intake, transactional_id
from .settings import COMPRESSION

#: A reader without records for this time is checked for whether it is really at the end (seconds).
CHECK_SECONDS = 5.0

#: `fetch.max.wait.ms` (milliseconds): the known end of the log may be this old, unless a timer is due earlier.
FETCH_WAIT_MS = 1_000

#: How long disk usage of the brokers is cached (seconds).
SPACE_SECONDS = 8.0


class TcpIntake:
    """The intake, read by a consumer without a group: committed records only; nothing is skipped silently."""

    def __init__(self, reader: PartitionReader, log_start: int) -> None:
        self._reader = reader
        self.log_start = log_start
        self._heard_at = asyncio.get_running_loop().time()
        self._seen: Seen | None = None
        self.position = 0
        self.end = 1  # unknown until the broker has reported it
        self.end_at = self._heard_at

    async def read(self, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        """The next records. Raises OffsetOutOfRange, ConnectionLost (also if the client hangs)."""
        records = await self._reader.read(max_records, math.ceil(timeout_seconds * 1000))
        now = asyncio.get_running_loop().time()
        if records:
            self._heard_at = now
        elif now - self._heard_at > CHECK_SECONDS:
            await self._reader.ensure_moving()
            self._heard_at = now
        self.position = self._reader.position
        self._look(now)
        return records

    def _look(self, now: float) -> None:
        """Update the end of the log if a response arrived since the last call. However late it is, the broker looked after the
        request was sent."""
        seen = self._reader.seen
        if seen is None:
            self.end = self.position + 1
        elif seen is not self._seen:
            self.end, self.end_at, self._seen = seen.high_watermark, now - (time.monotonic() - seen.asked_at), seen

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.close()


class TcpBroker:
    """Implements `ports.EngineBroker`. `name` is the prefix of the transactional ids; `compression`: see `LoopSettings`."""

    def __init__(self, cluster: Cluster, *, name: str = "hub", compression: str = COMPRESSION) -> None:
        self._cluster = cluster
        self._name = name
        self._compression = compression
        self._space: DiskSpace | None = None
        self._space_until = 0.0
        self._space_lock = asyncio.Lock()

    async def session(self, partition: int) -> TransactionalSession:
        """An open session of the best kind that the cluster supports."""
        return await open_session(self._cluster, transactional_id(self._name, partition), compression=self._compression)

    async def changelog(self, partition: int, from_offset: int) -> AsyncIterator[StoredRecord]:
        """See EngineBroker."""
        try:
            async for record in read_all(self._cluster, STATE, partition, from_offset or None):
                yield record
        except OffsetOutOfRange as gone:
            if gone.offset == from_offset:
                raise
            raise ConnectionLost(f"{STATE}-{partition} changed while it was read: {gone}") from gone

    async def intake(self, partition: int, offset: int) -> Intake:
        """The intake, positioned at `offset`."""
        reader = PartitionReader(self._cluster, max_wait_ms=FETCH_WAIT_MS, within_read=True)
        try:
            await reader.open(INTAKE, partition, offset)
            return TcpIntake(reader, await reader.start_offset())
        except BaseException:
            await reader.close()
            raise

    async def events_end(self, partition: int) -> int:
        """The end offset of the events of the partition."""
        async with PartitionReader(self._cluster) as reader:
            await reader.open(EVENTS, partition, 0)
            return await reader.end_offset()

    async def pools(self) -> list[str]:
        """The pools that have a commands topic."""
        return await list_pools(self._cluster)

    async def trim_intake(self, partition: int, before: int) -> None:
        """See EngineBroker."""
        await delete_records(self._cluster, INTAKE, partition, before)

    async def disk_space(self) -> DiskSpace | None:
        """See EngineBroker. The partitions of a process share the result for SPACE_SECONDS."""
        async with self._space_lock:
            now = asyncio.get_running_loop().time()
            if now >= self._space_until:
                storage = await describe_storage(self._cluster)
                usable, total = storage.usable_bytes, storage.total_bytes
                self._space = None if usable is None or total is None else DiskSpace(usable, total)
                self._space_until = now + SPACE_SECONDS
            return self._space
