"""Finds the task that a CloudEvent created: events have the id of the CloudEvent that caused them as `causationid`."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import json

from schemas import Event, MalformedEvent, decode_event, header_map

from ..kafka import EVENTS, StoredRecord, Transport

#: Types of events with the outcome of a submission.
ANSWERS = (b"task.created", b"task.deduplicated", b"task.rejected")

#: The type of the rejected report; rejections of other reports are ignored.
SUBMISSION = "task.created"


class Made(NamedTuple):
    """The outcome of one submission: the task that it created or repeated, or the `code` and `reason` of its rejection (then
    `task` is the id in the submission, if any). `source`: the CloudEvents source, `root`: the root of the task; None if the log
    does not have them."""

    task: str | None
    root: str | None
    source: str | None
    code: str | None = None
    reason: str | None = None


async def find_made(transport: Transport, partitions: int, event_id: str, *, source: str | None = None) -> list[Made]:
    """The outcomes of CloudEvents with this id (and source), each once; steps only if no workflow or single task was created.

    Reads all of `hub.events`. Raises Unreachable, TopicMissing."""
    try:
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(_read(transport, partition, event_id)) for partition in range(partitions)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return distinct([made_by(event) for each in reading for event in each.result()], source)


def distinct(answers: Iterable[Made], source: str | None) -> list[Made]:
    """One outcome per task; rejections only if no task was created. Outcomes with another known source are excluded."""
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
    """The event in a record, if it may be the outcome of the submission; `wanted` is the CloudEvent's id as JSON."""
    if record.value is None or wanted not in record.value or header_map(record.headers).get("ce_type") not in ANSWERS:
        return None
    try:
        event = decode_event(record.value, record.headers)
    except MalformedEvent:
        return None
    return event if getattr(event.data, "report", SUBMISSION) == SUBMISSION else None


def made_by(event: Event) -> Made:
    """The outcome of a submission, from its event."""
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
