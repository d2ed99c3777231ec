"""Admission of `task.created` reports. Decides only; changes nothing.

All fields that are used later are checked and copied to `TaskCreated` here; every rejection names the field.
"""

import msgspec

from schemas import Submission
from schemas import events as e

from ..changes import Changes, NewTask
from ..envelope import Envelope
from ..graph import Plan
from ..rejection import Rejection, TaskRejection
from ..state import KnownDefinition, PartitionState
from ..tasks.creation import created_data
from .additions import admit_into
from .known import find_known, fingerprint_of
from .outcomes import Admitted, Duplicate
from .resolve import resolve, warning_of
from .specs import check_spec
from .validity import check_window, plan_of


def admit(changes: Changes, submission: Submission, task: str, envelope: Envelope) -> Admitted | Duplicate | TaskRejection:
    """Admit a submission with the task id `task` (see `identify`). The limit of waiting tasks applies to new tasks only, not
    to duplicates."""
    state = changes.state
    try:
        fingerprint = fingerprint_of(submission)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejection("invalid_input", f"args: not valid JSON: {error}")
    if (problem := check_window(submission)) is not None:
        return problem
    known = find_known(state, submission, task, fingerprint)
    if known is not None:
        return known
    if (problem := _no_room(state, submission, changes.settings.waiting_max)) is not None:
        return problem
    if submission.idempotency_key is not None and state.ended.full:
        return Rejection("limit_exceeded", "idempotency_key: this partition holds the maximum number of keys; try again later")
    if submission.root_id is not None:
        return admit_into(changes, submission, task, envelope, fingerprint)
    plan = plan_of(submission)
    if isinstance(plan, Rejection):
        return plan
    if (problem := check_spec(submission, "")) is not None:
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
    """Why the partition accepts no more tasks, or None. A workflow counts with all its steps, including those not yet created."""
    if state.engine_row.storage == "low" and submission.root_id is None:  # steps of a running workflow are still accepted
        return Rejection("storage_low", "the broker's disk is almost full; new tasks are rejected until space is free")
    waiting, added = state.live + state.planned, 1 + len(submission.tasks or ())
    if waiting + added > waiting_max:
        reason = f"{waiting} tasks are waiting on this partition, which is its limit ({waiting_max}); try again later"
        return Rejection("limit_exceeded", reason)
    return None
