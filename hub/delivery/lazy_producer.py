"""A producer that is started when it is first needed, and again after it was discarded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

STOP_SECONDS = 3.0

_log = logging.getLogger(__name__)


class LazyProducer:
    """Use from one event loop. `make` creates the producer, and may raise."""

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self._make = make
        self._producer: Any | None = None
        self._lock = asyncio.Lock()

    async def started(self) -> Any:
        """The producer. Raises what `make` and its start raise."""
        async with self._lock:
            if self._producer is None:
                producer = await self._make()
                try:
                    await producer.start()
                except BaseException:
                    await stop_quietly(producer)
                    raise
                self._producer = producer
            return self._producer

    async def discard(self) -> None:
        """Stop the producer; the next call of `started` starts another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_quietly(producer)


async def stop_quietly(client: Any) -> None:
    """Stop a client of Kafka, for at most STOP_SECONDS; an error is only logged."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await client.stop()
    except Exception as error:
        _log.debug("could not stop a client: %s", error, extra={"action": "client_stopped_badly"})
