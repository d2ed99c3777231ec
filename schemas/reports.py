"""Reports: records of clients and workers on `hub.intake` (key: root id, or the entity's id).

`REPORTS` maps CloudEvents types to the structs of their values. Unknown fields are rejected by name.
`task.created` is declared in `tasks.py` (`Submission`).

Headers of a report: ce_specversion, ce_type, ce_source, ce_id, content-type; optional traceparent, replyto
("<partition>:<token>" on `hub.replies`) and hub-origin ("<partition>/<offset>", set by the engine when it forwards).
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from . import definitions as d
from .fields import TASK, TOKEN, WORKER, RanSeconds, about
from .tasks import Submission, TaskError

#: Non-negative numbers, and names with a limited length (characters).
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]


#: Most attempts that a worker can hold in one engine partition.
HOLDING_MAX = 10_000


class Report(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Base of all reports."""


class TaskRequest(Report, kw_only=True):
    """Common fields of requests about one task."""

    id: Annotated[str, about("Id of the task, 1 to 255 bytes.", TASK)]
    root: Annotated[
        str | None, about("Id of the workflow's root; required if `id` is a step; absent: `id` is a root.", "order-6")
    ] = None


class TaskCancel(TaskRequest, kw_only=True):
    """Request to cancel a task, or a workflow by its root."""

    reason: Annotated[str, about("Reason, as text for people; at most 4,096 characters.", "asked by support")] = ""
    by: Annotated[str | None, about("Requester, at most 255 bytes; absent: unknown.", "support@example.com")] = None


class TaskAwait(TaskRequest, kw_only=True):
    """Request for the outcome of a task (`wait`), or for its current state. The reply is on `hub.replies`; no event is
    written."""

    wait: Annotated[bool, about("Whether to reply when the task has ended (true) or at once (false); absent: true.", False)] = (
        True
    )


class AttemptReport(Report, kw_only=True):
    """Common fields of reports about an attempt. All but `number` and `incarnation` are copied from the command."""

    task: Annotated[Name, about("Id of the task.", TASK)]
    root: Annotated[Name, about("Id of the root, which is also the key of the record.", TASK)]
    attempt: Annotated[Count, about("Number of the attempt, from 1.", 1)]
    dispatch: Annotated[Count, about("Number of the dispatch, from 1.", 1)]
    token: Annotated[Name, about("Token of the lease.", TOKEN)]
    incarnation: Annotated[Name, about("Incarnation of the worker: the UUID of one of its processes.", WORKER)]
    number: Annotated[Count, about("Number of the report within this attempt, from 1, to detect repeated reports.", 2)]


class AttemptStarted(AttemptReport, kw_only=True):
    """The body is about to run. For an at-most-once task this requests the grant."""


class AttemptProgressed(AttemptReport, kw_only=True):
    """The body reports progress."""

    percent: Annotated[float | None, about("Progress in percent, 0 to 100; absent: unknown.", 50.0)] = None
    message: Annotated[str, about("Text about the current work; truncated to 4,096 characters.", "half-way")] = ""


class AttemptCompleted(AttemptReport, kw_only=True):
    """The body returned."""

    result: Annotated[Raw, about("Return value of the body, any JSON of at most 1 MiB; absent: null.", {"receipt": TOKEN})] = Raw(
        b"null"
    )
    ran_seconds: RanSeconds = None


class AttemptFailed(AttemptReport, kw_only=True):
    """The body raised an exception."""

    error: Annotated[TaskError, about("The exception.")]
    retry_after: Annotated[
        float | None, about("Seconds until the next attempt, instead of the backoff of the policy; absent: the backoff.", 2.5)
    ] = None
    timed_out: Annotated[
        bool, about("Whether the worker ended the attempt because of the timeout in its command; absent: false.", False)
    ] = False
    ran_seconds: RanSeconds = None


class AttemptCancelled(AttemptReport, kw_only=True):
    """The body stopped after a cancel request."""


class AttemptReleased(AttemptReport, kw_only=True):
    """The worker returned the attempt without starting it (draining, or no free slot in time); it is not counted."""

    reason: Annotated[str, about("Reason, as text for people; truncated to 4,096 characters.", "draining")] = ""


class WorkerReport(Report, kw_only=True):
    """A worker's description of itself, sent to every engine partition.

    `definitions` are given at the registration, after a change, and in the report that follows `engine.announced` or
    `engine.definitions_wanted`; every other report names their `revision` only.
    """

    incarnation: Annotated[Name, about("UUID of the process, new at each start.", WORKER)]
    pool: Annotated[Name, about("Pool of the worker; its commands topic is `hub.commands.<pool>`.", "default")]
    inbox: Annotated[Count, about("Partition of that topic that the worker reads, from 0.", 3)]
    queues: Annotated[list[str], about("Queues that it serves, at most 10,000.", ["default"])]
    slots: Annotated[Count, about("Number of slots: tasks that it runs concurrently.", 64)]
    credit: Annotated[
        Count,
        about(
            "Number of commands of this engine partition that it may hold at once, running and waiting: an absolute number,"
            " so that lost and repeated reports do no harm.",
            16,
        ),
    ]
    revision: Annotated[
        Count, about("Counts the changes of what the incarnation has registered, from 1; 0 or absent: it never changes.", 1)
    ] = 0
    definitions: Annotated[
        list[d.Definition] | None,
        about("All that it has registered, at most 2,000; absent: as in the report that gave this revision."),
    ] = None
    lease_seconds: Annotated[
        float, about("Seconds without a heartbeat after which the worker is lost, at most 3,600; absent: 10 seconds.", 10.0)
    ] = 10.0
    host: Annotated[Name, about("Host name of the worker; absent: unknown.", "host-3")] = ""
    pid: Annotated[Count, about("Process id on that host; 0 or absent: unknown.", 4711)] = 0


class WorkerRegistered(WorkerReport, kw_only=True):
    """The first report of an incarnation, which reads its inbox already, and the first after what it has registered changed: what
    it says of a definition holds from now on."""


class WorkerHeartbeat(WorkerReport, kw_only=True):
    """Extends all leases of the incarnation in this partition."""

    holding: Annotated[
        Annotated[list[Name], Meta(max_length=HOLDING_MAX)] | None,
        about("Tokens of the attempts that it holds, each until its outcome is stored; absent: unknown.", [TOKEN]),
    ] = None


class WorkerDraining(WorkerReport, kw_only=True):
    """The worker accepts no new work."""


class WorkerStopped(WorkerReport, kw_only=True):
    """The worker shut down and holds no attempts."""


class WorkerLost(Report, kw_only=True):
    """A supervisor observed that the process of a worker died."""

    incarnation: Annotated[Name, about("Incarnation of the lost worker.", WORKER)]
    reason: Annotated[str, about("How it died, as text for people.", "its process 4711 ended with SIGKILL")] = ""


class DefinitionDeprecate(Report, kw_only=True):
    """Ask that a version is no longer the default of its name; an engine partition that gets it answers for itself alone."""

    name: d.Name
    version: d.RequiredVersion
    namespace: d.Namespace = None
    reason: Annotated[str, about("Reason, as text for people; at most 4,096 characters.", "2 replaces it")] = ""
    by: Annotated[str | None, about("Requester, at most 255 bytes; absent: unknown.", "support@example.com")] = None


class EventObserved(Report, kw_only=True):
    """An observation of another process, to be put on the log as an event: about a subscriber or an alert."""

    entity: Annotated[
        Name,
        about("Entity of the event, `subscriber/<id>` or `alert/<rule>/<key>`; its id keys the record.", "subscriber/console"),
    ]
    event: Annotated[Name, about("Type of the event.", "subscriber.paused")]
    data: Annotated[Raw, about("Data of the event, as declared for its type, at most 16 KiB.", {"by": "support@example.com"})] = (
        Raw(b"{}")
    )


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
    "definition.deprecate": DefinitionDeprecate,
    "worker.registered": WorkerRegistered,
    "worker.heartbeat": WorkerHeartbeat,
    "worker.draining": WorkerDraining,
    "worker.stopped": WorkerStopped,
    "worker.lost": WorkerLost,
    "event.observed": EventObserved,
}


def report_headers(report_type: str, source: str, report_id: str) -> list[tuple[str, bytes]]:
    """The headers of a report: its CloudEvents type, the URI path of its sender, and its id, unique within the source."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", report_type.encode()),
        ("ce_source", source.encode()),
        ("ce_id", report_id.encode()),
        ("content-type", b"application/json"),
    ]
