"""A plain idempotent producer that is replaced when it breaks."""

import asyncio

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from .clients import make_producer
from .cluster import Cluster
from .errors import BrokerUnreachable

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0


class ReplaceableProducer:
    """See the module. Use from one event loop."""

    def __init__(self, cluster: Cluster, *, linger_ms: int) -> None:
        self._cluster = cluster
        self._linger_ms = linger_ms
        self._current: AIOKafkaProducer | None = None
        self._replacing = asyncio.Lock()

    @property
    def current(self) -> AIOKafkaProducer:
        """The producer that is used now; only after `start`."""
        assert self._current is not None, "the sender is not started"
        return self._current

    async def start(self) -> None:
        """Connect. Raises BrokerUnreachable."""
        self._current = await self._connect()

    async def _connect(self) -> AIOKafkaProducer:
        producer = make_producer(self._cluster, linger_ms=self._linger_ms)
        try:
            await producer.start()
        except asyncio.CancelledError:
            await _stop(producer)
            raise
        except (KafkaError, OSError) as error:
            await _stop(producer)
            raise BrokerUnreachable(str(self._cluster), str(error) or type(error).__name__) from error
        return producer

    async def replace(self, broken: AIOKafkaProducer, reason: BaseException) -> None:
        """Have another producer in its place, once, however many found it broken. A broker that is away leaves it there."""
        async with self._replacing:
            if self._current is not broken:
                return
            log.info("producer replaced", action="producer_replaced", reason=repr(reason))
            try:
                replacement = await self._connect()
            except BrokerUnreachable as error:
                log.debug("broker away", action="producer_waits", reason=str(error))
                return
            self._current = replacement
            await _stop(broken)

    async def stop(self) -> None:
        """Disconnect; what is not acknowledged yet has STOP_SECONDS."""
        if self._current is not None:
            await _stop(self._current)


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
