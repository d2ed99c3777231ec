"""What is wrong with a submission in itself, whatever the state: a client asks before it sends, admission asks again."""

from collections.abc import Mapping

from schemas import Submission, TaskSpec, derived_id

from ..bounds import SECONDS_MAX
from ..graph import Plan, check_plan
from ..rejection import Rejection, TaskRejection
from .identity import check_names
from .specs import check_spec

#: Steps that may be added to a live workflow in one report, so that one transaction stays small.
ADDED_STEPS_MAX = 300


def check_submission(submission: Submission) -> TaskRejection | None:
    """Why no engine admits `submission`, with the code and the reason that its rejection would have; None where that depends on
    what the engine knows: ids and keys that are used, the workflow that steps are added to, room."""
    if (problem := check_names(submission) or check_window(submission)) is not None:
        return problem
    if submission.root_id is not None:
        return _check_addition(submission)
    plan = plan_of(submission)
    return plan if isinstance(plan, Rejection) else check_spec(submission, "")


def _check_addition(submission: Submission) -> TaskRejection | None:
    assert submission.root_id is not None
    unnamed = derived_id("unnamed", submission.root_id)  # No dependency means it.
    steps = added_steps(submission, submission.id or unnamed)
    if isinstance(steps, Rejection):
        return steps
    plan = check_plan(steps, lambda _: True)
    return plan if isinstance(plan, Rejection) else check_added(submission, steps)


def check_window(submission: Submission) -> TaskRejection | None:
    """Why its idempotency key cannot be remembered for so long."""
    if 0 < submission.idempotency_window <= SECONDS_MAX:
        return None
    return Rejection("invalid_input", f"idempotency_window: seconds must be above 0 and at most {SECONDS_MAX:.0f}")


def added_steps(submission: Submission, task: str) -> Mapping[str, TaskSpec] | TaskRejection:
    """The steps that are added to a live workflow, by key: several (`tasks`), or the submission itself, whose id is `task`."""
    if submission.tasks is None:
        return {submission.key or task: submission}
    if len(submission.tasks) > ADDED_STEPS_MAX:
        reason = f"tasks: {len(submission.tasks)} steps, more than the {ADDED_STEPS_MAX} that can be added at once"
        return Rejection("limit_exceeded", reason)
    return submission.tasks


def check_added(submission: Submission, steps: Mapping[str, TaskSpec]) -> TaskRejection | None:
    """Why one of these steps cannot be added, naming the field."""
    for key, step in steps.items():
        if (problem := check_spec(step, f"tasks.{key}." if submission.tasks is not None else "")) is not None:
            return problem
    return None


def plan_of(submission: Submission) -> Plan | TaskRejection | None:
    """The plan of a workflow, every step of it checked; None where it is a task alone."""
    if submission.tasks is None:
        if submission.depends_on:
            return Rejection("unknown_dependency", "depends_on: a task outside a graph has no other tasks to depend on")
        return None
    if submission.depends_on:
        return Rejection("invalid_input", "depends_on: belongs to the steps in tasks, not to their root")
    plan = check_plan(submission.tasks)
    if isinstance(plan, Rejection):
        return plan
    for key, step in plan.steps.items():
        if (problem := check_spec(step, f"tasks.{key}.")) is not None:
            return problem
    return _check_root(submission) or plan


def _check_root(submission: Submission) -> TaskRejection | None:
    """A workflow's root has no body: what would be about one belongs to its steps, and is not silently ignored."""
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
            return Rejection("invalid_input", f"{field}: a workflow runs nothing itself; say it on its steps, in tasks")
    return None
