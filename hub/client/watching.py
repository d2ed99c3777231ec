"""The events of one task or workflow, read from `hub.events` as they are committed."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from schemas import TERMINAL_STATES, Event, MalformedEvent, decode_event

from ..kafka import EVENTS, RecordReader, Transport, follow


async def events_of(
    transport: Transport, partition: int, offset: int, task: str, *, client_id: str, outage_seconds: float
) -> AsyncGenerator[Event, None]:
    """The events of a task, and of its steps if it is a workflow, from an offset of its partition up to its end. Raises as
    `hub.kafka.follow` does."""

    async def begin(reader: RecordReader) -> int:
        return max(offset, await reader.start_offset())

    following = follow(transport, EVENTS, partition, begin, client_id=client_id, outage_seconds=outage_seconds)
    async with aclosing(following) as batches:
        async for records in batches:
            for record in records:
                try:
                    event = decode_event(record.value, record.headers)
                except MalformedEvent:
                    continue  # `hub verify` reports it.
                if task not in (event.subject, event.rootid):
                    continue
                yield event
                if event.subject == task and event.to_state in TERMINAL_STATES:
                    return
