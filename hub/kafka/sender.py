"""Sends reports with at-least-once delivery: an idempotent producer that is replaced after a fatal error; unacknowledged
records are sent again. A report may arrive twice; the engine detects duplicates (by task id, or by the number of an attempt's
report).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from ..logs import Logger
from ..service import ServiceTasks
from .cluster import Cluster
from .codec import BATCH_BYTES_MAX
from .errors import RecordTooLarge
from .producer import ReplaceableProducer
from .unacknowledged import not_acknowledged

log = Logger(__name__)

SEND_SECONDS = 60.0
"""Default timeout of `send`."""
IN_FLIGHT_MAX = 10_000
"""Most records that are posted but not acknowledged; at this limit `post` waits."""
PAUSE_SECONDS = (0.05, 1.0)

Headers = Sequence[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """A record to send."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


def _nothing() -> None:
    """The default callback."""


#: A record that is sent until acknowledged, and the callback for that.
Posted = tuple[Outgoing, Callable[[], object]]


class Sender:
    """An at-least-once sender. Create one per client or worker, and use it on one event loop."""

    def __init__(self, cluster: Cluster, *, linger_ms: int = 0) -> None:
        self._cluster = cluster
        self._producer = ReplaceableProducer(cluster, linger_ms=linger_ms)
        self._failed: deque[Posted] = deque()
        self._in_flight = 0
        self._has_room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = ServiceTasks("the sender", self._cannot_repair)
        self._repairing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Connect to the cluster. Raises BrokerUnreachable."""
        self._loop = asyncio.get_running_loop()
        await self._producer.start()

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Send a record and wait until it is acknowledged. Raises as `send_many` does."""
        await self.send_many([outgoing], timeout_seconds=timeout_seconds)

    async def send_many(self, outgoing: Sequence[Outgoing], *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Send records and wait until all are acknowledged. They are stored in order, unless some must be sent again.

        Raises RecordTooLarge, BrokerUnreachable, PartitionUnavailable; records may have been stored nevertheless."""
        loop, missing = self._loop, outgoing
        assert loop is not None, "the sender has not been started"
        deadline = loop.time() + timeout_seconds
        pause = PAUSE_SECONDS[0]
        while missing:
            producer = self._producer.current
            missing, error = await self._once(producer, missing, deadline)
            if error is None:
                return
            if loop.time() >= deadline:
                topic, partition = missing[0][:2]
                raise not_acknowledged(producer.client, self._cluster, topic, partition, error, timeout_seconds) from error
            await self._producer.replace(producer, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS[1])

    async def _once(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing], deadline: float
    ) -> tuple[list[Outgoing], BaseException | None]:
        """Send records. Returns those that are not acknowledged at the deadline, and the reason. Raises RecordTooLarge."""
        reasons = await self._outcomes_of(producer, outgoing, deadline)
        missing = [(one, reason) for one, reason in zip(outgoing, reasons, strict=True) if reason is not None]
        for one, reason in missing:
            if _is_final(reason):
                raise RecordTooLarge(one.topic, len(one.value), BATCH_BYTES_MAX) from reason
        return [one for one, _ in missing], missing[0][1] if missing else None

    async def _outcomes_of(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing], deadline: float | None
    ) -> list[BaseException | None]:
        """Send records and wait until the deadline. Returns for each None if it is acknowledged, else the reason. The producer
        continues with records that are not acknowledged by then."""
        futures: list[asyncio.Future[Any]] = []
        failure: BaseException | None = None
        try:
            async with asyncio.timeout_at(deadline):
                failure = await self._hand_over_many(producer, outgoing, futures)
                if futures:
                    await asyncio.wait(futures)
        except TimeoutError as late:
            failure = late
        return [*map(_failure_of, futures), *[failure] * (len(outgoing) - len(futures))]

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = _nothing) -> None:
        """Returns when it is handed over; it is sent again until it is stored (`on_settled` is then called). Waits while too much
        is on its way. What only the broker finds too large is logged, and settled too.

        Raises RecordTooLarge, and as `watch` does."""
        while self._in_flight >= IN_FLIGHT_MAX and self._tasks.failure is None:
            self._has_room.clear()
            await self._has_room.wait()
        self._tasks.raise_failure()
        self._in_flight += 1
        self._idle.clear()
        posted = outgoing, on_settled
        if self._failed:
            self._failed.append(posted)  # after the records that already wait
            return
        await self._attempt(posted)

    async def _attempt(self, posted: Posted) -> None:
        producer, outgoing = self._producer.current, posted[0]
        try:
            future = await self._hand_over(producer, outgoing)
        except MessageSizeTooLargeError:
            self._settled()
            raise RecordTooLarge(outgoing.topic, len(outgoing.value), BATCH_BYTES_MAX) from None
        except (KafkaError, OSError, RuntimeError) as error:
            self._broken(producer, posted, error)
            return
        except BaseException:  # the caller was cancelled
            self._settled()
            raise
        future.add_done_callback(lambda done: self._done(producer, posted, done))

    @staticmethod
    async def _hand_over(producer: AIOKafkaProducer, outgoing: Outgoing) -> "asyncio.Future[Any]":
        topic, partition, key, value, headers = outgoing
        future: asyncio.Future[Any] = await producer.send(topic, value, key=key, partition=partition, headers=headers)
        return future

    def _done(self, producer: AIOKafkaProducer, posted: Posted, done: "asyncio.Future[Any]") -> None:
        error = _failure_of(done)
        if _is_final(error):
            self._settle(posted, error)
        elif error is not None:
            self._broken(producer, posted, error)

    def _settle(self, posted: Posted, refused: BaseException | None) -> None:
        """The record is stored, or it was rejected finally: a retry would be rejected again and block the records after it."""
        outgoing, on_settled = posted
        if refused is not None:
            log.error(
                "record rejected by the broker: too large",
                action="record_refused",
                topic=outgoing.topic,
                bytes=len(outgoing.value),
            )
        self._settled()
        on_settled()

    def _settled(self) -> None:
        self._in_flight -= 1
        if self._in_flight < IN_FLIGHT_MAX:
            self._has_room.set()
        if self._in_flight == 0:
            self._idle.set()

    def _broken(self, producer: AIOKafkaProducer, posted: Posted, error: BaseException) -> None:
        self._failed.append(posted)
        if self._repairing is None or self._repairing.done():
            self._repairing = self._tasks.start(self._repair(producer, error), "sender-repair")

    def _cannot_repair(self, _: BaseException) -> None:
        """Posted records that failed will never be sent: release everything that waits for them."""
        self._has_room.set()
        self._idle.set()

    async def _repair(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Send failed records again in order, with a working producer, until none is left."""
        pause = PAUSE_SECONDS[0]
        while self._failed:
            await self._producer.replace(producer, error)
            current = self._producer.current
            again = await self._once_more(current)
            if again is not None:
                producer, error = current, again
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_SECONDS[1])

    async def _once_more(self, producer: AIOKafkaProducer) -> BaseException | None:
        """Send failed records once; returns the reason if some failed again. They stay queued meanwhile: posted records come
        after them."""
        waiting = list(self._failed)
        reasons = await self._outcomes_of(producer, [outgoing for outgoing, _ in waiting], None)
        ended = list(zip(waiting, reasons, strict=True))
        missing = [posted for posted, reason in ended if not _is_final(reason)]
        self._failed = deque([*missing, *list(self._failed)[len(waiting) :]])
        for posted, reason in ended:
            if _is_final(reason):
                self._settle(posted, reason)
        return next((reason for reason in reasons if not _is_final(reason)), None)

    async def _hand_over_many(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing], futures: list["asyncio.Future[Any]"]
    ) -> BaseException | None:
        """Append a future for each record until the producer fails; returns the reason."""
        for one in outgoing:
            try:
                future = await self._hand_over(producer, one)
            except MessageSizeTooLargeError as error:
                future = asyncio.get_running_loop().create_future()
                future.set_exception(error)
            except (KafkaError, OSError, RuntimeError) as error:
                return error
            future.add_done_callback(_seen)
            futures.append(future)
        return None

    async def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until all posted records are acknowledged; False on timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return self._tasks.failure is None

    async def watch(self) -> None:
        """Raises the unexpected error that keeps what was posted from being sent again; does not return."""
        await self._tasks.watch()

    async def stop(self) -> None:
        """Stop without waiting for posted records; call `flush` before to wait for them."""
        await self._tasks.cancel()
        await self._producer.stop()


def _failure_of(future: "asyncio.Future[Any]") -> BaseException | None:
    if not future.done():
        return TimeoutError("no acknowledgement before the deadline")
    if future.cancelled():
        return RuntimeError("the producer was stopped")
    return future.exception()


def _is_final(failure: BaseException | None) -> bool:
    """Whether the record is stored or finally rejected, so that it is not sent again."""
    return failure is None or isinstance(failure, MessageSizeTooLargeError)


def _seen(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()
