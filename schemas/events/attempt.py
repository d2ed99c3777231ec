"""Events of a single attempt."""

from typing import Annotated, Literal

from ..fields import TIME, WORKER, Attempt, Dispatch, Queue, RanSeconds, ReportNumber, Token, TracePeriod, about
from ..tasks import TaskError
from .base import EventData


class AttemptEvent(EventData, kw_only=True):
    """Common fields: an attempt is identified by its number, dispatch and worker."""

    attempt: Attempt
    dispatch: Dispatch = 0
    worker: Annotated[str | None, about("Incarnation of the worker of the attempt; absent: none.", WORKER)] = None
    number: ReportNumber = 0
    trace_period: TracePeriod = 0


class AttemptEnded(AttemptEvent, kw_only=True):
    """Common fields of the ends of attempts and dispatches, so that a subscriber need not store earlier events."""

    queue: Queue = "default"
    ready_at: Annotated[str | None, about("When the task became ready before this dispatch; absent: unknown.", TIME)] = None
    dispatched_at: Annotated[str | None, about("When the attempt was dispatched; absent: unknown.", TIME)] = None
    started_at: Annotated[str | None, about("When the body of this attempt started; absent: it did not start.", TIME)] = None


class AttemptStartedEvent(AttemptEvent, kw_only=True):
    """The body of a second or later attempt started."""

    token: Token


class AttemptGranted(AttemptEvent, kw_only=True):
    """The body of an at-most-once task may run once."""

    token: Token


class AttemptFailedEvent(AttemptEnded, kw_only=True):
    """The body raised an exception. A retry or the end of the task is a separate event."""

    error: Annotated[TaskError, about("Exception that the body raised.")]
    ran_seconds: RanSeconds = None


class AttemptTimedOut(AttemptEnded, kw_only=True):
    """The attempt exceeded its timeout."""

    timeout_seconds: Annotated[float, about("Timeout of the attempt, in seconds from its start.", 30.0)]


class AttemptLeaseExpired(AttemptEnded, kw_only=True):
    """The lease expired without a heartbeat: the worker no longer holds the attempt."""

    lease_seconds: Annotated[float, about("Length of the lease, in seconds.", 10.0)]


class AttemptLost(AttemptEnded, kw_only=True):
    """The worker of the attempt is lost."""

    reason: Annotated[str, about("Evidence of the loss, as text for people.", "its process 4711 ended with SIGKILL")] = ""


class AttemptCancelledEvent(AttemptEnded, kw_only=True):
    """The body stopped after a cancel request."""


class AttemptReleasedEvent(AttemptEnded, kw_only=True):
    """The worker returned the attempt without starting it; the attempt is not counted."""

    reason: Annotated[str, about("Why the worker did not start it, as text for people.", "draining")] = ""


class AttemptSuperseded(AttemptEnded, kw_only=True):
    """The attempt was not started in time: it is dispatched again with the next dispatch number."""

    start_seconds: Annotated[float, about("Time that the worker had to start the attempt, in seconds from its dispatch.", 10.0)]


class AttemptReportRejected(EventData, kw_only=True):
    """A report of a worker was rejected and changed nothing. Entity: `engine/<partition>`."""

    code: Annotated[
        Literal["unknown_task", "already_ended", "stale_attempt", "stale_token", "foreign_worker", "duplicate", "wrong_state"],
        about("Code of the rejection.", "stale_token"),
    ]
    reason: Annotated[str, about("Reason, as text for people; at most 1,024 characters.", "the lease of this attempt has ended")]
    task: Annotated[str, about("Id of the task in the report.", "order-7")]
    report: Annotated[str, about("Type of the report.", "attempt.completed")]
    attempt: Annotated[int, about("Number of the attempt in the report.", 1)]
    worker: Annotated[str, about("Incarnation of the worker that sent the report.", WORKER)]
