"""Commands: records in a worker's inbox (`hub.commands.<pool>`, partition = its inbox), and replies on `hub.replies`.

Headers of a command: `worker` (the incarnation it is for; "*" for everyone in the inbox) and `ce_type`. Several workers may
share an inbox partition: each takes only what names it. Key of an attempt's command: the task id.
"""

from typing import Literal

from msgspec import Raw, Struct

from .tasks import ABSENT, EMPTY_ARGS, Delivery, TaskError


class RunAttempt(Struct, kw_only=True, omit_defaults=True):
    """Run this attempt. Reports about it go to `partition` of `hub.intake`, with key `root`.

    `start_seconds`: not started within this of its arrival, it is dispatched elsewhere. `timeout_seconds` (None: no limit),
    `max_attempts` and `delivery` are those of the policy that holds for the task (`task.dispatched`, `policy`).
    `dependencies`: result of each dependency by its key (or id), together at most 256 KiB; the keys of those left
    out are in `dependencies_omitted`. `traceparent` has the attempt's span id.
    """

    task: str
    root: str
    partition: int
    attempt: int
    dispatch: int
    token: str
    namespace: str
    name: str
    version: str | None = None
    args: Raw = EMPTY_ARGS
    dependencies: dict[str, Raw] = {}
    dependencies_omitted: list[str] = []
    delivery: Delivery = "at_least_once"
    queue: str = "default"
    priority: int = 0
    lease_seconds: float = 10.0
    start_seconds: float = 10.0
    timeout_seconds: float | None = None
    max_attempts: int = 1
    correlation_id: str | None = None
    key: str | None = None
    tags: dict[str, str] = {}
    traceparent: str | None = None


class CancelAttempt(Struct, kw_only=True, omit_defaults=True):
    """Stop this attempt: its task was cancelled, timed out, or its lease has ended. Always after the command it refers to."""

    task: str
    attempt: int
    token: str
    reason: str = ""


class GrantAttempt(Struct, kw_only=True, omit_defaults=True):
    """At most once: the body may run now, once, by the incarnation that asked."""

    task: str
    attempt: int
    token: str


class EngineAnnounced(Struct, kw_only=True, omit_defaults=True):
    """A new owner of an engine partition: answer at once with a heartbeat to it."""

    partition: int
    partitions: int
    epoch: int


class WorkWanted(Struct, kw_only=True, omit_defaults=True):
    """This partition has ready tasks for the worker and no credit left: give it credit that lies idle elsewhere."""

    partition: int
    waiting: int


COMMANDS: dict[str, type[Struct]] = {
    "attempt.run": RunAttempt,
    "attempt.cancel": CancelAttempt,
    "attempt.grant": GrantAttempt,
    "engine.announced": EngineAnnounced,
    "engine.work_wanted": WorkWanted,
}


class TaskReply(Struct, kw_only=True, omit_defaults=True):
    """An answer to whoever gave `replyto`; record key = the token of `replyto`, header ce_type = `reply.<kind>`.

    kind: `ended` (state, result or error), `rejected` (code, reason), `state` (a live task as it is now, `wait` false),
    `unknown` (no such task in the live state or the ended index).
    `log_offset`: the task's events lie at or after this offset of its partition (`partition`) of `hub.events`.
    `result` is raw JSON, or ABSENT (falsy). One too large for the ended index is absent with `result_omitted`: read it from
    the terminal event.
    """

    kind: Literal["ended", "rejected", "state", "unknown"]
    task: str
    partition: int
    state: str | None = None
    name: str | None = None
    root: str | None = None
    attempt: int = 0
    sequence: int = 0
    result: Raw = ABSENT
    result_omitted: bool = False
    error: TaskError | None = None
    code: str | None = None
    reason: str | None = None
    log_offset: int = 0
