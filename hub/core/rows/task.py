"""The row of a task."""

from msgspec import Raw, json

from schemas import ABSENT, DEFAULT_POLICY, Dependency, ExecutionPolicy, RetryPolicy, TaskError, Timeouts
from schemas.tasks import Delivery, TaskFields

#: Arguments up to this size stand in the task's row; longer ones are written once, in a row `args/<id>` of their own.
INLINE_ARGS_BYTES_MAX = 512


#: Arguments that say nothing: shared by all tasks that have none.
EMPTY = Raw(b"{}")


class TaskRow(TaskFields, kw_only=True, omit_defaults=True):
    """A live task (or an ended node of a live workflow). `root` and `parent` are None where the task is its own root.

    `name`, `version` and `tags` are declared in `TaskFields`. `delivery` and `retry` are the submission's; `policy` is what holds
    from the first dispatch on (see `policy.py`)."""

    life: int
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
    args: Raw = ABSENT
    depends_on: list[Dependency] = []
    unmet: int = 0
    timeouts: Timeouts | None = None
    retry: RetryPolicy | None = None
    policy: ExecutionPolicy = DEFAULT_POLICY
    payload_hash: str | None = None
    window: float | None = None
    log_offset: int = 0
    created_at: str = ""
    start_after: str | float | None = None
    scheduled_at: str | None = None
    ready_at: str | None = None
    dispatched_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    start_due_us: int | None = None
    expire_due_us: int | None = None
    total_due_us: int | None = None
    retry_due_us: int | None = None
    attempt_due_us: int | None = None
    attempt: int = 0
    dispatch: int = 0
    token: str | None = None
    worker: str | None = None
    pool: str | None = None
    inbox: int | None = None
    lease_seconds: float = 10.0
    number: int = 0
    errors: int = 0
    timed_out: int = 0
    lost: int = 0
    percent: float | None = None
    message: str = ""
    error: TaskError | None = None
    result: Raw = ABSENT
    cancelling: bool = False
    cancel_reason: str = ""
    cancel_by: str | None = None
    cancel_timed_out: bool = False
    nodes: int = 0
    planned: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    expired: int = 0


task_row_decoder = json.Decoder(TaskRow)
