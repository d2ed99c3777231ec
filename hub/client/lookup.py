"""Which task a CloudEvent made: found on the log, where the id of the CloudEvent is the `causationid` of what it caused."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import json

from schemas import Event, MalformedEvent, decode_event, header_map

from ..kafka import EVENTS, StoredRecord, Transport

#: Types of events that say what became of a submission.
ANSWERS = (b"task.created", b"task.deduplicated", b"task.rejected")

#: The report that a refusal is about, among those of other requests.
SUBMISSION = "task.created"


class Made(NamedTuple):
    """What became of one submission: the task that it made or repeated, or why it was refused (`code`, `reason`; `task` where it
    named one). `source` is the CloudEvents source, `root` the root of the task, both None where the log does not have them."""

    task: str | None
    root: str | None
    source: str | None
    code: str | None = None
    reason: str | None = None


async def find_made(transport: Transport, partitions: int, event_id: str, *, source: str | None = None) -> list[Made]:
    """What CloudEvents of this id (and source) made, each once; steps only where no workflow or single task was made.

    Reads all of `hub.events` that is kept. Raises Unreachable, TopicMissing."""
    try:
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(_read(transport, partition, event_id)) for partition in range(partitions)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return distinct([made_by(event) for each in reading for event in each.result()], source)


def distinct(answers: Iterable[Made], source: str | None) -> list[Made]:
    """One for each task, and refusals where no task was made. Those of another source are left out, where theirs is known."""
    by_task: dict[str, Made] = {}
    refused = []
    for made in answers:
        if source is not None and made.source not in (source, None):
            continue
        if made.task is None or made.code is not None:
            refused.append(made)
        elif made.task not in by_task or made.root is not None:
            by_task[made.task] = made
    roots = [made for made in by_task.values() if made.root in (made.task, None)]
    return roots or list(by_task.values()) or list(dict.fromkeys(refused))


def answer_in(record: StoredRecord, wanted: bytes) -> Event | None:
    """The event in a record that may say what became of a submission; `wanted` is the CloudEvent's id as JSON."""
    if record.value is None or wanted not in record.value or header_map(record.headers).get("ce_type") not in ANSWERS:
        return None
    try:
        event = decode_event(record.value, record.headers)
    except MalformedEvent:
        return None
    return event if getattr(event.data, "report", SUBMISSION) == SUBMISSION else None


def made_by(event: Event) -> Made:
    """What an event says became of a submission."""
    match event.type:
        case "task.created":
            return Made(event.subject, event.rootid, event.data.source)
        case "task.deduplicated":
            return Made(event.data.task, None, None)
    return Made(event.data.task, None, None, event.data.code, event.data.reason)


async def _read(transport: Transport, partition: int, event_id: str) -> list[Event]:
    wanted, found = json.encode(event_id), []
    async for record in transport.read_all(EVENTS, partition):
        event = answer_in(record, wanted)
        if event is not None and event.causationid == event_id:
            found.append(event)
    return found
