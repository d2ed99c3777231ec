"""Events of the lifecycle of a workflow; the entity is the root task."""

from typing import Annotated

from msgspec import Raw

from ..fields import By, Cancelled, Completed, Expired, Failed, Reason, Skipped, Steps, about
from ..tasks import TaskError
from .base import Ended, EventData

Planned = Annotated[int, about("Number of steps created so far; large graphs are created in several transactions.", 3)]


class WorkflowStarted(EventData, kw_only=True):
    """The steps of a graph are being created."""

    steps_total: Steps
    planned: Planned


class WorkflowExpanded(EventData, kw_only=True):
    """Steps were added to a live workflow."""

    added: Annotated[int, about("Number of added steps, from 1.", 1)]
    steps_total: Steps


class WorkflowStepsReady(EventData, kw_only=True):
    """Several steps became ready together."""

    count: Annotated[int, about("Number of these steps, from 2.", 2)]
    steps: Annotated[list[str], about("Keys of these steps, at most 100.", ["charge", "pack"])] = []


class WorkflowProgressed(EventData, kw_only=True):
    """Steps ended. Emitted at most once per transaction."""

    steps_total: Steps
    planned: Planned
    completed: Completed = 0
    failed: Failed = 0
    cancelled: Cancelled = 0
    skipped: Skipped = 0
    expired: Expired = 0


class WorkflowEnded(Ended, kw_only=True):
    """Fields of the three terminal events of a workflow."""

    steps_total: Annotated[int, about("Number of steps of the workflow; absent: 0.", 3)] = 0
    completed: Completed = 0
    failed: Failed = 0
    cancelled: Cancelled = 0
    skipped: Skipped = 0
    expired: Expired = 0


class WorkflowCompleted(WorkflowEnded, kw_only=True):
    """All steps ended, none with a failure."""

    result: Annotated[
        Raw,
        about(
            "Results of the steps on which no other step depends, by key; null or absent: they are too large.", {"ship": "sent"}
        ),
    ] = Raw(b"null")


class WorkflowFailed(WorkflowEnded, kw_only=True):
    """At least one step failed, and no step can run any longer."""

    error: Annotated[TaskError, about("Error of the first failed step.")]
    failed_steps: Annotated[list[str], about("Keys of the failed steps, at most 100.", ["charge"])] = []


class WorkflowCancelled(WorkflowEnded, kw_only=True):
    """The workflow was cancelled, and no step is running."""

    reason: Reason = ""
    by: By = None
