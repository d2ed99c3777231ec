"""The lifecycle of a task: admission, waiting, running."""

from typing import Annotated, Literal

from msgspec import Raw

from ..fields import (
    TASK,
    TIME,
    TOKEN,
    Attempt,
    By,
    Dispatch,
    Inbox,
    LeaseSeconds,
    ParentId,
    Pool,
    Priority,
    Queue,
    RanSeconds,
    Reason,
    ReportNumber,
    RequiredQueue,
    StepKey,
    TaskId,
    Token,
    Worker,
    about,
)
from ..tasks import ABSENT, DEFAULT_POLICY, AdmittedFields, Dependency, ExecutionPolicy, TaskError
from .base import Ended, EventData

RejectionCode = Literal[
    "unknown_root",
    "unknown_task",
    "unknown_dependency",
    "unknown_name",
    "unknown_version",
    "invalid_input",
    "cycle",
    "limit_exceeded",
    "idempotency_conflict",
    "id_conflict",
    "already_ended",
    "already_cancelling",
    "already_deprecated",
    "malformed",
    "storage_low",
]


# Admission


class TaskCreated(AdmittedFields, EventData, kw_only=True):
    """Admitted: everything that was asked for, with defaults filled in. Nothing later reads the submission again.

    `version` and `policy` are what holds, by the submission and the definition of its name. Where no worker has registered the
    name yet (`unresolved`), the definition decides at the first dispatch (`task.dispatched`). `delivery`, `retry` and
    `timeouts.attempt` are the submission's, absent where it does not give them.
    """

    queue: Queue = "default"
    priority: Priority = 0
    policy: Annotated[ExecutionPolicy, about("What holds for every attempt of the task; absent: the defaults.")] = DEFAULT_POLICY
    unresolved: Annotated[
        bool, about("No definition of the name was known: version and policy are fixed at the first dispatch; absent: false.")
    ] = False
    key: StepKey = None
    depends_on: Annotated[
        list[Dependency], about("Tasks that must end first, by their ids; absent: none.", [{"task": "order-6"}])
    ] = []
    tasks: Annotated[Raw, about("Of a workflow's root: the submitted steps by key, as JSON; else absent.")] = ABSENT
    steps_total: Annotated[int, about("Of a workflow's root: how many steps it has; 0 or absent: it is not a workflow.")] = 0
    not_start_after: Annotated[
        str | None, about("When the task expires if it has not started (RFC 3339, UTC); absent: never.", "2026-01-02T09:30:00Z")
    ] = None
    idempotency_window: Annotated[
        float | None, about("For how many seconds after its end the key is remembered; absent: there is no key.", 86_400.0)
    ] = None
    payload_hash: Annotated[
        str | None,
        about(
            "Hash of name, version and arguments, 32 hexadecimal digits, by which a repetition is recognised; absent: of a step.",
            "9f" * 16,
        ),
    ] = None
    parent_id: ParentId = None
    created_by: Annotated[str | None, about("Who submitted the task, at most 255 bytes; absent: unknown.", "shop")] = None
    source: Annotated[
        str | None, about("CloudEvents source of the submission, at most 1,024 bytes; absent: it had none.", "/shop")
    ] = None
    log_offset: Annotated[
        int, about("This and all later events of the task lie at or after this offset of its partition; absent: 0.", 40)
    ] = 0
    origin: Annotated[
        str | None,
        about("`<partition>/<offset>` of hub.intake from which the submission was forwarded; absent: it was not.", "3/17"),
    ] = None


class TaskRejected(EventData, kw_only=True):
    """A submission or a request was refused; nothing was changed. On the entity `engine/<partition>`."""

    code: Annotated[RejectionCode, about("Why, for programs.", "invalid_input")]
    reason: Annotated[str, about("Why, for people: names the field; at most 1,024 characters.", "name must not be empty")]
    task: Annotated[str | None, about("Id of the task that was asked for; absent: unknown.", TASK)] = None
    report: Annotated[str, about("Type of the report that was refused; absent: task.created.", "task.cancel")] = "task.created"


class TaskDeduplicated(EventData, kw_only=True):
    """The same submission again (by id, key or CloudEvent id): the existing task stands. On `engine/<partition>`."""

    task: TaskId
    run: Annotated[int, about("Which use of the task id: the offset of hub.intake at which it was created.", 42)]
    state: Annotated[str, about("State of the existing task.", "completed")]
    idempotency_key: Annotated[
        str | None, about("The key that both submissions gave; absent: the id was the same.", "order-7")
    ] = None


# Waiting


class TaskScheduled(EventData, kw_only=True):
    """The task waits for its start time."""

    start_after: Annotated[str, about("When it becomes ready (RFC 3339, UTC).", TIME)]


class TaskBlocked(EventData, kw_only=True):
    """The task waits for dependencies."""

    unmet: Annotated[int, about("How many dependencies are not met, from 1.", 2)]


class TaskDependencySatisfied(EventData, kw_only=True):
    """Some dependencies were met, and some are left."""

    unmet: Annotated[int, about("How many dependencies are not met yet, from 1.", 1)]
    count: Annotated[int, about("How many were met together now, from 1.", 1)]
    satisfied: Annotated[list[str], about("Ids of the tasks that met them, the first 100.", ["order-6"])] = []


class TaskReady(EventData, kw_only=True):
    """May run now: nothing but a free worker is missing."""

    queue: RequiredQueue
    priority: Priority = 0


class TaskRetryScheduled(EventData, kw_only=True):
    """An attempt did not succeed; the next is due at `next_retry_at`."""

    attempt: Attempt
    next_attempt: Annotated[int, about("Number of the attempt that follows, from 2.", 2)]
    delay: Annotated[float, about("Seconds from now until it is due, jitter included.", 1.04)]
    next_retry_at: Annotated[str, about("When it is due (RFC 3339, UTC).", TIME)]
    cause: Annotated[Literal["error", "timeout", "lost"], about("How the attempt ended.", "error")]
    error: Annotated[TaskError | None, about("What the body raised; absent: it did not raise.")] = None


# Running


class TaskDispatched(EventData, kw_only=True):
    """A command was issued: once per (attempt, dispatch).

    `policy` is what holds for the task's attempts: it is fixed since the task's creation, else at the first dispatch.
    """

    attempt: Attempt
    dispatch: Dispatch
    token: Token
    worker: Worker
    pool: Pool
    inbox: Inbox
    queue: RequiredQueue
    priority: Priority = 0
    lease_seconds: LeaseSeconds = 10.0
    policy: Annotated[ExecutionPolicy, about("What holds for every attempt of the task; absent: the defaults.")] = DEFAULT_POLICY
    version: Annotated[
        str | None, about("Version that is fixed now, at the first dispatch of an unresolved task; absent: as it was.", "1")
    ] = None


class TaskStarted(EventData, kw_only=True):
    """The first attempt's body began (later attempts: `attempt.started`)."""

    attempt: Attempt
    worker: Worker
    token: Token
    number: ReportNumber = 0


class TaskProgressed(EventData, kw_only=True):
    """Progress reported by the body."""

    attempt: Attempt
    percent: Annotated[float | None, about("How much is done, 0 to 100; absent: unknown.", 50.0)] = None
    message: Annotated[str, about("What is being done, at most 4,096 characters; absent: nothing was said.", "half-way")] = ""
    number: ReportNumber = 0


class TaskCancelRequested(EventData, kw_only=True):
    """A running attempt was asked to stop."""

    reason: Reason = ""
    by: By = None
    attempt: Annotated[int, about("Number of the running attempt, from 1; 0 or absent: of a workflow, or none.", 1)] = 0
    timed_out: Annotated[bool, about("Nobody asked: the task as a whole took too long; absent: false.", False)] = False


# Ending


class TaskCompleted(Ended, kw_only=True):
    """The body returned."""

    result: Annotated[Raw, about("What the body returned, any JSON of at most 1 MiB; absent: null.", {"receipt": TOKEN})] = Raw(
        b"null"
    )
    ran_seconds: RanSeconds = None


class TaskFailed(Ended, kw_only=True):
    """The task is over without success."""

    kind: Annotated[
        Literal["permanent", "exhausted", "timed_out", "lost", "dependency_failed"],
        about(
            "How: an error that forbids a retry, no attempt left, too long, its worker lost too often, a dependency.", "exhausted"
        ),
    ]
    error: Annotated[TaskError, about("The last error.")]


class TaskCancelled(Ended, kw_only=True):
    """The task ended because somebody asked."""

    reason: Reason = ""
    by: By = None


class TaskExpired(Ended, kw_only=True):
    """The task was not started in time."""

    reason: Annotated[str, about("Which time has passed, as text for people.", "not started by 2026-01-01T09:30:00.250Z")] = ""


class TaskSkipped(Ended, kw_only=True):
    """The task can never run: a dependency ended otherwise than `on` asked, or was itself skipped."""

    reason: Annotated[
        str, about("Which dependency, and how it ended, as text for people.", "pack ended skipped; needed: success")
    ] = ""
    dependency: Annotated[str | None, about("Id of that dependency; absent: unknown.", "order-6")] = None
