"""The task envelope: what a submission may say, and the values that live inside it.

One shape for every task. Required: `name`. Durations are seconds (numbers); points in time are RFC 3339 text.
Unknown fields are refused by name. Sizes and counts that admission enforces are the constants below.
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

#: Raw JSON that is not there. It is falsy; a field that holds it is left out when it is written (msgspec has no `Raw | None`).
ABSENT = Raw(b"")


class Backoff(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exponential backoff between attempts: `initial * multiplier ** (failures - 1)`, at most `max` (seconds)."""

    initial: Annotated[float, about("Seconds before the second attempt, 0 to 31,622,400; absent: 1 second.", 0.5)] = 1.0
    multiplier: Annotated[float, about("By how much each delay is longer than the one before, from 0; absent: 2.", 3.0)] = 2.0
    max: Annotated[float, about("Longest delay in seconds, 0 to 31,622,400; absent: 60 seconds.", 30.0)] = 60.0


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often an attempt that did not succeed is followed by another, and after how long."""

    max_attempts: Annotated[
        int, about("How many attempts may end by an error or a timeout, 1 (no retry) to 1,000,000; absent: 3.", 5)
    ] = 3
    backoff: Annotated[
        list[float] | Backoff,
        about(
            "Delays in seconds, of which the last repeats (at most 1,000), or an exponential backoff; absent: the default one.",
            [1.0, 10.0],
        ),
    ] = field(default_factory=Backoff)
    jitter: Annotated[float, about("Share of the delay by which it varies in both directions, 0 to 1; absent: 0.1.", 0.2)] = 0.1
    max_lost: Annotated[
        int,
        about("How many attempts may lose their worker, 0 to 1,000,000; they do not count as attempts; absent: 100.", 10),
    ] = 100
    timeout: Annotated[bool, about("An attempt that took too long is followed by another; absent: true.", False)] = True


DEFAULT_RETRY = RetryPolicy()


class TaskOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a handler was registered with. Each option holds for the submissions that do not give their own."""

    queue: Annotated[
        str | None, about("Queue of its tasks, 1 to 255 bytes; absent: that of the workflow's root, or default.", "mail")
    ] = None
    priority: Annotated[
        int | None,
        about("Priority of its tasks, -1,000,000 to 1,000,000; absent: that of the workflow's root, or 0.", 5),
    ] = None
    retry: Annotated[RetryPolicy | None, about("When a further attempt follows; absent: not registered.")] = None
    timeout_seconds: Annotated[
        float | None,
        about("Longest time for one attempt in seconds, from its start, at most 31,622,400; absent: not registered.", 30.0),
    ] = None
    delivery: Annotated[Delivery | None, about("How often a body may run; absent: not registered.", "at_most_once")] = None


class ExecutionPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for the attempts of a task: each part is the submission's, else the definition's, else the default.

    Fixed when the task is created; at its first dispatch where its name was not known before.
    """

    retry: Annotated[RetryPolicy, about("When a further attempt follows; absent: the default policy.")] = DEFAULT_RETRY
    timeout_seconds: Annotated[
        float | None, about("Longest time for one attempt in seconds, from its start; absent: no limit.", 30.0)
    ] = None
    delivery: Annotated[Delivery, about("How often a body may run; absent: at_least_once.", "at_most_once")] = "at_least_once"

    @property
    def max_attempts(self) -> int:
        """How many attempts may end by an error or a timeout before the task fails."""
        return 1 if self.delivery == "at_most_once" else self.retry.max_attempts


DEFAULT_POLICY = ExecutionPolicy()


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long the parts of a task's run may take, each above 0 and at most 31,622,400 seconds."""

    start: Annotated[float | None, about("Seconds from ready to the first start, then it expires; absent: no limit.", 60.0)] = (
        None
    )
    attempt: Annotated[float | None, about("Seconds of one attempt, from its start; absent: the registration's.", 30.0)] = None
    total: Annotated[float | None, about("Seconds from creation to the end, whatever lies between; absent: no limit.", 600.0)] = (
        None
    )


class Dependency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Another step of the same workflow, and how it must have ended.

    A task with a dependency that ended otherwise never runs. It is failed (`dependency_failed`) where `on` is "success" and the
    dependency failed or expired, and skipped in every other case: so a cancelled step skips the steps that depend on it.
    """

    task: Annotated[str, about("Key or id of the step in a submission, its id in an event.", "reserve")]
    on: Annotated[
        DependencyOn,
        about(
            "How it must have ended: success (completed), failure (failed or expired) or ended (any end); absent: success.",
            "ended",
        ),
    ] = "success"


class TaskError(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed."""

    type: Annotated[str, about("Name of the exception's class, at most 255 characters.", "ConnectionError")]
    message: Annotated[str, about("Text of the exception, at most 4,096 characters; absent: empty.", "the bank is busy")] = ""
    stacktrace: Annotated[
        str | None,
        about("The end of the stack trace, at most 16,384 characters; absent: none.", "Traceback (most recent call last): ..."),
    ] = None
    retryable: Annotated[bool, about("Another attempt may succeed; absent: true.", True)] = True
    fingerprint: Annotated[
        str | None, about("Groups like errors: a hash of type and message without digits; absent: none.", "5f2c1a")
    ] = None


class TaskFields(Struct, kw_only=True, omit_defaults=True):
    """What is the same in a submission, in the task's first event and in the command that runs an attempt."""

    name: TaskName
    version: TaskVersion = None
    args: Annotated[
        Raw, about("Arguments of the handler: a JSON object of at most 256 KiB; absent: {}.", {"order": 7, "amount": 12.5})
    ] = EMPTY_ARGS
    tags: Tags = {}


class AdmittedFields(TaskFields, kw_only=True, omit_defaults=True):
    """What is the same in a submission and in the task's first event: admission copies these fields, all of them."""

    delivery: Annotated[
        Delivery | None, about("How often a body may run; absent: as the handler is registered.", "at_most_once")
    ] = None
    start_after: Annotated[
        str | float | None,
        about("Not before this time (RFC 3339), or so many seconds after the task could otherwise run; absent: at once.", TIME),
    ] = None
    timeouts: Annotated[Timeouts | None, about("How long parts of the task may take; absent: no limits.")] = None
    retry: Annotated[RetryPolicy | None, about("When a further attempt follows; absent: as the handler is registered.")] = None
    external_id: Annotated[
        str | None,
        short("Id of the task in another system", "ERP-2026-0042"),
    ] = None
    account_id: Annotated[str | None, short("Account that the task is done for", "acme")] = None
    user_id: Annotated[str | None, short("User that the task is done for", "u-17")] = None
    category: Annotated[str | None, short("Category for people and reports", "billing")] = None
    subject: Annotated[str | None, short("What the task is about", "order/7")] = None
    description: Annotated[
        str | None, about("Text for people, at most 4,096 characters; absent: none.", "Charge the card of order 7.")
    ] = None
    idempotency_key: Annotated[
        str | None,
        short("Submissions with the same key create one task; refused for a step of `tasks`", "order-7", absent="no key"),
    ] = None
    annotations: Annotated[
        dict[str, str], about("Facts for people and tools, at most 64 and 16 KiB as JSON.", {"ticket": "SUP-12"})
    ] = {}


class TaskSpec(AdmittedFields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a root and a step of a workflow have in common. Every field but `name` has a default."""

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
        about("A time (RFC 3339), or seconds after creation: not started by then, the task expires; absent: never.", 3_600.0),
    ] = None


class StepSpec(TaskSpec, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A step of a workflow; its id is derived from the root's id and its key in `tasks`."""


class Submission(TaskSpec, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The value of a `task.created` report: a task, a workflow (`tasks`), or steps added to a live workflow (`root_id`).

    `id` together with `idempotency_key` is refused. With `root_id`, `key` names the new step inside the workflow (its id is
    then derived from root and key), or `tasks` names several at once.
    """

    id: Annotated[
        str | None,
        about("Id of the task, 1 to 255 bytes; absent: derived from `idempotency_key`, or from ce_source and ce_id.", TASK),
    ] = None
    key: Annotated[str | None, about("With `root_id`: key of the new step, at most 255 bytes; absent: its id.", "notify")] = None
    namespace: Annotated[str, short("Namespace of the task", "shop", absent="default")] = "default"
    root_id: Annotated[str | None, about("Id of the live workflow that gets the new steps; absent: none.", "order-6")] = None
    parent_id: Annotated[
        str | None,
        short("Id of the task that submits this one", "day-end"),
    ] = None
    correlation_id: Annotated[
        str | None,
        short("Groups tasks that belong together", "order-7", absent="the root's id"),
    ] = None
    created_by: Annotated[str | None, short("Who submits", "shop", absent="unknown")] = None
    tasks: Annotated[
        dict[str, StepSpec] | None,
        about("Steps of the workflow by key, 1 to 10,000; absent: a single task.", {"reserve": {"name": "reserve-stock"}}),
    ] = None
    idempotency_window: Annotated[
        float,
        about("For how many seconds after its end the key is remembered, above 0, at most 31,622,400; absent: 86,400.", 3_600.0),
    ] = 86_400.0


TERMINAL_STATES = frozenset({"completed", "failed", "cancelled", "expired", "skipped"})
