"""The lifecycle of a task as a table: for each event the states before and after, and its possible causes.

`None` as the new state means that the event does not change the state (attempts, progress, counts).
The state diagram in `hub/README.md` and the row-by-row tests come from this table.
"""

from typing import NamedTuple

from schemas import TYPE_OF_DATA
from schemas import events as e
from schemas.tasks import TERMINAL_STATES

NEW = ""
WAITING = ("scheduled", "blocked", "ready", "retrying")
ACTIVE = ("dispatched", "running")
LIVE = (*WAITING, *ACTIVE, "created")


class Transition(NamedTuple):
    """One row of the table. `causes`: producer, worker, operator, timer, engine (a consequence of another event, or a free
    worker)."""

    event: type[e.EventData]
    sources: tuple[str, ...]
    target: str | None
    causes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The type of the event on the log."""
        return TYPE_OF_DATA[self.event].type


TRANSITIONS: tuple[Transition, ...] = (
    Transition(e.TaskCreated, (NEW,), "created", ("producer", "engine")),
    Transition(e.TaskScheduled, ("created", "blocked"), "scheduled", ("producer", "engine")),
    Transition(e.TaskBlocked, ("created",), "blocked", ("producer", "engine")),
    Transition(e.TaskDependencySatisfied, ("blocked",), None, ("engine",)),
    Transition(e.TaskReady, ("created", "scheduled", "blocked", "retrying", *ACTIVE), "ready", ("engine", "timer", "worker")),
    Transition(e.TaskDispatched, ("ready",), "dispatched", ("engine",)),
    Transition(e.TaskStarted, ("dispatched",), "running", ("worker",)),
    Transition(e.AttemptStartedEvent, ("dispatched",), "running", ("worker",)),
    Transition(e.AttemptGranted, ("running",), None, ("worker",)),
    Transition(e.TaskProgressed, ("running",), None, ("worker",)),
    Transition(e.AttemptFailedEvent, ("running",), None, ("worker",)),
    Transition(e.AttemptTimedOut, ("running",), None, ("worker", "timer")),
    Transition(e.AttemptLeaseExpired, ACTIVE, None, ("timer",)),
    Transition(e.AttemptLost, ACTIVE, None, ("operator",)),
    Transition(e.AttemptCancelledEvent, ACTIVE, None, ("worker",)),
    Transition(e.AttemptReleasedEvent, ("dispatched",), None, ("worker",)),
    Transition(e.AttemptSuperseded, ("dispatched",), None, ("timer",)),
    Transition(e.TaskRetryScheduled, ACTIVE, "retrying", ("worker", "timer", "operator")),
    Transition(e.TaskCancelRequested, ACTIVE, None, ("operator", "engine")),
    Transition(e.TaskCompleted, ("running",), "completed", ("worker",)),
    Transition(e.TaskFailed, LIVE, "failed", ("worker", "timer", "operator", "engine")),
    Transition(e.TaskCancelled, LIVE, "cancelled", ("operator", "worker", "engine")),
    Transition(e.TaskExpired, WAITING, "expired", ("timer",)),
    Transition(e.TaskSkipped, ("created", "blocked", "scheduled"), "skipped", ("engine",)),
    Transition(e.WorkflowStarted, ("created",), "running", ("producer",)),
    Transition(e.WorkflowExpanded, ("running",), None, ("producer",)),
    Transition(e.WorkflowStepsReady, ("running",), None, ("engine",)),
    Transition(e.WorkflowProgressed, ("running",), None, ("engine",)),
    Transition(e.WorkflowCompleted, ("running",), "completed", ("engine",)),
    Transition(e.WorkflowFailed, ("running",), "failed", ("engine", "timer")),
    Transition(e.WorkflowCancelled, ("running",), "cancelled", ("engine", "operator")),
)

BY_EVENT: dict[type, Transition] = {row.event: row for row in TRANSITIONS}


def diagram() -> str:
    """The table as a Mermaid state diagram, without events that do not change the state."""
    lines = ["stateDiagram-v2"]
    for row in TRANSITIONS:
        if row.target is None:
            continue
        lines += [f"    {source or '[*]'} --> {row.target}: {row.name}" for source in row.sources]
    lines += [f"    {state} --> [*]" for state in sorted(TERMINAL_STATES)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(diagram())
