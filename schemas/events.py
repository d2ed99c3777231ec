"""The data of every lifecycle event: what `data` holds inside the value of a record on `hub.events`.

Additive evolution only: a new field is optional; a changed meaning is a new type. Times are RFC 3339 text in UTC by the
engine's clock; durations are seconds. The envelope around the data is in `envelope.py`, the table of types in `catalogue.py`.
"""

from typing import Literal

from msgspec import Raw, Struct

from .tasks import (
    ABSENT,
    DEFAULT_POLICY,
    EMPTY_ARGS,
    Delivery,
    Dependency,
    ExecutionPolicy,
    RetryPolicy,
    TaskError,
    TaskOptions,
    Timeouts,
)

RejectionCode = Literal[
    "unknown_root",
    "unknown_task",
    "unknown_dependency",
    "invalid_input",
    "cycle",
    "limit_exceeded",
    "idempotency_conflict",
    "id_conflict",
    "already_ended",
    "already_cancelling",
    "malformed",
    "storage_low",
]


class EventData(Struct, kw_only=True, omit_defaults=True):
    """The base of every event's data."""


# Admission


class TaskCreated(EventData, kw_only=True):
    """Admitted: everything that was asked for, with defaults filled in. Nothing later reads the submission again.

    `delivery`, `retry` and `timeouts.attempt` are absent where the submission does not give them: the handler's registration then
    decides, at the first dispatch (`task.dispatched`, `policy`).

    `depends_on` holds task ids (resolved from keys). `start_after` is a time, or seconds after the last dependency is met.
    A workflow's root carries its plan in `tasks` (the submitted graph) and `nodes`, how many nodes it has. `log_offset`: this
    and all later events of the task lie at or after this offset.
    """

    name: str
    version: str | None = None
    args: Raw = EMPTY_ARGS
    delivery: Delivery | None = None
    queue: str = "default"
    priority: int = 0
    key: str | None = None
    depends_on: list[Dependency] = []
    tasks: Raw = ABSENT
    nodes: int = 0
    start_after: str | float | None = None
    not_start_after: str | None = None
    timeouts: Timeouts | None = None
    retry: RetryPolicy | None = None
    idempotency_key: str | None = None
    idempotency_window: float | None = None
    payload_hash: str | None = None
    external_id: str | None = None
    account_id: str | None = None
    user_id: str | None = None
    category: str | None = None
    subject: str | None = None
    description: str | None = None
    tags: dict[str, str] = {}
    annotations: dict[str, str] = {}
    parent_id: str | None = None
    created_by: str | None = None
    source: str | None = None
    log_offset: int = 0
    origin: str | None = None


class TaskRejected(EventData, kw_only=True):
    """A submission or a request was refused; nothing was changed. On the entity `engine/<partition>`."""

    code: RejectionCode
    reason: str
    task: str | None = None
    report: str = "task.created"


class TaskDeduplicated(EventData, kw_only=True):
    """The same submission again (by id, key or CloudEvent id): the existing task stands. On `engine/<partition>`."""

    task: str
    life: int
    state: str
    idempotency_key: str | None = None


# Waiting


class TaskScheduled(EventData, kw_only=True):
    """Not before `start_after`."""

    start_after: str


class TaskBlocked(EventData, kw_only=True):
    """Waits for `unmet` dependencies."""

    unmet: int


class TaskDependencySatisfied(EventData, kw_only=True):
    """Some dependencies were met (`satisfied`: task ids, at most 100 named); `unmet` are left."""

    unmet: int
    count: int
    satisfied: list[str] = []


class TaskReady(EventData, kw_only=True):
    """May run now: nothing but a free worker is missing."""

    queue: str
    priority: int = 0


class TaskRetryScheduled(EventData, kw_only=True):
    """The next attempt is due at `next_retry_at`."""

    attempt: int
    next_attempt: int
    delay: float
    next_retry_at: str
    cause: Literal["error", "timeout", "lost"]
    error: TaskError | None = None


# Running


class TaskDispatched(EventData, kw_only=True):
    """A command was issued: once per (attempt, dispatch). `token` is the lease's name, `lease_seconds` its length.

    `policy` is what holds for the task's attempts: it is fixed at the first dispatch and the same at every later one.
    """

    attempt: int
    dispatch: int
    token: str
    worker: str
    pool: str
    inbox: int
    queue: str
    priority: int = 0
    lease_seconds: float = 10.0
    policy: ExecutionPolicy = DEFAULT_POLICY


class TaskStarted(EventData, kw_only=True):
    """The first attempt's body began (later attempts: `attempt.started`)."""

    attempt: int
    worker: str
    token: str
    number: int = 0


class TaskProgressed(EventData, kw_only=True):
    """Progress reported by the body."""

    attempt: int
    percent: float | None = None
    message: str = ""
    number: int = 0


# Ending


class Ended(EventData, kw_only=True):
    """What every terminal event carries, so that a subscriber needs no memory."""

    created_at: str
    finished_at: str
    scheduled_at: str | None = None
    ready_at: str | None = None
    dispatched_at: str | None = None
    started_at: str | None = None
    attempt: int = 0
    max_attempts: int = 1
    queue: str = "default"
    worker: str | None = None
    parent_id: str | None = None
    key: str | None = None
    tags: dict[str, str] = {}
    number: int = 0


class TaskCompleted(Ended, kw_only=True):
    """The body returned `result`."""

    result: Raw = Raw(b"null")
    ran_seconds: float | None = None


class TaskFailed(Ended, kw_only=True):
    """Over, without success: `kind` says how."""

    kind: Literal["permanent", "exhausted", "timed_out", "lost", "dependency_failed"]
    error: TaskError


class TaskCancelRequested(EventData, kw_only=True):
    """A running attempt was asked to stop. `timed_out`: not by anybody, but because the whole took too long."""

    reason: str = ""
    by: str | None = None
    attempt: int = 0
    timed_out: bool = False


class TaskCancelled(Ended, kw_only=True):
    """Ended because somebody asked."""

    reason: str = ""
    by: str | None = None


class TaskExpired(Ended, kw_only=True):
    """Not started in time."""

    reason: str = ""


class TaskSkipped(Ended, kw_only=True):
    """Can never run: the dependency `dependency` ended otherwise than `on` asked, or was itself skipped."""

    reason: str = ""
    dependency: str | None = None


# Attempts


class AttemptEvent(EventData, kw_only=True):
    """One attempt, by its number, dispatch and the worker that had it."""

    attempt: int
    dispatch: int = 0
    worker: str | None = None
    number: int = 0


class AttemptStartedEvent(AttemptEvent, kw_only=True):
    """The body of a second or later attempt began."""

    token: str


class AttemptGranted(AttemptEvent, kw_only=True):
    """At most once: the body may run, this once."""

    token: str


class AttemptFailedEvent(AttemptEvent, kw_only=True):
    """The body raised. What follows (a retry, the end) is another event."""

    error: TaskError
    ran_seconds: float | None = None


class AttemptTimedOut(AttemptEvent, kw_only=True):
    """The attempt took longer than `timeout_seconds`."""

    timeout_seconds: float


class AttemptLeaseExpired(AttemptEvent, kw_only=True):
    """No heartbeat for the length of a lease: the worker has lost the attempt."""

    lease_seconds: float


class AttemptLost(AttemptEvent, kw_only=True):
    """Its worker is known to be dead."""

    reason: str = ""


class AttemptCancelledEvent(AttemptEvent, kw_only=True):
    """The code has stopped after a cancel."""


class AttemptReleasedEvent(AttemptEvent, kw_only=True):
    """Handed back without a start; not counted."""

    reason: str = ""


class AttemptSuperseded(AttemptEvent, kw_only=True):
    """Not started by its start deadline: will be dispatched again under a new number."""

    start_seconds: float


class AttemptReportRejected(EventData, kw_only=True):
    """A report that changed nothing, and why. On the entity `engine/<partition>`."""

    code: Literal["unknown_task", "already_ended", "stale_attempt", "stale_token", "foreign_worker", "duplicate", "wrong_state"]
    reason: str
    task: str
    report: str
    attempt: int
    worker: str


# Workflows (the entity is the root task)


class WorkflowStarted(EventData, kw_only=True):
    """Its nodes are being created; `planned` of them in this batch."""

    nodes: int
    planned: int


class WorkflowExpanded(EventData, kw_only=True):
    """Nodes were added to a live workflow."""

    added: int
    nodes: int


class WorkflowStepsReady(EventData, kw_only=True):
    """`count` nodes became ready together (at most 100 named)."""

    count: int
    steps: list[str] = []


class WorkflowProgressed(EventData, kw_only=True):
    """Counts of ended nodes, at most once per batch. `planned` nodes of `nodes` exist so far."""

    nodes: int
    planned: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    expired: int = 0


class WorkflowEnded(Ended, kw_only=True):
    """What the three ends of a workflow carry."""

    nodes: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    expired: int = 0


class WorkflowCompleted(WorkflowEnded, kw_only=True):
    """Every node ended well; `result` maps the keys of the last nodes to their results (absent when too large)."""

    result: Raw = Raw(b"null")


class WorkflowFailed(WorkflowEnded, kw_only=True):
    """At least one node failed and nothing is left to run."""

    error: TaskError
    failed_steps: list[str] = []


class WorkflowCancelled(WorkflowEnded, kw_only=True):
    """Cancelled, and nothing runs any more."""

    reason: str = ""
    by: str | None = None


# Workers


class WorkerEvent(EventData, kw_only=True):
    """A worker, as it described itself."""

    pool: str
    host: str = ""
    pid: int = 0
    slots: int = 0


class WorkerRegisteredEvent(WorkerEvent, kw_only=True):
    """A new incarnation takes work. `options`: what its handlers were registered with, by task name, where they say anything."""

    inbox: int
    queues: list[str] = []
    names: list[str] = []
    options: dict[str, TaskOptions] = {}
    lease_seconds: float = 10.0


class WorkerHeartbeatMissed(WorkerEvent, kw_only=True):
    """Silent for longer than two thirds of its lease."""

    silent_seconds: float = 0.0


class WorkerLostEvent(WorkerEvent, kw_only=True):
    """Dead: silent for a whole lease, or seen to die."""

    reason: str = ""


class WorkerDrainingEvent(WorkerEvent, kw_only=True):
    """Takes nothing new."""


class WorkerStoppedEvent(WorkerEvent, kw_only=True):
    """Left in order."""


# The engine


class EngineStarted(EventData, kw_only=True):
    """An owner took the partition over; `input_offset` is the first it will decide."""

    partitions: int
    input_offset: int
    host: str = ""
    pid: int = 0


class EngineRestored(EventData, kw_only=True):
    """State was read back: how many rows and live tasks."""

    rows: int
    live_tasks: int
    snapshot: bool = False


class EngineStopped(EventData, kw_only=True):
    """The owner left in order."""

    input_offset: int


class EngineReportDeadLettered(EventData, kw_only=True):
    """Input that could not be read as a report: kept by hash and place, with the reason."""

    reason: str
    offset: int
    sha256: str
    size_bytes: int
    report: str | None = None
    preview: str = ""


class EngineTimerDeadLettered(EventData, kw_only=True):
    """What was due for a task could not be processed, because of a mistake in the engine: it is left out, with the reason.

    `timer` is its kind (start, retry, expire, total, attempt, plan, cancel, retire), `due_at` when it was due."""

    timer: str
    task: str
    due_at: str
    reason: str


class EngineStorageChanged(EventData, kw_only=True):
    """The free space of the broker's disk crossed a threshold. `level`: "warning" (little is left), "low" (new submissions are
    refused until there is room; what runs continues) or "ok" again. Bytes; -1 where the broker stopped reporting them."""

    level: Literal["ok", "warning", "low"]
    usable_bytes: int
    total_bytes: int


class EngineReportForwarded(EventData, kw_only=True):
    """A report that lay on the wrong partition was sent on to `partition`."""

    partition: int
    offset: int
    report: str
