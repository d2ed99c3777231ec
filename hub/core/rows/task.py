"""The row of a task.

Its structs are not tracked by the garbage collector (`gc=False`): they are never part of a reference cycle, and a partition has
many of them.
"""

from sys import intern

from msgspec import Raw, Struct, json

from schemas import ABSENT, DEFAULT_POLICY, Dependency, ExecutionPolicy, RetryPolicy, TaskError, Timeouts
from schemas.tasks import Delivery, TaskFields

#: Arguments up to this size are stored in the task's row; larger ones are written once, to a separate row `args/<id>`.
INLINE_ARGS_BYTES_MAX = 512


#: Empty arguments, shared by all tasks without arguments.
EMPTY = Raw(b"{}")


class Lease(Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """The right of a worker to the current attempt, for `seconds` after each of its reports. `token` proves it; `inbox` is the
    worker's partition of the commands topic of its pool. `trace_period`: see `schemas/tracing.py`."""

    worker: str
    token: str
    pool: str
    inbox: int
    seconds: float = 10.0
    trace_period: int = 0


class Timers(Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """Due times in microseconds since the Unix epoch: start of a scheduled task, next attempt, timeout of this attempt, latest
    start, total timeout."""

    start: int | None = None
    retry: int | None = None
    attempt: int | None = None
    expire: int | None = None
    total: int | None = None


class Cancel(Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """Reason and requester of a cancel. `timed_out`: the total timeout caused it."""

    reason: str = ""
    by: str | None = None
    timed_out: bool = False


class Steps(Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """Counters of a workflow: all steps (`total`), created ones (`planned`), and ended ones by state."""

    total: int = 0
    planned: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    expired: int = 0


NO_TAGS: dict[str, str] = {}
NO_DEPENDENCIES: list[Dependency] = []
"""Shared by all rows without these, to save memory; values of rows are replaced, never changed."""
NO_TIMERS = Timers()
NO_STEPS = Steps()


class TaskRow(TaskFields, kw_only=True, omit_defaults=True, gc=False):
    """A live task, or an ended step of a live workflow. `root` and `parent` are None if the task is its own root.

    `name`, `version` and `tags` are declared in `TaskFields`. `delivery` and `retry` are the submission's; `version` and `policy`
    are what holds, unless the row is `unresolved`: then they are fixed at the first dispatch (see `policy.py`). `ran_seconds`:
    how long the last attempt that reported its end ran.

    Related fields form parts, which are replaced as a whole: `timers`, `lease` (while a worker has the task), `cancel`,
    `steps` (of a workflow)."""

    run: int
    state: str = ""
    sequence: int = 0
    namespace: str = "default"
    queue: str = "default"
    priority: int = 0
    delivery: Delivery | None = None
    root: str | None = None
    parent: str | None = None
    key: str | None = None
    correlation: str | None = None
    traceparent: str | None = None
    trace_link: str | None = None
    args: Raw = ABSENT
    depends_on: list[Dependency] = []
    unmet: int = 0
    timeouts: Timeouts | None = None
    retry: RetryPolicy | None = None
    policy: ExecutionPolicy = DEFAULT_POLICY
    unresolved: bool = False
    payload_hash: str | None = None
    window: float | None = None
    log_offset: int = 0
    created_at: str = ""
    start_after: str | float | None = None
    scheduled_at: str | None = None
    retrying_at: str | None = None
    ready_at: str | None = None
    dispatched_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    ran_seconds: float | None = None
    timers: Timers = NO_TIMERS
    attempt: int = 0
    dispatch: int = 0
    lease: Lease | None = None
    number: int = 0
    errors: int = 0
    timed_out: int = 0
    lost: int = 0
    percent: float | None = None
    message: str = ""
    error: TaskError | None = None
    result: Raw = ABSENT
    cancel: Cancel | None = None
    steps: Steps = NO_STEPS


def share_values(row: TaskRow) -> TaskRow:
    """Replace values of a decoded row that are equal in many rows by shared objects, to save memory. Returns the row."""
    row.name, row.state = intern(row.name), intern(row.state)
    row.namespace, row.queue = intern(row.namespace), intern(row.queue)
    if row.version is not None:
        row.version = intern(row.version)
    row.tags = row.tags or NO_TAGS
    row.depends_on = row.depends_on or NO_DEPENDENCIES
    if row.scheduled_at == row.created_at:
        row.scheduled_at = row.created_at
    return row


task_row_decoder = json.Decoder(TaskRow)
