"""Sends records with at-least-once delivery. A record may be stored twice, but only after exceptional errors (see `producer`);
the engine detects such duplicates (by task id, or by the number of an attempt's report).
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ..logs import Logger
from ..service import ServiceTasks, set_within
from .cluster import Cluster
from .codec import BATCH_BYTES_MAX, size_of
from .deadlines import DeadlineTimer
from .errors import ConnectionLost, RecordTooLarge
from .partition_queue import OnDone, QueuedRecord
from .producer import Producer
from .records import EncodedHeaders, Record
from .unacknowledged import PartitionStanding, not_acknowledged

log = Logger(__name__)

SEND_SECONDS = 60.0
"""Default timeout of `send`."""
IN_FLIGHT_MAX = 10_000
"""Most records that are posted but not acknowledged; at this limit `post` waits."""
RECORD_BYTES_MAX = BATCH_BYTES_MAX - 61
"""A batch of one record fits into the hub's topics: 61 bytes are the header of a batch."""

Headers = Sequence[tuple[str, bytes]] | EncodedHeaders


class Outgoing(NamedTuple):
    """A record to send."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


def _nothing() -> None:
    """The default callback."""


class _Sending:
    """The records of one call of `send_many`: `ended` is resolved when none is left, or fails at `deadline`, a time of the event
    loop, with a TimeoutError."""

    __slots__ = ("deadline", "ended", "error", "left")

    def __init__(self, count: int, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self.deadline = deadline
        self.error: Exception | None = None
        self.left = count

    def done(self, error: Exception | None) -> None:
        self.left -= 1
        if error is not None and self.error is None:
            self.error = error
        if not self.left and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # if the caller is cancelled meanwhile, asyncio would log that nobody has retrieved it


class Sender:
    """An at-least-once sender. Create one per client or worker, and use it on one event loop."""

    def __init__(self, cluster: Cluster, *, linger_ms: int = 0) -> None:
        self._cluster = cluster
        self._tasks = ServiceTasks("the sender", self._release_all)
        self._producer = Producer(cluster, self._tasks, linger_ms=linger_ms)
        self._sending: set[_Sending] = set()
        self._deadlines = DeadlineTimer(self._check_deadlines)
        self._stopped = False
        self._in_flight = 0
        self._has_room = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()

    async def start(self) -> None:
        """Connect to the cluster. Raises BrokerUnreachable."""
        await self._producer.start()

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Send a record and wait until it is acknowledged. Raises as `send_many` does."""
        await self.send_many([outgoing], timeout_seconds=timeout_seconds)

    async def send_many(self, outgoing: Sequence[Outgoing], *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Send records and wait until all are acknowledged. Those of a partition are stored in order.

        Raises RecordTooLarge, RecordRejected, BrokerUnreachable, PartitionUnavailable; records may have been stored
        nevertheless, or be stored later. Raises ConnectionLost if the sender has failed or is stopped."""
        if self._tasks.failure is not None:
            raise _failed(self._tasks.failure)
        self._raise_if_stopped()
        if not outgoing:
            return
        loop = asyncio.get_running_loop()
        sending = _Sending(len(outgoing), loop.time() + timeout_seconds, loop)
        on_done = sending.done
        queued = [_queued(one, on_done) for one in outgoing]
        for one, record in zip(outgoing, queued, strict=True):
            self._producer.post(one.topic, one.partition, record)
        self._sending.add(sending)
        self._deadlines.add(sending.deadline)
        try:
            await sending.ended
        except TimeoutError:
            raise self._too_late(outgoing, sending, timeout_seconds) from None
        finally:
            self._sending.discard(sending)
            if sending.left:
                self._discard(outgoing, on_done)
        if sending.error is not None:
            raise sending.error

    def _check_deadlines(self, now: float) -> float:
        waiting = [sending for sending in self._sending if not sending.ended.done()]
        for sending in waiting:
            if sending.deadline <= now:
                sending.fail(TimeoutError())
        return min([sending.deadline for sending in waiting if sending.deadline > now], default=math.inf)

    def _too_late(self, outgoing: Sequence[Outgoing], sending: _Sending, seconds: float) -> Exception:
        """The error after a timeout: that of a rejected record, or one that names the first partition that has not acknowledged
        everything."""
        if sending.error is not None:
            return sending.error
        for topic, partition, *_ in outgoing:
            if standing := self._producer.standing_of(topic, partition):
                return not_acknowledged(standing, self._cluster, topic, partition, seconds)
        topic, partition, *_ = outgoing[0]
        return not_acknowledged(PartitionStanding(None, False, 0, "", ""), self._cluster, topic, partition, seconds)

    def _discard(self, outgoing: Sequence[Outgoing], on_done: OnDone) -> None:
        """Nobody waits for these records any longer: those that were never sent are not sent later."""
        for topic, partition in {(one.topic, one.partition) for one in outgoing}:
            self._producer.discard(topic, partition, on_done)

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = _nothing) -> None:
        """Returns when it is handed over; it is sent again until it is stored (`on_settled` is then called). Waits while too much
        is on its way. What only the broker rejects is logged, and settled too.

        Raises RecordTooLarge, as `watch` does, and ConnectionLost if the sender is stopped."""
        while self._in_flight >= IN_FLIGHT_MAX and self._tasks.failure is None and not self._stopped:
            self._has_room.clear()
            await self._has_room.wait()
        if self._stopped or self._tasks.failure is not None:
            self._tasks.raise_failure()
            self._raise_if_stopped()
        queued = _queued(outgoing, partial(self._settle, outgoing, on_settled))
        self._in_flight += 1
        self._producer.post(outgoing.topic, outgoing.partition, queued)

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            raise ConnectionLost(f"The sender to {self._cluster} was stopped.")

    def _settle(self, outgoing: Outgoing, on_settled: Callable[[], object], error: Exception | None) -> None:
        """The record is stored, or it was rejected finally: a retry would be rejected again and block the records after it."""
        if self._stopped:
            return
        if error is not None:
            log.error(
                "record rejected",
                action="record_refused",
                topic=outgoing.topic,
                partition=outgoing.partition,
                bytes=len(outgoing.value),
                reason=str(error),
            )
        if self._in_flight == IN_FLIGHT_MAX:
            self._has_room.set()
        self._in_flight -= 1
        if self._in_flight == 0 and not self._flushed.is_set():
            self._flushed.set()
        on_settled()

    def _release_all(self, failure: BaseException) -> None:
        """Records will never be sent: release everything that waits for them."""
        self._has_room.set()
        self._flushed.set()
        for sending in self._sending:
            sending.fail(_failed(failure))

    async def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until all posted records are acknowledged; False on timeout, or if the sender fails or is stopped before."""
        if self._in_flight and not self._stopped and self._tasks.failure is None:
            self._flushed.clear()
        in_time = await set_within(self._flushed, timeout_seconds)
        return in_time and self._tasks.failure is None and not (self._stopped and self._in_flight)

    async def watch(self) -> None:
        """Raises the unexpected error that keeps what was posted from being sent again; does not return."""
        await self._tasks.watch()

    async def stop(self) -> None:
        """Stop without waiting for posted records; call `flush` before to wait for them. Pending and later calls of
        `send` and `post` raise ConnectionLost."""
        self._stopped = True
        self._has_room.set()
        self._flushed.set()
        for sending in self._sending:
            sending.fail(ConnectionLost(f"The sender to {self._cluster} was stopped before records were acknowledged."))
        self._deadlines.cancel()
        await self._tasks.cancel()
        self._producer.close()


def _failed(failure: BaseException) -> ConnectionLost:
    error = ConnectionLost(f"The sender failed: {failure!r}.")
    error.__cause__ = failure
    return error


def _queued(outgoing: Outgoing, on_done: OnDone) -> QueuedRecord:
    """Raises RecordTooLarge."""
    _, _, key, value, headers = outgoing
    record = Record(key, value, headers, time.time_ns() // 1_000_000)
    size = size_of(record)
    if size > RECORD_BYTES_MAX:
        raise RecordTooLarge(outgoing.topic, len(value), BATCH_BYTES_MAX)
    return QueuedRecord(record, size, on_done)
