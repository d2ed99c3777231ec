"""What is submitted: made of what a user gives, checked as the engine checks it, and named."""

from typing import Any

import uuid_utils
from msgspec import MsgspecError, json

from schemas import Submission, decoding_problem, step_id, task_id_of_key

from ..core import check_submission
from .errors import InvalidSubmissionError
from .workflow import Workflow, task_name_and_options

_encoder, _decoder = json.Encoder(), json.Decoder(Submission)


def submission_of(task: Any, args: dict[str, Any] | None, fields: dict[str, Any]) -> Submission:
    """The submission of a task (a name, a registered function, a Workflow) with these fields. Raises InvalidSubmissionError."""
    given = {**fields, **({"args": args} if args else {})}
    if isinstance(task, Workflow):
        return checked({**task.to_json(), **given})
    name, defaults = task_name_and_options(task)
    return checked({"name": name, **defaults, **given})


def checked(fields: dict[str, Any]) -> Submission:
    """A submission of these fields that no engine rejects for what it says. Raises InvalidSubmissionError naming the field."""
    try:
        submission = _decoder.decode(_encoder.encode(fields))
    except MsgspecError as error:
        raise InvalidSubmissionError(decoding_problem(error), code="malformed") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSubmissionError(f"it cannot be written as JSON: {error}", code="malformed") from None
    if (problem := check_submission(submission)) is not None:
        raise InvalidSubmissionError(problem.reason, code=problem.code, task=submission.id or "")
    return submission


def identity_of(submission: Submission) -> tuple[str, str]:
    """The ids of the task and of its root; an id is drawn where nothing names the task."""
    root = submission.root_id
    if root is not None and submission.tasks is not None:
        return root, root  # Several steps have no id together: the handle is the workflow's.
    if submission.idempotency_key is not None:
        task = task_id_of_key(root or submission.namespace, submission.idempotency_key)
    elif root is not None and submission.key is not None and submission.id is None:
        task = step_id(root, submission.key)
    else:
        if submission.id is None:
            submission.id = str(uuid_utils.uuid7())
        task = submission.id
    return task, root or task
