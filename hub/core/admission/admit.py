"""Admission: what a `task.created` report becomes. Decides only; changes nothing.

Everything that is used later is checked and copied into `TaskCreated` here, with the field named in every rejection.
"""

import msgspec

from schemas import Submission
from schemas import events as e

from ..bounds import SECONDS_MAX
from ..changes import Changes, NewTask
from ..envelope import Envelope
from ..graph import Plan, check_plan
from ..rejection import Rejection, TaskRejection
from ..state import KnownDefinition, PartitionState
from ..tasks.creation import created_data
from .additions import admit_into
from .known import find_known, fingerprint_of
from .outcomes import Admitted, Duplicate
from .resolve import resolve, warning_of
from .specs import check_spec


def admit(changes: Changes, submission: Submission, task: str, envelope: Envelope) -> Admitted | Duplicate | TaskRejection:
    """What becomes of a submission whose task is `task` (see `identify`). New work is bounded; what is known already is answered
    all the same."""
    state, now_us = changes.state, changes.now_us
    try:
        fingerprint = fingerprint_of(submission)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejection("invalid_input", f"args: it is not JSON that can be kept: {error}")
    if not 0 < submission.idempotency_window <= SECONDS_MAX:
        return Rejection("invalid_input", f"idempotency_window: seconds must be above 0 and at most {SECONDS_MAX:.0f}")
    known = find_known(state, submission, task, fingerprint)
    if known is not None:
        return known
    if (problem := _no_room(state, submission, changes.settings.waiting_max)) is not None:
        return problem
    if submission.idempotency_key is not None and state.ended.full:
        return Rejection("limit_exceeded", "idempotency_key: too many keys are remembered on this partition; try again later")
    if submission.root_id is not None:
        return admit_into(changes, submission, task, envelope, fingerprint)
    plan = _plan_of(submission, now_us)
    if isinstance(plan, Rejection):
        return plan
    if (problem := check_spec(submission, "", now_us)) is not None:
        return problem
    if plan is not None:
        return _workflow(changes, submission, task, envelope, fingerprint, plan)
    definition = resolve(changes, submission.namespace, submission, "")
    if isinstance(definition, Rejection):
        return definition
    data = _root_data(changes, submission, envelope, fingerprint, definition)
    new = NewTask(task, None, submission.namespace, submission.correlation_id or task, data)
    warning = warning_of([(submission, definition)]) if definition is None or definition.deprecated else None
    return Admitted([new], warning=warning)


def _workflow(
    changes: Changes, submission: Submission, task: str, envelope: Envelope, fingerprint: str, plan: Plan
) -> Admitted | TaskRejection:
    """A root that has no body, so that there is no definition of it. Its steps are resolved when they are created; one that names
    an unknown version is rejected now."""
    found = []
    for key, step in plan.steps.items():
        known = resolve(changes, submission.namespace, step, f"tasks.{key}.")
        if isinstance(known, Rejection):
            return known
        found.append((step, known))
    data = _root_data(changes, submission, envelope, fingerprint, None)
    data.unresolved = False
    data.tasks, data.steps_total = msgspec.Raw(msgspec.json.encode(submission.tasks)), len(plan.steps)
    new = NewTask(task, None, submission.namespace, submission.correlation_id or task, data, plan)
    return Admitted([new], warning=warning_of(found))


def _plan_of(submission: Submission, now_us: int) -> Plan | TaskRejection | None:
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
        if (problem := check_spec(step, f"tasks.{key}.", now_us)) is not None:
            return problem
    return _check_root(submission) or plan


def _root_data(
    changes: Changes, submission: Submission, envelope: Envelope, fingerprint: str, known: KnownDefinition | None
) -> e.TaskCreated:
    data = created_data(submission, known, now_us=changes.now_us, log_offset=changes.known.events_offset)
    data.payload_hash = fingerprint
    data.parent_id = submission.parent_id
    data.created_by = submission.created_by
    data.source = envelope.source
    data.origin = envelope.forwarded_from
    if submission.idempotency_key is not None:
        data.idempotency_key, data.idempotency_window = submission.idempotency_key, submission.idempotency_window
    return data


def _no_room(state: PartitionState, submission: Submission, waiting_max: int) -> TaskRejection | None:
    """Why the partition takes no more work. A graph counts as all of its steps, also while they are still to be created."""
    if state.engine_row.storage == "low" and submission.root_id is None:  # Steps that a running workflow adds belong to it.
        return Rejection("storage_low", "the broker's disk is almost full; new tasks are refused until there is room")
    waiting, added = state.live + state.planned, 1 + len(submission.tasks or ())
    if waiting + added > waiting_max:
        reason = f"{waiting} tasks are waiting on this partition; its limit is {waiting_max}; try again later"
        return Rejection("limit_exceeded", reason)
    return None


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
