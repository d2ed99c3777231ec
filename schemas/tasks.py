"""The task envelope: what a submission may say, and the values that live inside it.

One shape for every task. Required: `name`. Durations are seconds (numbers); points in time are RFC 3339 text.
Unknown fields are refused by name. Sizes and counts that admission enforces are the constants below.
"""

from typing import Literal

from msgspec import Raw, Struct, field

ARGS_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 1024 * 1024
NODES_MAX = 10_000
DEPTH_MAX = 10_000
EDGES_MAX = 100_000
FAN_OUT_MAX = 10_000
ANNOTATIONS_MAX = 64
INLINE_RESULTS_BYTES_MAX = 256 * 1024

Delivery = Literal["at_least_once", "at_most_once"]
DependencyOn = Literal["success", "failure", "ended"]

EMPTY_ARGS = Raw(b"{}")

#: Raw JSON that is not there. It is falsy; a field that holds it is left out when it is written (msgspec has no `Raw | None`).
ABSENT = Raw(b"")


class Backoff(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exponential backoff between attempts: `initial * multiplier ** (failures - 1)`, at most `max` (seconds)."""

    initial: float = 1.0
    multiplier: float = 2.0
    max: float = 60.0


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often an attempt that did not succeed is followed by another, and after how long.

    `max_attempts` counts attempts that ended by an error or a timeout (1 = no retry). `max_lost` bounds the attempts whose
    worker vanished; they do not count against `max_attempts`. `timeout` says whether a timed-out attempt is retried at all.
    `backoff` is a list of seconds (the last repeats) or a Backoff. `jitter` is the share of the delay that varies (0..1).
    """

    max_attempts: int = 3
    backoff: list[float] | Backoff = field(default_factory=Backoff)
    jitter: float = 0.1
    max_lost: int = 100
    timeout: bool = True


DEFAULT_RETRY = RetryPolicy()


class TaskOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a handler was registered with. Each option holds for the submissions that do not give their own.

    `timeout_seconds` limits one attempt, from its start. None: the registration does not set the option.
    """

    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    delivery: Delivery | None = None


class ExecutionPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for the attempts of a task: each part is the submission's, else the registration's, else the default.

    Fixed at the first dispatch of the task. `timeout_seconds` limits one attempt, from its start; None: no limit.
    """

    retry: RetryPolicy = DEFAULT_RETRY
    timeout_seconds: float | None = None
    delivery: Delivery = "at_least_once"

    @property
    def max_attempts(self) -> int:
        """How many attempts may end by an error or a timeout before the task fails."""
        return 1 if self.delivery == "at_most_once" else self.retry.max_attempts


DEFAULT_POLICY = ExecutionPolicy()


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Seconds. `start`: from ready to the first start (then expired). `attempt`: one attempt, from its start.

    `total`: from creation to the end, whatever happens between.
    """

    start: float | None = None
    attempt: float | None = None
    total: float | None = None


class Dependency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Another node of the same graph (its key, or its task id) and how it must have ended.

    `on`: "success" is met by completed; "failure" by failed and expired; "ended" by every end, cancelled and skipped included.
    A task with a dependency that ended otherwise never runs. It is failed (`dependency_failed`) where `on` is "success" and the
    dependency failed or expired, and skipped in every other case: so a cancelled step skips the steps that depend on it.
    """

    task: str
    on: DependencyOn = "success"


class TaskError(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed. `fingerprint` groups like errors (type and message without digits)."""

    type: str
    message: str = ""
    stacktrace: str | None = None
    retryable: bool = True
    fingerprint: str | None = None


class TaskSpec(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a root and a node of a graph have in common. Every field but `name` has a default.

    `delivery`, `retry` and `timeouts.attempt`: None leaves the choice to the handler's registration.
    `queue` and `priority`: None takes those of the workflow's root, and for a root "default" and 0.
    `start_after` is a point in time, or seconds after the task could otherwise run (after its last dependency was met).
    `not_start_after` is a point in time, or seconds after creation: not started by then, the task expires.
    """

    name: str
    version: str | None = None
    args: Raw = EMPTY_ARGS
    delivery: Delivery | None = None
    queue: str | None = None
    priority: int | None = None
    depends_on: list[str | Dependency] = []
    start_after: str | float | None = None
    not_start_after: str | float | None = None
    timeouts: Timeouts | None = None
    retry: RetryPolicy | None = None
    idempotency_key: str | None = None
    external_id: str | None = None
    account_id: str | None = None
    user_id: str | None = None
    category: str | None = None
    subject: str | None = None
    description: str | None = None
    tags: dict[str, str] = {}
    annotations: dict[str, str] = {}


class NodeSpec(TaskSpec, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node of a graph; its id is derived from the root's id and its key in `tasks`."""


class Submission(TaskSpec, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The value of a `task.created` report: a task, a graph of tasks (`tasks`), or nodes added to a live root (`root_id`).

    `id` together with `idempotency_key` is refused. With `root_id`, `key` names the new node inside the graph (its id is
    then derived from root and key), or `tasks` names several at once.
    """

    id: str | None = None
    key: str | None = None
    namespace: str = "default"
    root_id: str | None = None
    parent_id: str | None = None
    correlation_id: str | None = None
    created_by: str | None = None
    tasks: dict[str, NodeSpec] | None = None
    idempotency_window: float = 86_400.0


TERMINAL_STATES = frozenset({"completed", "failed", "cancelled", "expired", "skipped"})
