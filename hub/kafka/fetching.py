"""Reads partitions from known offsets, without a group: long-polling Fetch requests, at most one per leader at a time.

A response is processed in the turn of the event loop in which it arrives: its batches are checked and buffered, and a waiting
reader is woken once. The next request is sent in the same turn if there are more records or the reader is still waiting;
otherwise when it waits again, so that in between offsets can be requested and positions changed without the delay of a long poll.

No request is sent to a leader while the buffer of one of its partitions is full: a long poll for the others would delay that one.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import HubError
from ..protocol import TopicPartition
from ..protocol.fetch import FetchLimits
from ..service import ServiceTasks, no_log
from . import fetch_places
from .cluster import Cluster
from .deadlines import DeadlineTimer
from .errors import ConnectionLost
from .fetch_buffer import PartitionBuffer, TakenBatch
from .fetch_places import SourceSettings, SourceTable
from .fetch_source import FetchSource

RESPONSE_BYTES = 16 << 20
LEAST_WAIT_MS = 50
"""See `FetchSettings.within_wait`."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How a `Fetcher` reads."""

    max_wait_ms: int = 5_000
    """How long a broker may wait for records before it responds without any. A response with records is not delayed."""
    within_wait: bool = False
    """A broker waits no longer than the reader does (but LEAST_WAIT_MS): after a wait without records follows a response, which
    says where the partition ended then."""
    partition_bytes: int = 1 << 20
    """Size requested of a partition at once; no more is requested while this much is buffered. A larger batch is received
    nevertheless."""
    buffer_bytes: int = 32 << 20
    """Nothing is requested while the buffers of all partitions that are not paused hold this much together."""
    committed: bool = True
    """Without records of open and aborted transactions; otherwise with both."""


class Fetcher:
    """Reads several partitions, from one event loop. Usage: `open`, then `take` until it returns None, then `wait`.

    After any failure that `take` raises, reading can be continued: the next `wait` looks up the leader of a partition that has
    none; a partition whose offset is out of range must be positioned by `seek` first."""

    def __init__(self, cluster: Cluster, settings: FetchSettings | None = None, *, role: str = "reader") -> None:
        self._settings = settings or FetchSettings()
        limits = FetchLimits(self._settings.max_wait_ms, 1, RESPONSE_BYTES, self._settings.committed)
        self._buffers: dict[TopicPartition, PartitionBuffer] = {}
        self._turns: deque[PartitionBuffer] = deque()
        sources = SourceSettings(limits, self._settings.partition_bytes)
        self._table = SourceTable(self, cluster, sources, self._buffers, role=role)
        self._tasks = ServiceTasks("reading", no_log)
        self._waiter: asyncio.Future[bool] | None = None
        self._wait_until = math.inf
        self._deadlines = DeadlineTimer(self._end_wait)

    async def open(self, offsets: Mapping[TopicPartition, int], *, timeout_seconds: float = fetch_places.SEARCH_SECONDS) -> None:
        """Connect, within `timeout_seconds`, to the leaders of these partitions, which are read from these offsets. A new topic
        may need a moment until it is found.

        Raises `BrokerUnreachable`, `TopicMissing`, `PartitionUnavailable`, `ConnectionLost`."""
        for partition, offset in offsets.items():
            self._buffers[partition] = PartitionBuffer(partition, offset, self._settings.partition_bytes)
        self._turns = deque(self._buffers.values())
        await self._table.search(timeout_seconds)

    # --- taking

    def take(self) -> TakenBatch | None:
        """The next batch of any partition, in turns, or None. Raises what keeps a partition from being read (`OffsetOutOfRange`,
        `CorruptBatch`, `ConnectionLost`, `PartitionUnavailable`, `TopicMissing`) when the batches before it were taken."""
        for _ in range(len(self._turns)):
            buffer = self._turns[0]
            self._turns.rotate(-1)
            taken = self.take_from(buffer)
            if taken is not None:
                return taken
        return None

    def take_from(self, buffer: PartitionBuffer) -> TakenBatch | None:
        """The next batch of one partition, or None. Raises as `take` does."""
        taken = buffer.take()
        if taken is not None and buffer.may_have_more:
            source = self._table.places.get(buffer.partition)
            if source is not None and not source.is_busy:
                source.send()
        return taken

    async def wait(self, seconds: float) -> bool:
        """Wait until `take` has something to return or to raise, or a position has moved past records that are not visible. False
        if none of this happened within `seconds`."""
        for buffer in self._turns:
            if buffer.is_ready:
                return True
        assert self._waiter is None, "the partitions have another reader"
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter, self._wait_until = waiter, loop.time() + seconds
        self._deadlines.add(self._wait_until)
        try:
            self._fetch()
            return await waiter
        finally:
            self._waiter, self._wait_until = None, math.inf

    def _end_wait(self, now: float) -> float:
        if self._waiter is None or self._wait_until > now:
            return self._wait_until
        _wake(self._waiter, False)
        return math.inf

    # --- positions

    def buffer(self, partition: TopicPartition) -> PartitionBuffer:
        """What was fetched and is known of the partition, to look at and for `take_from`."""
        return self._buffers[partition]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue reading at `offset`. What was fetched or requested before is dropped."""
        self._buffers[partition].seek(offset)

    def standing(self, partition: TopicPartition) -> tuple[str | None, float]:
        """The address of the broker that the partition is read from, None if there is no connection to one; and for how many
        seconds it has not responded to the request for records that is under way, which may take `max_wait_ms`."""
        source = self._table.places.get(partition)
        if source is None or not source.broker.connection.is_open:
            return None, 0.0
        return source.broker.connection.address, source.pending_seconds

    def pause(self, partition: TopicPartition) -> None:
        """Take and request no more of the partition until `resume`; what is buffered is kept."""
        self._buffers[partition].paused = True

    def resume(self, partition: TopicPartition) -> None:
        """End `pause`."""
        self._buffers[partition].paused = False
        if _is_open(self._waiter):
            self._fetch()
            if self._buffers[partition].is_ready:
                _wake(self._waiter, True)

    async def offsets(self, timestamp: int, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offsets of these partitions by timestamp in ms, or `leaders.EARLIEST` or `LATEST`; -1 if there is no such record.

        Raises `ConnectionLost`, `PartitionUnavailable`, `TopicMissing`, `BrokerUnreachable`."""
        return await self._table.offsets(timestamp, list(partitions), committed=self._settings.committed)

    # --- requests

    async def _search_again(self) -> None:
        try:
            if any(buffer.refused_since is not None for buffer in self._turns):
                await asyncio.sleep(fetch_places.BACKOFF_SECONDS)  # the brokers need a moment until they know a new leader
            while True:
                await self._table.search(fetch_places.SEARCH_SECONDS)
                if _is_open(self._waiter):
                    self._fetch()  # which leaves a leader that is polled without a partition that has moved to it
                if not self._table.is_searchable:
                    return
        except (HubError, OSError) as error:
            for partition in self._table.missing:
                self._buffers[partition].failure = error if isinstance(error, HubError) else ConnectionLost(str(error))
            # after the end of this task: `wait` may start another one
            asyncio.get_running_loop().call_soon(lambda: _wake(self._waiter, True))

    def _fetch(self) -> None:
        """Request records of all partitions; look up the leaders of those without one."""
        for source in self._table.all():
            if not source.is_busy:
                source.send()
            elif source.is_outdated:  # brokers process the requests of a connection in order: the next one would be delayed
                self._table.leave(source, list(source.parts))
                source.broker.connection.close()
        if self._table.is_searchable and not self._tasks:
            self._tasks.start(self._search_again(), "leaders")

    @property
    def has_room(self) -> bool:
        """See `SourceOwner`."""
        size, room = 0, self._settings.buffer_bytes
        for buffer in self._turns:
            if not buffer.paused:
                size += buffer.size
        return size < room

    @property
    def wait_ms(self) -> int:
        """See `SourceOwner`."""
        longest, waiter = self._settings.max_wait_ms, self._waiter
        if not self._settings.within_wait or waiter is None or waiter.done():
            return longest
        remaining_ms = round((self._wait_until - asyncio.get_running_loop().time()) * 1000)
        return min(max(remaining_ms, LEAST_WAIT_MS), longest)

    def answered(self, source: FetchSource, moved: bool, refused: list[TopicPartition]) -> None:
        """See `SourceOwner`."""
        if refused:
            self._table.leave(source, refused)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            if not moved:
                self._fetch()
                return
            waiter.set_result(True)
        if source.has_more:
            source.send()

    def lost(self, source: FetchSource, error: ConnectionLost) -> None:
        """See `SourceOwner`. The partitions fail, and are looked up again afterwards."""
        partitions = list(source.parts)
        for part in source.parts.values():
            part.buffer.failure = part.buffer.failure or error
        self._table.leave(source, partitions)
        if partitions:
            _wake(self._waiter, True)

    async def close(self) -> None:
        """Close the connections at once; `wait` returns False."""
        _wake(self._waiter, False)
        self._deadlines.cancel()
        self._table.close()
        await self._tasks.cancel()


def _wake(waiter: "asyncio.Future[bool] | None", moved: bool) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(moved)


def _is_open(waiter: "asyncio.Future[bool] | None") -> bool:
    return waiter is not None and not waiter.done()
