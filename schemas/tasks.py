"""The task envelope: the fields of a submission, and the values in them.

All tasks have the same fields; only `name` is required. Durations are numbers of seconds; points in time are RFC 3339 text.
Unknown fields are rejected by name. Admission enforces the limits of sizes and counts below.
"""

from typing import Annotated, Literal

from msgspec import Raw, Struct, field

from .fields import TASK, TIME, Tags, TaskName, TaskVersion, about, short

ARGS_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 1024 * 1024
STEPS_MAX = 10_000
DEPTH_MAX = 10_000
EDGES_MAX = 100_000
FAN_OUT_MAX = 10_000
ANNOTATIONS_MAX = 64
INLINE_RESULTS_BYTES_MAX = 256 * 1024

Delivery = Literal["at_least_once", "at_most_once"]
DependencyOn = Literal["success", "failure", "ended"]

EMPTY_ARGS = Raw(b"{}")

#: Absent raw JSON. It is falsy, and omitted when a struct is encoded (msgspec has no `Raw | None`).
ABSENT = Raw(b"")


class Backoff(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Exponential backoff between attempts: `initial * multiplier ** (failures - 1)`, at most `max` (seconds)."""

    initial: Annotated[float, about("Seconds before the second attempt, 0 to 31,622,400; absent: 1 second.", 0.5)] = 1.0
    multiplier: Annotated[float, about("Factor from each delay to the next, from 0; absent: 2.", 3.0)] = 2.0
    max: Annotated[float, about("Longest delay in seconds, 0 to 31,622,400; absent: 60 seconds.", 30.0)] = 60.0


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """How often and after which delay an unsuccessful attempt is retried."""

    max_attempts: Annotated[
        int, about("Most attempts that may end with an error or a timeout, 1 (no retry) to 1,000,000; absent: 3.", 5)
    ] = 3
    backoff: Annotated[
        list[float] | Backoff,
        about(
            "List of at most 1,000 delays in seconds (the last one repeats), or an exponential backoff; absent: the default.",
            [1.0, 10.0],
        ),
    ] = field(default_factory=Backoff)
    jitter: Annotated[float, about("Share of the delay by which it varies in both directions, 0 to 1; absent: 0.1.", 0.2)] = 0.1
    max_lost: Annotated[
        int,
        about("Most attempts whose worker may be lost, 0 to 1,000,000, counted separately from failed ones; absent: 100.", 10),
    ] = 100
    timeout: Annotated[bool, about("Whether an attempt that timed out is retried; absent: true.", False)] = True


DEFAULT_RETRY = RetryPolicy()


class TaskOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Options of a handler's registration. Each applies to submissions that do not set it themselves."""

    queue: Annotated[
        str | None, about("Queue of its tasks, 1 to 255 bytes; absent: that of the workflow's root, or default.", "mail")
    ] = None
    priority: Annotated[
        int | None,
        about("Priority of its tasks, -1,000,000 to 1,000,000; absent: that of the workflow's root, or 0.", 5),
    ] = None
    retry: Annotated[RetryPolicy | None, about("Retry policy; absent: not set.")] = None
    timeout_seconds: Annotated[
        float | None,
        about("Timeout of an attempt in seconds from its start, at most 31,622,400; absent: not set.", 30.0),
    ] = None
    delivery: Annotated[Delivery | None, about("How often the body may run; absent: not set.", "at_most_once")] = None


class ExecutionPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What holds for the attempts of a task: each part is the submission's, else the definition's, else the default.

    Fixed when the task is created; at its first dispatch where its name was not known before.
    """

    retry: Annotated[RetryPolicy, about("Retry policy; absent: the default policy.")] = DEFAULT_RETRY
    timeout_seconds: Annotated[
        float | None, about("Timeout of an attempt in seconds from its start; absent: no limit.", 30.0)
    ] = None
    delivery: Annotated[Delivery, about("How often a body may run; absent: at_least_once.", "at_most_once")] = "at_least_once"

    @property
    def max_attempts(self) -> int:
        """Number of attempts that may end with an error or a timeout before the task fails."""
        return 1 if self.delivery == "at_most_once" else self.retry.max_attempts


DEFAULT_POLICY = ExecutionPolicy()


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Timeouts for the parts of a task's run, each greater than 0 and at most 31,622,400 seconds."""

    start: Annotated[
        float | None, about("Seconds from ready to the first start, after which the task expires; absent: no limit.", 60.0)
    ] = None
    attempt: Annotated[
        float | None, about("Seconds of one attempt from its start; absent: the option of the registration.", 30.0)
    ] = None
    total: Annotated[float | None, about("Seconds from creation to the end; absent: no limit.", 600.0)] = None


class Dependency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A dependency on another step of the same workflow, with a condition on its end.

    If the end does not satisfy the condition, the task never runs. It fails (`dependency_failed`) if `on` is "success" and the
    dependency failed or expired, and is skipped in all other cases; for example, a cancelled step skips the steps that depend
    on it.
    """

    task: Annotated[str, about("Key or id of the step in a submission, its id in an event.", "reserve")]
    on: Annotated[
        DependencyOn,
        about(
            "Required end: success (completed), failure (failed or expired) or ended (any end); absent: success.",
            "ended",
        ),
    ] = "success"


class TaskError(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The error of an attempt or task."""

    type: Annotated[str, about("Name of the exception's class, at most 255 characters.", "ConnectionError")]
    message: Annotated[str, about("Text of the exception, at most 4,096 characters; absent: empty.", "the bank is busy")] = ""
    stacktrace: Annotated[
        str | None,
        about("The end of the stack trace, at most 16,384 characters; absent: none.", "Traceback (most recent call last): ..."),
    ] = None
    retryable: Annotated[bool, about("Whether another attempt may succeed; absent: true.", True)] = True
    fingerprint: Annotated[
        str | None, about("Hash of type and message without digits, to group similar errors; absent: none.", "5f2c1a")
    ] = None


class TaskFields(Struct, kw_only=True, omit_defaults=True, gc=False):
    """Fields of a submission that are copied to the task's first event and to the commands of its attempts."""

    name: TaskName
    version: TaskVersion = None
    args: Annotated[
        Raw, about("Arguments of the handler: a JSON object of at most 256 KiB; absent: {}.", {"order": 7, "amount": 12.5})
    ] = EMPTY_ARGS
    tags: Tags = {}


class AdmittedFields(TaskFields, kw_only=True, omit_defaults=True):
    """Fields of a submission that admission copies to the task's first event."""

    delivery: Annotated[
        Delivery | None, about("How often the body may run; absent: the option of the registration.", "at_most_once")
    ] = None
    start_after: Annotated[
        str | float | None,
        about("Earliest start: a time (RFC 3339), or seconds after the task could otherwise run; absent: at once.", TIME),
    ] = None
    timeouts: Annotated[Timeouts | None, about("Timeouts of parts of the task; absent: no limits.")] = None
    retry: Annotated[RetryPolicy | None, about("Retry policy; absent: the option of the registration.")] = None
    external_id: Annotated[
        str | None,
        short("Id of the task in another system", "ERP-2026-0042"),
    ] = None
    account_id: Annotated[str | None, short("Account for which the task runs", "acme")] = None
    user_id: Annotated[str | None, short("User for whom the task runs", "u-17")] = None
    category: Annotated[str | None, short("Category, for display and reports", "billing")] = None
    subject: Annotated[str | None, short("Subject of the task", "order/7")] = None
    description: Annotated[
        str | None, about("Description for people, at most 4,096 characters; absent: none.", "Charge the card of order 7.")
    ] = None
    idempotency_key: Annotated[
        str | None,
        short(
            "Idempotency key: submissions with the same key create one task; not allowed in a step of `tasks`",
            "order-7",
            absent="no key",
        ),
    ] = None
    annotations: Annotated[
        dict[str, str], about("Tags for people and tools, at most 64 and 16 KiB as JSON.", {"ticket": "SUP-12"})
    ] = {}


class TaskSpec(AdmittedFields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Common fields of a submission and of a step. Every field but `name` has a default."""

    queue: Annotated[
        str | None,
        about("Queue of the task, 1 to 255 bytes; absent: its definition's, else the workflow root's, else default.", "mail"),
    ] = None
    priority: Annotated[
        int | None,
        about(
            "Larger is dispatched first within a queue, -1,000,000 to 1,000,000; absent: its definition's, else the workflow"
            " root's, else 0.",
            5,
        ),
    ] = None
    depends_on: Annotated[
        list[str | Dependency],
        about("Keys of the steps that must end first, or dependencies with a condition; absent: none.", ["reserve"]),
    ] = []
    not_start_after: Annotated[
        str | float | None,
        about(
            "Deadline of the first start, else the task expires: a time (RFC 3339) or seconds after creation; absent: none.",
            3_600.0,
        ),
    ] = None


class StepSpec(TaskSpec, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A step of a workflow; its id is derived from the root's id and its key in `tasks`."""


class Submission(TaskSpec, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The value of a `task.created` report: a task, a workflow (`tasks`), or steps added to a live workflow (`root_id`).

    `id` and `idempotency_key` exclude each other. With `root_id`, `key` is the key of the new step in the workflow (its id is
    derived from root id and key), or `tasks` has several new steps.
    """

    id: Annotated[
        str | None,
        about("Id of the task, 1 to 255 bytes; absent: derived from `idempotency_key`, or from ce_source and ce_id.", TASK),
    ] = None
    key: Annotated[str | None, about("Key of the new step, with `root_id`; at most 255 bytes; absent: its id.", "notify")] = None
    namespace: Annotated[str, short("Namespace of the task", "shop", absent="default")] = "default"
    root_id: Annotated[str | None, about("Id of the live workflow to which steps are added; absent: none.", "order-6")] = None
    parent_id: Annotated[
        str | None,
        short("Id of the submitting task", "day-end"),
    ] = None
    correlation_id: Annotated[
        str | None,
        short("Groups related tasks", "order-7", absent="the root's id"),
    ] = None
    created_by: Annotated[str | None, short("Submitter", "shop", absent="unknown")] = None
    tasks: Annotated[
        dict[str, StepSpec] | None,
        about("Steps of the workflow by key, 1 to 10,000; absent: a single task.", {"reserve": {"name": "reserve-stock"}}),
    ] = None
    idempotency_window: Annotated[
        float,
        about(
            "Seconds after the end for which the idempotency key is kept, greater than 0, at most 31,622,400; absent: 86,400.",
            3_600.0,
        ),
    ] = 86_400.0


TERMINAL_STATES = frozenset({"completed", "failed", "cancelled", "expired", "skipped"})
