"""An idempotent producer that is replaced after a fatal error."""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..logs import Logger
from .clients import make_producer
from .cluster import Cluster
from .errors import BrokerUnreachable

log = Logger(__name__)

STOP_SECONDS = 5.0


class ReplaceableProducer:
    """Holds the current producer. Use it on one event loop only."""

    def __init__(self, cluster: Cluster, *, linger_ms: int) -> None:
        self._cluster = cluster
        self._linger_ms = linger_ms
        self._current: AIOKafkaProducer | None = None
        self._replacing = asyncio.Lock()

    @property
    def current(self) -> AIOKafkaProducer:
        """The current producer; available after `start`."""
        assert self._current is not None, "the sender has not been started"
        return self._current

    async def start(self) -> None:
        """Connect to the cluster. Raises BrokerUnreachable."""
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
            raise BrokerUnreachable(str(self._cluster), str(error) or type(error).__name__) from None
        return producer

    async def replace(self, broken: AIOKafkaProducer, reason: BaseException) -> None:
        """Replace a failed producer; concurrent calls replace it only once. Keeps it if the broker is unreachable."""
        async with self._replacing:
            if self._current is not broken:
                return
            log.info("producer replaced", action="producer_replaced", reason=repr(reason))
            try:
                replacement = await self._connect()
            except BrokerUnreachable as error:
                log.debug("broker unreachable", action="producer_waits", reason=str(error))
                return
            self._current = replacement
            await _stop(broken)

    async def stop(self) -> None:
        """Stop; waits up to STOP_SECONDS for unacknowledged records."""
        if self._current is not None:
            await _stop(self._current)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer; if it cannot send its records in time, cancel its task and close its connections anyway."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
        return
    except (KafkaError, OSError, TimeoutError) as error:
        log.debug("error while stopping a producer", action="producer_stop", reason=repr(error))
    sending = producer._sender.sender_task if producer._sender is not None else None
    if sending is not None and not sending.done():
        sending.cancel()
        await asyncio.wait([sending])
    await producer.client.close()
