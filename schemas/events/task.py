"""Events of the lifecycle of a task: admission, waiting, running, ending."""

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
    TraceLink,
    TracePeriod,
    WaitedSince,
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
    """A task was created from a submission. Has all fields of the submission with defaults; the submission is not read again.

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
        list[Dependency], about("Tasks that must end before this one, by id; absent: none.", [{"task": "order-6"}])
    ] = []
    tasks: Annotated[Raw, about("Steps of the workflow by key, as submitted, as JSON; absent: not the root of a workflow.")] = (
        ABSENT
    )
    steps_total: Annotated[int, about("Number of steps of the workflow; 0 or absent: not the root of a workflow.")] = 0
    not_start_after: Annotated[
        str | None, about("When the task expires unless it has started (RFC 3339, UTC); absent: never.", "2026-01-02T09:30:00Z")
    ] = None
    idempotency_window: Annotated[
        float | None,
        about("Seconds after the end of the task during which the idempotency key is kept; absent: no key.", 86_400.0),
    ] = None
    payload_hash: Annotated[
        str | None,
        about(
            "Hash of name, version and arguments, 32 hexadecimal digits, to detect duplicates; absent: the task is a step.",
            "9f" * 16,
        ),
    ] = None
    parent_id: ParentId = None
    created_by: Annotated[str | None, about("Submitter of the task, at most 255 bytes; absent: unknown.", "shop")] = None
    source: Annotated[str | None, about("CloudEvents source of the submission, at most 1,024 bytes; absent: none.", "/shop")] = (
        None
    )
    log_offset: Annotated[
        int, about("This and all later events of the task are at or after this offset of its partition; absent: 0.", 40)
    ] = 0
    origin: Annotated[
        str | None,
        about("`<partition>/<offset>` of hub.intake from which the submission was forwarded; absent: not forwarded.", "3/17"),
    ] = None
    trace_link: TraceLink = None


class TaskRejected(EventData, kw_only=True):
    """A submission or request was rejected and changed nothing. Entity: `engine/<partition>`."""

    code: Annotated[RejectionCode, about("Code of the rejection.", "invalid_input")]
    reason: Annotated[
        str, about("Reason, as text for people, with the field; at most 1,024 characters.", "name must not be empty")
    ]
    task: Annotated[str | None, about("Id of the task in the request; absent: unknown.", TASK)] = None
    report: Annotated[str, about("Type of the rejected report; absent: task.created.", "task.cancel")] = "task.created"


class TaskDeduplicated(EventData, kw_only=True):
    """A submission had the id, idempotency key or CloudEvents id of an existing task and created none. Entity:
    `engine/<partition>`."""

    task: TaskId
    run: Annotated[int, about("Run of the task id: the offset of hub.intake at which it was created.", 42)]
    state: Annotated[str, about("State of the existing task.", "completed")]
    idempotency_key: Annotated[
        str | None, about("Idempotency key of both submissions; absent: the id was the same.", "order-7")
    ] = None


# Waiting


class TaskScheduled(EventData, kw_only=True):
    """The task waits for its start time."""

    start_after: Annotated[str, about("When it becomes ready (RFC 3339, UTC).", TIME)]
    waited_since: WaitedSince = None


class TaskBlocked(EventData, kw_only=True):
    """The task waits for dependencies."""

    unmet: Annotated[int, about("Number of unmet dependencies, from 1.", 2)]


class TaskDependencySatisfied(EventData, kw_only=True):
    """Some of the dependencies were met."""

    unmet: Annotated[int, about("Number of dependencies that are still unmet, from 1.", 1)]
    count: Annotated[int, about("Number of dependencies met by this event, from 1.", 1)]
    satisfied: Annotated[list[str], about("Ids of the tasks that met them, at most 100.", ["order-6"])] = []


class TaskReady(EventData, kw_only=True):
    """The task can run and waits for a worker."""

    queue: RequiredQueue
    priority: Priority = 0
    waited_since: WaitedSince = None


class TaskRetryScheduled(EventData, kw_only=True):
    """An attempt did not succeed; the next one is due at `next_retry_at`."""

    attempt: Attempt
    next_attempt: Annotated[int, about("Number of the next attempt, from 2.", 2)]
    delay: Annotated[float, about("Seconds until the next attempt is due, jitter included.", 1.04)]
    next_retry_at: Annotated[str, about("When the next attempt is due (RFC 3339, UTC).", TIME)]
    cause: Annotated[Literal["error", "timeout", "lost"], about("How the attempt ended.", "error")]
    error: Annotated[TaskError | None, about("Exception that the body raised; absent: none.")] = None


# Running


class TaskDispatched(EventData, kw_only=True):
    """A command was issued to a worker, once per attempt and dispatch.

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
    trace_period: TracePeriod = 0


class TaskStarted(EventData, kw_only=True):
    """The body of the first attempt started (later attempts: `attempt.started`)."""

    attempt: Attempt
    worker: Worker
    token: Token
    number: ReportNumber = 0
    trace_period: TracePeriod = 0


class TaskProgressed(EventData, kw_only=True):
    """The body reported progress."""

    attempt: Attempt
    percent: Annotated[float | None, about("Progress in percent, 0 to 100; absent: unknown.", 50.0)] = None
    message: Annotated[str, about("Text about the current work, at most 4,096 characters; absent: none.", "half-way")] = ""
    number: ReportNumber = 0
    trace_period: TracePeriod = 0


class TaskCancelRequested(EventData, kw_only=True):
    """A running attempt was asked to stop."""

    reason: Reason = ""
    by: By = None
    attempt: Annotated[int, about("Number of the running attempt, from 1; 0 or absent: none, or the task is a workflow.", 1)] = 0
    timed_out: Annotated[
        bool, about("Whether the total timeout of the task is the cause, not a request; absent: false.", False)
    ] = False


# Ending


class TaskCompleted(Ended, kw_only=True):
    """The body returned: the task succeeded."""

    result: Annotated[Raw, about("Return value of the body, any JSON of at most 1 MiB; absent: null.", {"receipt": TOKEN})] = Raw(
        b"null"
    )
    ran_seconds: RanSeconds = None


class TaskFailed(Ended, kw_only=True):
    """The task ended without success."""

    kind: Annotated[
        Literal["permanent", "exhausted", "timed_out", "lost", "dependency_failed"],
        about(
            "Kind: a permanent error, no attempts left, a timeout, too many lost workers, or a failed dependency.", "exhausted"
        ),
    ]
    error: Annotated[TaskError, about("The last error.")]


class TaskCancelled(Ended, kw_only=True):
    """The task was cancelled on request."""

    reason: Reason = ""
    by: By = None


class TaskExpired(Ended, kw_only=True):
    """The task did not start before its deadline."""

    reason: Annotated[str, about("The deadline that passed, as text for people.", "not started by 2026-01-01T09:30:00.250Z")] = ""


class TaskSkipped(Ended, kw_only=True):
    """The task can never run: the end of a dependency did not satisfy its `on`, or the dependency was skipped."""

    reason: Annotated[str, about("The dependency and its end, as text for people.", "pack ended skipped; needed: success")] = ""
    dependency: Annotated[str | None, about("Id of that dependency; absent: unknown.", "order-6")] = None
