"""Sending reports so that they arrive: a plain idempotent producer that is replaced when it breaks, and what was not acknowledged
sent again. A report may therefore arrive twice; the engine recognises it (ids of tasks, numbers of an attempt's reports).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from .clients import make_producer
from .codec import BATCH_BYTES_MAX
from .errors import BrokerUnreachable, RecordTooLarge
from .unacknowledged import not_acknowledged

log = structlog.get_logger(__name__)

SEND_SECONDS = 60.0
"""How long `send` tries before it says that the broker does not answer."""
IN_FLIGHT_MAX = 10_000
"""Posted and not yet acknowledged: beyond it `post` waits."""
PAUSE_SECONDS = (0.05, 1.0)
STOP_SECONDS = 5.0

Headers = Sequence[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """A record on its way."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


def _nothing() -> None:
    """What follows when nobody asks."""


#: A record on its way for as long as it takes, and what is called when it has arrived.
Posted = tuple[Outgoing, Callable[[], object]]


class Sender:
    """See the module. One per client or worker; use from one event loop."""

    def __init__(self, bootstrap: str, *, client_id: str | None = None, linger_ms: int = 0) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._producer: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()
        self._failed: deque[Posted] = deque()
        self._in_flight = 0
        self._room = asyncio.Condition()
        self._repairing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.acknowledged_at = 0.0

    async def start(self) -> None:
        """Connect. Raises BrokerUnreachable."""
        self._loop = asyncio.get_running_loop()
        self._producer = await self._connect()
        self._now_acknowledged()

    def _now_acknowledged(self) -> None:
        assert self._loop is not None
        self.acknowledged_at = self._loop.time()

    async def _connect(self) -> AIOKafkaProducer:
        producer = make_producer(self._bootstrap, client_id=self._client_id, linger_ms=self._linger_ms)
        try:
            await producer.start()
        except asyncio.CancelledError:
            await _stop(producer)
            raise
        except (KafkaError, OSError) as error:
            await _stop(producer)
            raise BrokerUnreachable(self._bootstrap, str(error) or type(error).__name__) from error
        return producer

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Returns when it is stored. Raises as `send_many` does."""
        await self.send_many([outgoing], timeout_seconds=timeout_seconds)

    async def send_many(self, outgoing: Sequence[Outgoing], *, timeout_seconds: float = SEND_SECONDS) -> None:
        """Returns when all are stored; in order, unless some have to be sent again.

        Raises RecordTooLarge, BrokerUnreachable, PartitionUnavailable; any of them may have been stored all the same."""
        loop, missing = self._loop, outgoing
        assert loop is not None, "the sender is not started"
        deadline = loop.time() + timeout_seconds
        pause = PAUSE_SECONDS[0]
        while missing:
            producer = self._producer
            assert producer is not None
            missing, error = await self._once(producer, missing, deadline)
            if error is None:
                self._now_acknowledged()
                continue
            if loop.time() >= deadline:
                topic, partition = missing[0][:2]
                raise not_acknowledged(producer.client, self._bootstrap, topic, partition, error, timeout_seconds) from error
            await self._renew(producer, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS[1])

    async def _once(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing], deadline: float
    ) -> tuple[list[Outgoing], BaseException | None]:
        """Send them, and wait until all are stored: those that were not, and why."""
        futures: list[asyncio.Future[Any]] = []
        error: BaseException | None = None
        try:
            async with asyncio.timeout_at(deadline):
                for one in outgoing:
                    futures.append(await self._hand_over(producer, one))  # noqa: PERF401 - what came so far counts on a failure
                await asyncio.wait(futures)
        except MessageSizeTooLargeError as failure:
            one = outgoing[len(futures)]
            raise RecordTooLarge(one.topic, len(one.value), BATCH_BYTES_MAX) from failure
        except (KafkaError, OSError, RuntimeError) as failure:  # TimeoutError is an OSError.
            error = failure
        finally:
            for future in futures:
                if not future.done():
                    future.add_done_callback(_seen)  # left to the producer
        missing = list(outgoing[len(futures) :])
        for one, future in zip(outgoing, futures, strict=False):
            reason = _failure_of(future)
            if reason is not None:
                error = error or reason
                missing.append(one)
        return missing, error

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = _nothing) -> None:
        """Returns when it is handed over; it is sent again until it is stored (`on_settled` is then called). Waits while too much
        is on its way. Raises RecordTooLarge. What only the broker finds too large is logged, and settled too."""
        if self._in_flight >= IN_FLIGHT_MAX:
            async with self._room:
                await self._room.wait_for(lambda: self._in_flight < IN_FLIGHT_MAX)
        self._in_flight += 1
        posted = outgoing, on_settled
        if self._failed:
            self._failed.append(posted)  # Behind what waits already.
            return
        await self._attempt(posted)

    async def _attempt(self, posted: Posted) -> None:
        producer, outgoing = self._producer, posted[0]
        assert producer is not None, "the sender is not started"
        try:
            future = await self._hand_over(producer, outgoing)
        except MessageSizeTooLargeError:
            self._settled()
            raise RecordTooLarge(outgoing.topic, len(outgoing.value), BATCH_BYTES_MAX) from None
        except (KafkaError, OSError, RuntimeError) as error:
            self._broken(producer, posted, error)
            return
        except BaseException:  # Whoever posted was cancelled, and knows.
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
        """It is stored, or never will be: sent again it would be refused again, and what is behind it would wait for ever."""
        outgoing, on_settled = posted
        if refused is None:
            self._now_acknowledged()
        else:
            log.error("record refused: too large", action="record_refused", topic=outgoing.topic, bytes=len(outgoing.value))
        self._settled()
        on_settled()

    def _settled(self) -> None:
        self._in_flight -= 1
        if self._in_flight == IN_FLIGHT_MAX - 1 or self._in_flight == 0:
            asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._room:
            self._room.notify_all()

    def _broken(self, producer: AIOKafkaProducer, posted: Posted, error: BaseException) -> None:
        self._failed.append(posted)
        if self._repairing is None or self._repairing.done():
            self._repairing = asyncio.get_running_loop().create_task(self._repair(producer, error), name="sender-repair")

    async def _repair(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Send what failed again, in order, with a producer that works, until nothing is left."""
        pause = PAUSE_SECONDS[0]
        while self._failed:
            await self._renew(producer, error)
            current = self._producer
            assert current is not None
            again = await self._once_more(current)
            if again is not None:
                producer, error = current, again
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_SECONDS[1])

    async def _once_more(self, producer: AIOKafkaProducer) -> BaseException | None:
        """Send what failed; why some of it failed again. Meanwhile it stays where it is: what is posted goes behind."""
        waiting = list(self._failed)
        futures, error = await self._hand_over_many(producer, [outgoing for outgoing, _ in waiting])
        if futures:
            await asyncio.wait(futures)
        reasons = [_failure_of(future) for future in futures] + [error] * (len(waiting) - len(futures))
        ended = list(zip(waiting, reasons, strict=True))
        missing = [posted for posted, reason in ended if not _is_final(reason)]
        self._failed = deque([*missing, *list(self._failed)[len(waiting) :]])
        for posted, reason in ended:
            if _is_final(reason):
                self._settle(posted, reason)
        return next((reason for reason in reasons if not _is_final(reason)), None)

    async def _hand_over_many(
        self, producer: AIOKafkaProducer, outgoing: Sequence[Outgoing]
    ) -> tuple[list["asyncio.Future[Any]"], BaseException | None]:
        """A future for each, up to the one where the producer failed, and why it did."""
        futures: list[asyncio.Future[Any]] = []
        for one in outgoing:
            try:
                future = await self._hand_over(producer, one)
            except MessageSizeTooLargeError as error:
                future = asyncio.get_running_loop().create_future()
                future.set_exception(error)
            except (KafkaError, OSError, RuntimeError) as error:
                return futures, error
            future.add_done_callback(_seen)
            futures.append(future)
        return futures, None

    async def _renew(self, broken: AIOKafkaProducer, reason: BaseException) -> None:
        """Replace the producer, once, however many found it broken."""
        async with self._renewing:
            if self._producer is not broken:
                return
            log.info("producer replaced", action="producer_replaced", reason=repr(reason))
            try:
                replacement = await self._connect()
            except BrokerUnreachable as error:
                log.debug("broker away", action="producer_waits", reason=str(error))
                return
            self._producer = replacement
            await _stop(broken)

    async def flush(self, *, timeout_seconds: float) -> bool:
        """Whether everything that was posted is stored within the time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._room:
                await self._room.wait_for(lambda: self._in_flight == 0)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End. Call `flush` before, where it matters."""
        if self._repairing is not None:
            self._repairing.cancel()
            await asyncio.wait([self._repairing])
        if self._producer is not None:
            await _stop(self._producer)


def _failure_of(future: "asyncio.Future[Any]") -> BaseException | None:
    if not future.done():
        return TimeoutError("no acknowledgement in time")
    if future.cancelled():
        return RuntimeError("the producer was stopped")
    return future.exception()


def _is_final(failure: BaseException | None) -> bool:
    """Whether it is stored, or could be sent again for ever."""
    return failure is None or isinstance(failure, MessageSizeTooLargeError)


def _seen(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop it; where it cannot send in time what it holds, end its task and its connections all the same."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
        return
    except (KafkaError, OSError, TimeoutError) as error:
        log.debug("producer not stopped in order", action="producer_stop", reason=repr(error))
    sending = producer._sender.sender_task if producer._sender is not None else None
    if sending is not None and not sending.done():
        sending.cancel()
        await asyncio.wait([sending])
    await producer.client.close()
