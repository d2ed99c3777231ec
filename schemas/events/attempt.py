"""What befalls a single attempt."""

from typing import Annotated, Literal

from ..fields import WORKER, Attempt, Dispatch, RanSeconds, ReportNumber, Token, about
from ..tasks import TaskError
from .base import EventData


class AttemptEvent(EventData, kw_only=True):
    """One attempt, by its number, dispatch and the worker that had it."""

    attempt: Attempt
    dispatch: Dispatch = 0
    worker: Annotated[str | None, about("Incarnation of the worker that had the attempt; absent: none had.", WORKER)] = None
    number: ReportNumber = 0


class AttemptStartedEvent(AttemptEvent, kw_only=True):
    """The body of a second or later attempt began."""

    token: Token


class AttemptGranted(AttemptEvent, kw_only=True):
    """At most once: the body may run, this once."""

    token: Token


class AttemptFailedEvent(AttemptEvent, kw_only=True):
    """The body raised. What follows (a retry, the end) is another event."""

    error: Annotated[TaskError, about("What the body raised.")]
    ran_seconds: RanSeconds = None


class AttemptTimedOut(AttemptEvent, kw_only=True):
    """The attempt took too long."""

    timeout_seconds: Annotated[float, about("How long it was allowed to take, in seconds from its start.", 30.0)]


class AttemptLeaseExpired(AttemptEvent, kw_only=True):
    """No heartbeat for the length of a lease: the worker has lost the attempt."""

    lease_seconds: Annotated[float, about("Length of the lease, in seconds.", 10.0)]


class AttemptLost(AttemptEvent, kw_only=True):
    """Its worker is known to be dead."""

    reason: Annotated[str, about("How that is known, as text for people.", "its process 4711 ended with SIGKILL")] = ""


class AttemptCancelledEvent(AttemptEvent, kw_only=True):
    """The code has stopped after a cancel."""


class AttemptReleasedEvent(AttemptEvent, kw_only=True):
    """Handed back without a start; not counted."""

    reason: Annotated[str, about("Why the worker did not start it, as text for people.", "draining")] = ""


class AttemptSuperseded(AttemptEvent, kw_only=True):
    """Not started by its start deadline: will be dispatched again, with the next dispatch number."""

    start_seconds: Annotated[float, about("How long the worker had to start it, in seconds from its dispatch.", 10.0)]


class AttemptReportRejected(EventData, kw_only=True):
    """A report that changed nothing, and why. On the entity `engine/<partition>`."""

    code: Annotated[
        Literal["unknown_task", "already_ended", "stale_attempt", "stale_token", "foreign_worker", "duplicate", "wrong_state"],
        about("Why, for programs.", "stale_token"),
    ]
    reason: Annotated[str, about("Why, as text for people; at most 1,024 characters.", "the lease of this attempt has ended")]
    task: Annotated[str, about("Id of the task that the report names.", "order-7")]
    report: Annotated[str, about("Type of the report.", "attempt.completed")]
    attempt: Annotated[int, about("Number of the attempt that the report names.", 1)]
    worker: Annotated[str, about("Incarnation of the worker that reported.", WORKER)]
