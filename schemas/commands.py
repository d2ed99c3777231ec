"""Commands: records in the inbox of a worker (a partition of `hub.commands.<pool>`), and replies on `hub.replies`.

Headers of a command: `worker` (the target incarnation; "*" for all workers of the inbox) and `ce_type`. Several workers may
share an inbox; each processes only commands addressed to it. The key of a command for an attempt is the task id.
"""

from typing import Annotated, Literal

from msgspec import Raw, Struct

from .fields import TASK, TOKEN, TRACEPARENT, Attempt, Dispatch, Priority, Queue, RootId, StepKey, TaskId, Token, about
from .tasks import ABSENT, Delivery, TaskError, TaskFields


class ExecuteAttempt(TaskFields, kw_only=True, omit_defaults=True):
    """Execute an attempt. Reports about it go to `partition` of `hub.intake`, with key `root`."""

    task: TaskId
    root: RootId
    partition: Annotated[int, about("Partition of hub.intake for the reports of this attempt, from 0.", 0)]
    attempt: Attempt
    dispatch: Dispatch
    token: Token
    namespace: Annotated[str, about("Namespace of the task, 1 to 255 bytes.", "shop")]
    dependencies: Annotated[
        dict[str, Raw], about("Result of each dependency by its key, or id; together at most 256 KiB.", {"reserve": {"items": 2}})
    ] = {}
    dependencies_omitted: Annotated[
        list[str], about("Keys of the dependencies whose results were omitted because they are too large.", ["report"])
    ] = []
    delivery: Annotated[Delivery, about("How often the body may run; absent: at_least_once.", "at_most_once")] = "at_least_once"
    queue: Queue = "default"
    priority: Priority = 0
    lease_seconds: Annotated[
        float,
        about("Length of the lease: seconds without a heartbeat after which the attempt is lost; absent: 10 seconds.", 10.0),
    ] = 10.0
    start_seconds: Annotated[
        float,
        about(
            "Seconds within which the attempt must start after its arrival, or it is dispatched again; absent: 10 seconds.", 10.0
        ),
    ] = 10.0
    timeout_seconds: Annotated[
        float | None, about("Longest time for the body in seconds, from its start; absent: no limit.", 30.0)
    ] = None
    max_attempts: Annotated[int, about("How many attempts may end by an error or a timeout; absent: 1.", 3)] = 1
    correlation_id: Annotated[str | None, about("Groups related tasks; absent: the root's id.", "order-7")] = None
    key: StepKey = None
    traceparent: Annotated[str | None, about("W3C trace context with the attempt's span id; absent: no trace.", TRACEPARENT)] = (
        None
    )


class CancelAttempt(Struct, kw_only=True, omit_defaults=True):
    """Stop an attempt: its task was cancelled or timed out, or its lease expired. Always sent after the command that it refers
    to."""

    task: TaskId
    attempt: Attempt
    token: Token
    reason: Annotated[str, about("Why, as text for people; at most 4,096 characters.", "asked by support")] = ""


class GrantAttempt(Struct, kw_only=True, omit_defaults=True):
    """Permission to run the body of an at-most-once task, once, for the incarnation that requested it."""

    task: TaskId
    attempt: Attempt
    token: Token


class EngineAnnounced(Struct, kw_only=True, omit_defaults=True):
    """A new owner of an engine partition: answer at once with a heartbeat to it, which gives the definitions."""

    partition: Annotated[int, about("The engine partition, from 0.", 0)]
    partitions: Annotated[int, about("Number of engine partitions of the hub, from 1.", 4)]
    epoch: Annotated[int, about("Generation of its ownership, from 1; the owner with the highest epoch is the current one.", 5)]


class WorkWanted(Struct, kw_only=True, omit_defaults=True):
    """This partition has ready tasks for the worker but no credit: reassign credit that other partitions do not use."""

    partition: Annotated[int, about("The engine partition, from 0.", 0)]
    waiting: Annotated[int, about("Number of its ready tasks.", 12)]


class DefinitionsWanted(Struct, kw_only=True, omit_defaults=True):
    """This partition does not know what the worker has registered: answer at once with a heartbeat that gives the definitions."""

    partition: Annotated[int, about("The engine partition, from 0.", 0)]
    revision: Annotated[int, about("The revision that the worker named; absent: 0.", 1)] = 0


COMMANDS: dict[str, type[Struct]] = {
    "attempt.execute": ExecuteAttempt,
    "attempt.cancel": CancelAttempt,
    "attempt.grant": GrantAttempt,
    "engine.announced": EngineAnnounced,
    "engine.work_wanted": WorkWanted,
    "engine.definitions_wanted": DefinitionsWanted,
}


class TaskReply(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A reply to a request with `replyto`. Record key: the token of `replyto`; header ce_type: `reply.<kind>`."""

    kind: Annotated[
        Literal["ended", "accepted", "rejected", "state", "unknown"],
        about(
            "What is answered: ended: the task is over; accepted: the request was taken (a submission only where there is a"
            " `warning`, and its end is answered, too); rejected: it was refused; state: a live task as it is now; unknown: no"
            " such task is live or remembered.",
            "ended",
        ),
    ]
    task: Annotated[str, about("Id of the task; empty if a rejected request has none.", TASK)]
    partition: Annotated[int, about("Engine partition of the task, and partition of its events, from 0.", 0)]
    state: Annotated[
        str | None, about("State of the task; absent: the request was rejected or the task is unknown.", "completed")
    ] = None
    name: Annotated[str | None, about("Name of the task; absent: the request was rejected or the task is unknown.", "charge")] = (
        None
    )
    root: Annotated[str | None, about("Id of the workflow's root; absent: the task is not a step.", "order-6")] = None
    attempt: Annotated[int, about("Number of the last attempt, from 1; 0 or absent: no attempt.", 1)] = 0
    sequence: Annotated[int, about("Number of the task's last event, from 1; 0 or absent: unknown.", 5)] = 0
    result: Annotated[
        Raw,
        about("Return value of the body, as JSON; absent: the task has not completed, or `result_omitted`.", {"receipt": TOKEN}),
    ] = ABSENT
    result_omitted: Annotated[
        bool, about("Whether the result is too large for a reply; the terminal event has it; absent: false.", False)
    ] = False
    error: Annotated[TaskError | None, about("Error of the task or of its last attempt; absent: no error.")] = None
    code: Annotated[str | None, about("Code of the rejection; absent: the request was not rejected.", "unknown_root")] = None
    reason: Annotated[
        str | None,
        about(
            "Why the request was rejected, or the task cancelled or skipped, as text for people; absent: none of these.",
            "asked by support",
        ),
    ] = None
    warning: Annotated[
        str | None,
        about("What may keep the task from running as meant, as text for people; absent: nothing.", "charge@1 is deprecated"),
    ] = None
    log_offset: Annotated[
        int, about("The events of the task are at or after this offset of its partition of hub.events; absent: 0.", 40)
    ] = 0
