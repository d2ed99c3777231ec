"""The lifecycle of a workflow. Its entity is the root task."""

from typing import Annotated

from msgspec import Raw

from ..fields import By, Cancelled, Completed, Expired, Failed, Reason, Skipped, Steps, about
from ..tasks import TaskError
from .base import Ended, EventData

Planned = Annotated[int, about("How many of the steps exist so far; large graphs are created in several transactions.", 3)]


class WorkflowStarted(EventData, kw_only=True):
    """The steps of a graph are being created."""

    steps_total: Steps
    planned: Planned


class WorkflowExpanded(EventData, kw_only=True):
    """Steps were added to a live workflow."""

    added: Annotated[int, about("How many were added, from 1.", 1)]
    steps_total: Steps


class WorkflowStepsReady(EventData, kw_only=True):
    """Several steps became ready together."""

    count: Annotated[int, about("How many, from 2.", 2)]
    steps: Annotated[list[str], about("Their keys, the first 100.", ["charge", "pack"])] = []


class WorkflowProgressed(EventData, kw_only=True):
    """Steps have ended; at most once per transaction."""

    steps_total: Steps
    planned: Planned
    completed: Completed = 0
    failed: Failed = 0
    cancelled: Cancelled = 0
    skipped: Skipped = 0
    expired: Expired = 0


class WorkflowEnded(Ended, kw_only=True):
    """What the three ends of a workflow carry."""

    steps_total: Annotated[int, about("How many steps the workflow had; absent: 0.", 3)] = 0
    completed: Completed = 0
    failed: Failed = 0
    cancelled: Cancelled = 0
    skipped: Skipped = 0
    expired: Expired = 0


class WorkflowCompleted(WorkflowEnded, kw_only=True):
    """Every step ended well."""

    result: Annotated[
        Raw, about("Results of the steps that no other depends on, by key; null or absent: they are too large.", {"ship": "sent"})
    ] = Raw(b"null")


class WorkflowFailed(WorkflowEnded, kw_only=True):
    """At least one step failed and nothing is left to run."""

    error: Annotated[TaskError, about("The error of the first step that failed.")]
    failed_steps: Annotated[list[str], about("Keys of the steps that failed, the first 100.", ["charge"])] = []


class WorkflowCancelled(WorkflowEnded, kw_only=True):
    """Cancelled, and nothing runs any more."""

    reason: Reason = ""
    by: By = None
