"""Fields that several events have in common."""

from typing import Annotated

from msgspec import Struct

from ..fields import TIME, WORKER, ParentId, Queue, ReportNumber, StepKey, Tags, TraceLink, TracePeriod, WaitedSince, about


class EventData(Struct, kw_only=True, omit_defaults=True, gc=False):
    """Base of the data of all events."""


class Ended(EventData, kw_only=True):
    """Fields of all terminal events, so that a subscriber need not store earlier events."""

    created_at: Annotated[str, about("When the task was created (RFC 3339, UTC).", "2026-01-01T09:30:00.000Z")]
    finished_at: Annotated[str, about("When the task ended (RFC 3339, UTC).", TIME)]
    scheduled_at: Annotated[str | None, about("When the task began to wait for its start time; absent: it did not wait.")] = None
    ready_at: Annotated[str | None, about("When the task last became ready (RFC 3339, UTC); absent: never.")] = None
    dispatched_at: Annotated[str | None, about("When the task was last dispatched; absent: never.")] = None
    started_at: Annotated[str | None, about("When the body of the last attempt started; absent: none started.")] = None
    attempt: Annotated[int, about("Number of the last attempt, from 1; 0 or absent: no attempt.", 1)] = 0
    max_attempts: Annotated[int, about("How many attempts may end by an error or a timeout; absent: 1.", 3)] = 1
    queue: Queue = "default"
    worker: Annotated[str | None, about("Incarnation of the worker of the last attempt; absent: none.", WORKER)] = None
    parent_id: ParentId = None
    key: StepKey = None
    tags: Tags = {}
    number: ReportNumber = 0
    waited_since: WaitedSince = None
    trace_period: TracePeriod = 0
    trace_link: TraceLink = None
