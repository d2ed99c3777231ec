"""What the data of several events have in common."""

from typing import Annotated

from msgspec import Struct

from ..fields import TIME, WORKER, ParentId, Queue, ReportNumber, StepKey, Tags, about


class EventData(Struct, kw_only=True, omit_defaults=True):
    """The base of every event's data."""


class Ended(EventData, kw_only=True):
    """What every terminal event carries, so that a subscriber needs no memory."""

    created_at: Annotated[str, about("When the task was created (RFC 3339, UTC).", "2026-01-01T09:30:00.000Z")]
    finished_at: Annotated[str, about("When the task ended (RFC 3339, UTC).", TIME)]
    scheduled_at: Annotated[str | None, about("When it began to wait for its start time; absent: it did not wait.")] = None
    ready_at: Annotated[str | None, about("When it became ready the last time (RFC 3339, UTC); absent: it never was.")] = None
    dispatched_at: Annotated[str | None, about("When its last command was issued; absent: it was never dispatched.")] = None
    started_at: Annotated[str | None, about("When its last attempt's body began; absent: none began.")] = None
    attempt: Annotated[int, about("Number of the last attempt, from 1; 0 or absent: there was none.", 1)] = 0
    max_attempts: Annotated[int, about("How many attempts may end by an error or a timeout; absent: 1.", 3)] = 1
    queue: Queue = "default"
    worker: Annotated[str | None, about("Incarnation of the worker that had the last attempt; absent: none.", WORKER)] = None
    parent_id: ParentId = None
    key: StepKey = None
    tags: Tags = {}
    number: ReportNumber = 0
