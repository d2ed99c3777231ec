"""Rows of `hub.state`: what an engine partition remembers, as values. Key `<kind>/<id>`, value JSON with these field names.

A task's row is the fold of its events, byte for byte: only `evolve.py` changes one. Points in time are RFC 3339 text as
on the events; what is due later (`*_due_us`) is integer microseconds since the epoch. Absent means the default.
"""

from msgspec import Raw, Struct, json

from schemas import ABSENT, DEFAULT_POLICY, Backoff, Dependency, ExecutionPolicy, RetryPolicy, TaskError, TaskOptions, Timeouts
from schemas.tasks import Delivery

__all__ = ["INLINE_ARGS_BYTES_MAX", "Backoff", "EndedRow", "EngineRow", "MetaRow", "TaskRow", "WorkerRow"]

#: Arguments up to this size stand in the task's row; longer ones are written once, in a row `args/<id>` of their own.
INLINE_ARGS_BYTES_MAX = 512

#: A result up to this size is kept in the ended index, so that a late waiter is answered without reading the log.
INLINE_RESULT_BYTES_MAX = 1024

META_KEY = b"!meta"

#: Arguments that say nothing: shared by all tasks that have none.
EMPTY = Raw(b"{}")


class TaskRow(Struct, kw_only=True, omit_defaults=True):
    """A live task (or an ended node of a live workflow). `root` and `parent` are None where the task is its own root.

    `delivery` and `retry` are the submission's; `policy` is what holds from the first dispatch on (see `policy.py`)."""

    life: int
    name: str
    state: str = ""
    sequence: int = 0
    version: str | None = None
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
    tags: dict[str, str] = {}
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


class EndedRow(Struct, kw_only=True, omit_defaults=True):
    """An entry of the ended index, until `until_us`. `seconds`: from its first start to its end. A result that is too large for
    it is on the terminal event."""

    ended: str
    life: int
    sequence: int
    name: str
    until_us: int
    finished_at: str
    seconds: float | None = None
    root: str | None = None
    attempt: int = 0
    payload_hash: str | None = None
    keyed: bool = False
    log_offset: int = 0
    result: Raw = ABSENT
    result_omitted: bool = False
    error: TaskError | None = None
    reason: str = ""


class WorkerRow(Struct, kw_only=True, omit_defaults=True):
    """A worker, on its home partition."""

    life: int
    state: str = ""
    sequence: int = 0
    pool: str = ""
    inbox: int = 0
    queues: list[str] = []
    names: list[str] = []
    options: dict[str, TaskOptions] = {}
    slots: int = 0
    lease_seconds: float = 10.0
    host: str = ""
    pid: int = 0
    registered_at: str = ""


class EngineRow(Struct, kw_only=True, omit_defaults=True):
    """The partition itself: the entity of refusals and take-overs. `life` is always 0. `storage`: "ok", "warning" or "low"."""

    sequence: int = 0
    state: str = ""
    host: str = ""
    pid: int = 0
    started_at: str = ""
    storage: str = "ok"


class MetaRow(Struct, kw_only=True):
    """Written in every transaction, and the only truth for a restart.

    `offset`: the next of `hub.intake` to decide. `epoch`: the generation of ownership. `now_us`: the engine's last time.
    `partitions`: P, fixed at creation. `created_us`: the first take-over; it distinguishes the logs of two hubs.
    """

    offset: int
    epoch: int
    now_us: int
    partitions: int
    created_us: int = 0


task_row_decoder = json.Decoder(TaskRow)
ended_row_decoder = json.Decoder(EndedRow)
worker_row_decoder = json.Decoder(WorkerRow)
engine_row_decoder = json.Decoder(EngineRow)
meta_row_decoder = json.Decoder(MetaRow)
