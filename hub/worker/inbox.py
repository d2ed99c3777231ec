"""The worker's inbox: one partition of `hub.commands.<pool>`, read in order and without a consumer group."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..errors import HubError
from ..kafka import OffsetOutOfRange, RecordReader, StoredRecord, Transport, next_records, turns_for_effects
from ..logs import Logger

log = Logger(__name__)

#: Delay between attempts to reconnect (seconds): initial, maximum.
RECONNECT_SECONDS = (0.2, 1.0)


class Inbox:
    """Reads from the end of the inbox as of the first `open`; `read` reconnects after failures of the broker."""

    def __init__(self, transport: Transport, topic: str, partition: int, *, client_id: str) -> None:
        self._transport = transport
        self.topic = topic
        self._partition = partition
        self._client_id = client_id
        self._reader: RecordReader | None = None
        self.position: int | None = None

    async def open(self) -> None:
        """Connect; the first time, begin at the end of the inbox. Raises HubError."""
        reader = self._transport.reader(client_id=self._client_id)
        try:
            await reader.open(self.topic, self._partition, self.position or 0)
            if self.position is None:
                self.position = await reader.end_offset()
                reader.seek(self.position)
        except BaseException:
            await reader.close()
            raise
        self._reader = reader

    @property
    def connected(self) -> bool:
        """Whether the inbox can be read; False while it reconnects."""
        return self._reader is not None

    async def close(self) -> None:
        """Disconnect; the position is kept."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def read(self, take: Callable[[Sequence[StoredRecord]], Awaitable[None]]) -> None:
        """Call `take` with all records, those that arrive together at once; does not return. Raises only what `take` raises."""
        pause, away = RECONNECT_SECONDS[0], False
        while True:
            try:
                records = await self._next()
            except (HubError, TimeoutError, OSError) as error:
                if isinstance(error, OffsetOutOfRange):
                    log.error("unread commands were deleted or lost", action="worker_inbox_lost", reason=str(error))
                    self.position = None  # Begin at the end: lost commands are not started, so they are dispatched again.
                elif not away:
                    log.warning("inbox reader disconnected", action="worker_inbox_retry", reason=str(error) or repr(error))
                away = True
                await self.close()
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_SECONDS[1])
                continue
            if away:
                log.info("inbox reader reconnected", action="worker_inbox_back", position=self.position)
                pause, away = RECONNECT_SECONDS[0], False
            if records:
                self.position = records[-1].offset + 1
                await take(records)
                await turns_for_effects(len(records))

    async def _next(self) -> list[StoredRecord]:
        """The next records, or none. Raises as `hub.kafka.next_records` does."""
        if self._reader is None:
            await self.open()
        assert self._reader is not None
        return await next_records(self._reader)
