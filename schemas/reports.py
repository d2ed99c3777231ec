"""Reports: what outsiders assert or ask on `hub.intake` (key = root id, or the entity's id).

`REPORTS` maps the CloudEvents type to the struct its value decodes into. Unknown fields are refused by name.
`task.created` is declared in `tasks.py` (`Submission`).

Headers of a report: ce_specversion, ce_type, ce_source, ce_id, content-type; optional traceparent, replyto
("<partition>:<token>" on `hub.replies`) and hub-origin ("<partition>/<offset>", set by the engine when it forwards).
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from .tasks import Submission, TaskError, TaskOptions

#: Numbers that are counted up from 0, and names that cannot be longer (characters).
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]


#: Attempts that one worker can hold in one engine partition.
HOLDING_MAX = 10_000


class Report(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every report has in common: nothing but its type."""


class TaskCancel(Report, kw_only=True):
    """Ask that a task (or a whole workflow, by its root) ends; `root` is needed when `id` is a node of a graph."""

    id: str
    root: str | None = None
    reason: str = ""
    by: str | None = None


class TaskAwait(Report, kw_only=True):
    """Ask for the outcome (`wait`), or for the state as it is now. Answered on `hub.replies`; writes nothing."""

    id: str
    root: str | None = None
    wait: bool = True


class AttemptReport(Report, kw_only=True):
    """What a worker says of an attempt. `number` counts the reports of this attempt from 1."""

    task: Name
    root: Name
    attempt: Count
    dispatch: Count
    token: Name
    incarnation: Name
    number: Count


class AttemptStarted(AttemptReport, kw_only=True):
    """The body is about to run (at most once: may it run?)."""


class AttemptProgressed(AttemptReport, kw_only=True):
    """`percent` 0..100 or None when unknown."""

    percent: float | None = None
    message: str = ""


class AttemptCompleted(AttemptReport, kw_only=True):
    """The body returned; `ran_seconds` is the worker's own measure."""

    result: Raw = Raw(b"null")
    ran_seconds: float | None = None


class AttemptFailed(AttemptReport, kw_only=True):
    """The body raised. `retry_after` (seconds) wins over the policy's backoff. `timed_out`: the worker's own watch ended the
    attempt, after the time that its command gave."""

    error: TaskError
    retry_after: float | None = None
    timed_out: bool = False
    ran_seconds: float | None = None


class AttemptCancelled(AttemptReport, kw_only=True):
    """A cancel reached the code and it has stopped."""


class AttemptReleased(AttemptReport, kw_only=True):
    """Handed back without a start (drain, no free slot within `hold`): not counted."""

    reason: str = ""


class WorkerReport(Report, kw_only=True):
    """What a worker says of itself, to every engine partition.

    Complete in itself: whoever reads any one of these knows the worker. `credit` is how many commands of **this** engine
    partition the worker is willing to hold at once (running and waiting together): an absolute number, so that a lost or
    repeated report does no harm. `inbox` is its partition of `hub.commands.<pool>`; `names` the task names it can run; `options`
    what their handlers were registered with, by name, where they say anything.
    """

    incarnation: Name
    pool: Name
    inbox: Count
    queues: list[str]
    names: list[str]
    slots: Count
    credit: Count
    options: dict[str, TaskOptions] = {}
    lease_seconds: float = 10.0
    host: Name = ""
    pid: Count = 0


class WorkerRegistered(WorkerReport, kw_only=True):
    """First words of an incarnation; it reads its inbox already."""


class WorkerHeartbeat(WorkerReport, kw_only=True):
    """Extends every lease the incarnation holds in this partition. `holding` lists the tokens of what it has in hand, each until
    its end is stored; None: it does not say."""

    holding: Annotated[list[Name], Meta(max_length=HOLDING_MAX)] | None = None


class WorkerDraining(WorkerReport, kw_only=True):
    """Takes nothing new."""


class WorkerStopped(WorkerReport, kw_only=True):
    """Left in order; holds nothing."""


class WorkerLost(Report, kw_only=True):
    """A supervisor saw the process die."""

    incarnation: Name
    reason: str = ""


REPORTS: dict[str, type[Submission] | type[Report]] = {
    "task.created": Submission,
    "task.cancel": TaskCancel,
    "task.await": TaskAwait,
    "attempt.started": AttemptStarted,
    "attempt.progressed": AttemptProgressed,
    "attempt.completed": AttemptCompleted,
    "attempt.failed": AttemptFailed,
    "attempt.cancelled": AttemptCancelled,
    "attempt.released": AttemptReleased,
    "worker.registered": WorkerRegistered,
    "worker.heartbeat": WorkerHeartbeat,
    "worker.draining": WorkerDraining,
    "worker.stopped": WorkerStopped,
    "worker.lost": WorkerLost,
}
