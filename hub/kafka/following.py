"""Follows a partition without an end, across restarts of the broker: no record is skipped, and none is returned twice."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import coroutine
from typing import Protocol

from ..errors import Unreachable
from ..logs import Logger
from .records import StoredRecord
from .sender import SEND_SECONDS
from .transport import RecordReader, Transport

log = Logger(__name__)

READ_RECORDS = 2_000
CHECK_SECONDS = 5.0
"""A reader that has received nothing for this time is checked."""
RECONNECT_SECONDS = 0.2
FEW_RECORDS = 8
TURNS_OF_EFFECTS = 3
"""In the first turn of the event loop after a record an attempt begins or a waiting caller is woken; in the second its report
leaves or the caller runs."""


class Begin(Protocol):
    """Determines the offset at which a reader that was just opened begins."""

    def __call__(self, reader: RecordReader, /) -> Awaitable[int]: ...


async def follow(
    transport: Transport, topic: str, partition: int, begin: Begin, *, client_id: str, outage_seconds: float = SEND_SECONDS
) -> AsyncGenerator[list[StoredRecord], None]:
    """Committed records from the offset that `begin` returns, as they are stored; close the generator to disconnect.

    While no broker responds, as during a restart, the reader is replaced by one that continues after the last record. Raises
    Unreachable if that lasts longer than `outage_seconds`, TopicMissing, OffsetOutOfRange, CorruptBatch."""
    loop = asyncio.get_running_loop()
    position: int | None = None
    failing_since: float | None = None
    while True:
        try:
            async with transport.reader(client_id=client_id) as reader:
                await reader.open(topic, partition, position or 0)
                if position is None:
                    position = await begin(reader)
                    reader.seek(position)
                while True:
                    records = await next_records(reader)
                    failing_since = None
                    if records:
                        position = records[-1].offset + 1
                        yield records
        except (Unreachable, TimeoutError, OSError) as error:
            if failing_since is None:
                failing_since = loop.time()
                log.info("reading interrupted", action="reading_interrupted", topic=topic, partition=partition, reason=str(error))
            elif loop.time() - failing_since >= outage_seconds:
                raise
            await asyncio.sleep(RECONNECT_SECONDS)


async def next_records(reader: RecordReader, *, is_expecting: Callable[[], object] = lambda: True) -> list[StoredRecord]:
    """The next records; none after CHECK_SECONDS without any. The reader is then checked to be at the end, if it
    `is_expecting` records. Raises HubError (ConnectionLost if it hangs), TimeoutError, OSError."""
    loop = asyncio.get_running_loop()
    check_at = loop.time() + CHECK_SECONDS
    while (left := check_at - loop.time()) > 0:
        if records := await reader.read(READ_RECORDS, math.ceil(left * 1000)):
            return records
    if is_expecting():
        await reader.ensure_moving()
    return []


@coroutine
def turns_for_effects(record_count: int) -> Generator[None, None, None]:
    """Call it between processing records and requesting more: what a few records cause is sent before the next request. After
    many, more are probably there, and are requested at once. Costs less than `asyncio.sleep(0)` for each turn."""
    if record_count <= FEW_RECORDS:
        for _ in range(TURNS_OF_EFFECTS):
            yield
