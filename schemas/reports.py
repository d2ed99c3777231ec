"""Reports: what outsiders assert or ask on `hub.intake` (key = root id, or the entity's id).

`REPORTS` maps the CloudEvents type to the struct its value decodes into. Unknown fields are refused by name.
`task.created` is declared in `tasks.py` (`Submission`).

Headers of a report: ce_specversion, ce_type, ce_source, ce_id, content-type; optional traceparent, replyto
("<partition>:<token>" on `hub.replies`) and hub-origin ("<partition>/<offset>", set by the engine when it forwards).
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from . import definitions as d
from .fields import TASK, TOKEN, WORKER, RanSeconds, about
from .tasks import Submission, TaskError

#: Numbers that are counted up from 0, and names that cannot be longer (characters).
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]


#: Attempts that one worker can hold in one engine partition.
HOLDING_MAX = 10_000


class Report(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every report has in common: nothing but its type."""


class TaskRequest(Report, kw_only=True):
    """What every request about one task has in common: which task."""

    id: Annotated[str, about("Id of the task, 1 to 255 bytes.", TASK)]
    root: Annotated[
        str | None, about("Id of the workflow's root; needed where `id` is one of its steps; absent: `id` is a root.", "order-6")
    ] = None


class TaskCancel(TaskRequest, kw_only=True):
    """Ask that a task, or a whole workflow (by its root), ends."""

    reason: Annotated[str, about("Why, as text for people; at most 4,096 characters.", "asked by support")] = ""
    by: Annotated[str | None, about("Who asks, at most 255 bytes; absent: unknown.", "support@example.com")] = None


class TaskAwait(TaskRequest, kw_only=True):
    """Ask for the outcome (`wait`), or for the state as it is now. Answered on `hub.replies`; writes nothing."""

    wait: Annotated[bool, about("Answer when the task has ended; false: answer at once; absent: true.", False)] = True


class AttemptReport(Report, kw_only=True):
    """What a worker says of an attempt. All but `number` and `incarnation` are as the command gave them."""

    task: Annotated[Name, about("Id of the task.", TASK)]
    root: Annotated[Name, about("Id of its root, which is also the key of the record.", TASK)]
    attempt: Annotated[Count, about("Number of the attempt, from 1.", 1)]
    dispatch: Annotated[Count, about("Number of the dispatch, from 1.", 1)]
    token: Annotated[Name, about("Token of the lease.", TOKEN)]
    incarnation: Annotated[Name, about("Incarnation of the worker: the UUID of one of its processes.", WORKER)]
    number: Annotated[Count, about("Counts the reports of this attempt, from 1: a repeated one changes nothing.", 2)]


class AttemptStarted(AttemptReport, kw_only=True):
    """The body is about to run (at most once: may it run?)."""


class AttemptProgressed(AttemptReport, kw_only=True):
    """The body reports its progress."""

    percent: Annotated[float | None, about("How much is done, 0 to 100; absent: unknown.", 50.0)] = None
    message: Annotated[str, about("What is being done; cut after 4,096 characters.", "half-way")] = ""


class AttemptCompleted(AttemptReport, kw_only=True):
    """The body returned."""

    result: Annotated[Raw, about("What it returned, any JSON of at most 1 MiB; absent: null.", {"receipt": TOKEN})] = Raw(b"null")
    ran_seconds: RanSeconds = None


class AttemptFailed(AttemptReport, kw_only=True):
    """The body raised."""

    error: Annotated[TaskError, about("What it raised.")]
    retry_after: Annotated[
        float | None, about("Seconds before the next attempt, instead of the policy's backoff; absent: the backoff.", 2.5)
    ] = None
    timed_out: Annotated[
        bool, about("The worker itself ended the attempt, after the time that its command gave; absent: false.", False)
    ] = False
    ran_seconds: RanSeconds = None


class AttemptCancelled(AttemptReport, kw_only=True):
    """A cancel reached the code and it has stopped."""


class AttemptReleased(AttemptReport, kw_only=True):
    """Handed back without a start (a drain, or no free slot in time): not counted."""

    reason: Annotated[str, about("Why, as text for people; cut after 4,096 characters.", "draining")] = ""


class WorkerReport(Report, kw_only=True):
    """What a worker says of itself, to every engine partition.

    `definitions` are given at the registration, after a change, and in the report that follows `engine.announced` or
    `engine.definitions_wanted`; every other report names their `revision` only.
    """

    incarnation: Annotated[Name, about("The UUID of the process, new with each start.", WORKER)]
    pool: Annotated[Name, about("Pool of the worker, which names its topic `hub.commands.<pool>`.", "default")]
    inbox: Annotated[Count, about("Partition of that topic that the worker reads, from 0.", 3)]
    queues: Annotated[list[str], about("Queues that it serves, at most 10,000.", ["default"])]
    slots: Annotated[Count, about("How many tasks it runs at once.", 64)]
    credit: Annotated[
        Count,
        about(
            "How many commands of this engine partition it holds at once, running and waiting together: an absolute number,"
            " so that a lost or repeated report does no harm.",
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
        float, about("Seconds of silence after which it counts as dead, at most 3,600; absent: 10 seconds.", 10.0)
    ] = 10.0
    host: Annotated[Name, about("Name of its host; absent: unknown.", "host-3")] = ""
    pid: Annotated[Count, about("Process id on that host; 0 or absent: unknown.", 4711)] = 0


class WorkerRegistered(WorkerReport, kw_only=True):
    """The first report of an incarnation, which reads its inbox already, and the first after what it has registered changed: what
    it says of a definition holds from now on."""


class WorkerHeartbeat(WorkerReport, kw_only=True):
    """Extends every lease that the incarnation holds in this partition."""

    holding: Annotated[
        Annotated[list[Name], Meta(max_length=HOLDING_MAX)] | None,
        about("Tokens of what it has in hand, each until its end is stored; absent: it does not say.", [TOKEN]),
    ] = None


class WorkerDraining(WorkerReport, kw_only=True):
    """Takes nothing new."""


class WorkerStopped(WorkerReport, kw_only=True):
    """Left in order; holds nothing."""


class WorkerLost(Report, kw_only=True):
    """A supervisor saw the process die."""

    incarnation: Annotated[Name, about("Incarnation of the worker that is dead.", WORKER)]
    reason: Annotated[str, about("How it died, as text for people.", "its process 4711 ended with SIGKILL")] = ""


class DefinitionDeprecate(Report, kw_only=True):
    """Ask that a version is no longer the default of its name; an engine partition that gets it answers for itself alone."""

    name: d.Name
    version: d.RequiredVersion
    namespace: d.Namespace = None
    reason: Annotated[str, about("Why, as text for people; at most 4,096 characters.", "2 replaces it")] = ""
    by: Annotated[str | None, about("Who asks, at most 255 bytes; absent: unknown.", "support@example.com")] = None


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
}
