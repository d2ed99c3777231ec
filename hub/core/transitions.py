"""The life of a task as one table: which event takes it from which states to which, and who may cause it.

`None` as the new state means that the event changes no state (it says something about an attempt, progress, counts).
The state diagram in `hub/README.md` and the row-by-row tests come from this table.
"""

from typing import NamedTuple

from schemas.tasks import TERMINAL_STATES

NEW = ""
WAITING = ("scheduled", "blocked", "ready", "retrying")
ACTIVE = ("dispatched", "running")
LIVE = (*WAITING, *ACTIVE, "created")


class Transition(NamedTuple):
    """`causes`: producer, worker, operator, timer, engine (a consequence of another task's event, or of a free worker)."""

    event: str
    sources: tuple[str, ...]
    target: str | None
    causes: tuple[str, ...]


TRANSITIONS: tuple[Transition, ...] = (
    Transition("task.created", (NEW,), "created", ("producer", "engine")),
    Transition("task.scheduled", ("created", "blocked"), "scheduled", ("producer", "engine")),
    Transition("task.blocked", ("created",), "blocked", ("producer", "engine")),
    Transition("task.dependency_satisfied", ("blocked",), None, ("engine",)),
    Transition("task.ready", ("created", "scheduled", "blocked", "retrying", *ACTIVE), "ready", ("engine", "timer", "worker")),
    Transition("task.dispatched", ("ready",), "dispatched", ("engine",)),
    Transition("task.started", ("dispatched",), "running", ("worker",)),
    Transition("attempt.started", ("dispatched",), "running", ("worker",)),
    Transition("attempt.granted", ("running",), None, ("worker",)),
    Transition("task.progressed", ("running",), None, ("worker",)),
    Transition("attempt.failed", ("running",), None, ("worker",)),
    Transition("attempt.timed_out", ("running",), None, ("worker", "timer")),
    Transition("attempt.lease_expired", ACTIVE, None, ("timer",)),
    Transition("attempt.lost", ACTIVE, None, ("operator",)),
    Transition("attempt.cancelled", ACTIVE, None, ("worker",)),
    Transition("attempt.released", ("dispatched",), None, ("worker",)),
    Transition("attempt.superseded", ("dispatched",), None, ("timer",)),
    Transition("task.retry_scheduled", ACTIVE, "retrying", ("worker", "timer", "operator")),
    Transition("task.cancel_requested", ACTIVE, None, ("operator", "engine")),
    Transition("task.completed", ("running",), "completed", ("worker",)),
    Transition("task.failed", LIVE, "failed", ("worker", "timer", "operator", "engine")),
    Transition("task.cancelled", LIVE, "cancelled", ("operator", "worker", "engine")),
    Transition("task.expired", WAITING, "expired", ("timer",)),
    Transition("task.skipped", ("created", "blocked", "scheduled"), "skipped", ("engine",)),
    Transition("workflow.started", ("created",), "running", ("producer",)),
    Transition("workflow.expanded", ("running",), None, ("producer",)),
    Transition("workflow.steps_ready", ("running",), None, ("engine",)),
    Transition("workflow.progressed", ("running",), None, ("engine",)),
    Transition("workflow.completed", ("running",), "completed", ("engine",)),
    Transition("workflow.failed", ("running",), "failed", ("engine", "timer")),
    Transition("workflow.cancelled", ("running",), "cancelled", ("engine", "operator")),
)

BY_EVENT: dict[str, Transition] = {row.event: row for row in TRANSITIONS}

#: The new state by event, for the hot path.
TARGET: dict[str, str | None] = {row.event: row.target for row in TRANSITIONS}


def is_allowed(event: str, state: str) -> bool:
    """Whether a task in `state` may have `event` happen to it."""
    return state in BY_EVENT[event].sources


def diagram() -> str:
    """The table as a Mermaid state diagram (attempt events, which change no state, are left out)."""
    lines = ["stateDiagram-v2"]
    for row in TRANSITIONS:
        if row.target is None:
            continue
        lines += [f"    {source or '[*]'} --> {row.target}: {row.event}" for source in row.sources]
    lines += [f"    {state} --> [*]" for state in sorted(TERMINAL_STATES)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(diagram())
