"""Validation of submissions that does not depend on the state; used by clients before they send, and by admission."""

from collections.abc import Mapping

from schemas import Submission, TaskSpec, derived_id

from ..bounds import SECONDS_MAX
from ..graph import Plan, check_plan
from ..rejection import Rejection, TaskRejection
from .identity import check_names
from .specs import check_spec

#: Most steps that one report may add to a live workflow, to bound the size of a transaction.
ADDED_STEPS_MAX = 300


def check_submission(submission: Submission) -> TaskRejection | None:
    """Why every engine would reject `submission`, with the same code and reason; None if that depends on the state: used ids
    and keys, the workflow to which steps are added, free space."""
    if (problem := check_names(submission) or check_window(submission)) is not None:
        return problem
    if submission.root_id is not None:
        return _check_addition(submission)
    plan = plan_of(submission)
    return plan if isinstance(plan, Rejection) else check_spec(submission, "")


def _check_addition(submission: Submission) -> TaskRejection | None:
    assert submission.root_id is not None
    unnamed = derived_id("unnamed", submission.root_id)  # no dependency refers to it
    steps = added_steps(submission, submission.id or unnamed)
    if isinstance(steps, Rejection):
        return steps
    plan = check_plan(steps, lambda _: True)
    return plan if isinstance(plan, Rejection) else check_added(submission, steps)


def check_window(submission: Submission) -> TaskRejection | None:
    """Why its idempotency window is invalid, or None."""
    if 0 < submission.idempotency_window <= SECONDS_MAX:
        return None
    return Rejection("invalid_input", f"idempotency_window: must be greater than 0 and at most {SECONDS_MAX:.0f} seconds")


def added_steps(submission: Submission, task: str) -> Mapping[str, TaskSpec] | TaskRejection:
    """The steps added to a live workflow, by key: several (`tasks`), or the submission itself, whose id is `task`."""
    if submission.tasks is None:
        return {submission.key or task: submission}
    if len(submission.tasks) > ADDED_STEPS_MAX:
        reason = f"tasks: at most {ADDED_STEPS_MAX} steps can be added at once, got {len(submission.tasks)}"
        return Rejection("limit_exceeded", reason)
    return submission.tasks


def check_added(submission: Submission, steps: Mapping[str, TaskSpec]) -> TaskRejection | None:
    """Why one of these steps is invalid, with the field, or None."""
    for key, step in steps.items():
        if (problem := check_spec(step, f"tasks.{key}." if submission.tasks is not None else "")) is not None:
            return problem
    return None


def plan_of(submission: Submission) -> Plan | TaskRejection | None:
    """The plan of a workflow with checked steps; None for a single task."""
    if submission.tasks is None:
        if submission.depends_on:
            return Rejection("unknown_dependency", "depends_on: only steps of a workflow can have dependencies")
        return None
    if submission.depends_on:
        return Rejection("invalid_input", "depends_on: not allowed on the root of a workflow; set it on the steps in tasks")
    plan = check_plan(submission.tasks)
    if isinstance(plan, Rejection):
        return plan
    for key, step in plan.steps.items():
        if (problem := check_spec(step, f"tasks.{key}.")) is not None:
            return problem
    return _check_root(submission) or plan


def _check_root(submission: Submission) -> TaskRejection | None:
    """Reject options of a body on the root of a workflow, which has no body, instead of ignoring them."""
    given = {
        "start_after": submission.start_after is not None,
        "not_start_after": submission.not_start_after is not None,
        "retry": submission.retry is not None,
        "delivery": submission.delivery is not None,
        "timeouts.start": submission.timeouts is not None and submission.timeouts.start is not None,
        "timeouts.attempt": submission.timeouts is not None and submission.timeouts.attempt is not None,
    }
    for field, is_given in given.items():
        if is_given:
            return Rejection(
                "invalid_input", f"{field}: not allowed on a workflow, which has no body; set it on the steps in tasks"
            )
    return None
