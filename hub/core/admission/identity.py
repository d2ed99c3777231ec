"""Determines the task id of a submission."""

from msgspec import Struct

from schemas import Submission, check_id, step_id, task_id_of_cloudevent, task_id_of_key

from ..envelope import Envelope
from ..rejection import Rejection, TaskRejection


class Identity(Struct, frozen=True, gc=False):
    """The id of a task and of its root."""

    task: str
    root: str


def check_names(submission: Submission) -> TaskRejection | None:
    """Why what a submission gives to name its task cannot be."""
    if submission.root_id is not None or submission.idempotency_key is not None:
        if (rejection := _named_twice(submission)) is not None:
            return rejection
        if submission.root_id is not None and (problem := check_id(submission.root_id, "root_id")) is not None:
            return Rejection("malformed", problem)
    if submission.id is not None and (problem := check_id(submission.id, "id")) is not None:
        return Rejection("malformed", problem)
    return None


def _named_twice(submission: Submission) -> TaskRejection | None:
    """Only `id` and `idempotency_key` name a root; the step of a workflow may also be named by `key`, several by `tasks`."""
    fields = ("id", "idempotency_key", "key", "tasks") if submission.root_id is not None else ("id", "idempotency_key")
    named = [field for field in fields if getattr(submission, field) is not None]
    if len(named) < 2:
        return None
    return Rejection("invalid_input", f"{named[0]}: set either {named[0]} or {named[1]}, not both")


def identify(submission: Submission, envelope: Envelope) -> Identity | TaskRejection:
    """The task id of a submission. For several steps added at once it is the root's id, since each step is identified by its
    key."""
    if (problem := check_names(submission)) is not None:
        return problem
    if submission.root_id is not None and submission.tasks is not None:
        return Identity(submission.root_id, submission.root_id)
    if submission.root_id is not None and submission.key is not None:
        return Identity(step_id(submission.root_id, submission.key), submission.root_id)
    if submission.id is not None:
        task = submission.id
    elif submission.idempotency_key is not None:
        task = task_id_of_key(submission.root_id or submission.namespace, submission.idempotency_key)
    else:
        if envelope.source is None or envelope.event_id is None:
            missing = "ce_source" if envelope.source is None else "ce_id"
            return Rejection("malformed", f"{missing}: missing; it is required if neither id nor idempotency_key is set")
        task = task_id_of_cloudevent(envelope.source, envelope.event_id)
    return Identity(task, submission.root_id or task)
