"""Creates submissions from the arguments of a caller, checks them as the engine does, and assigns ids."""

from typing import Any

import uuid_utils
from msgspec import MsgspecError, json

from schemas import Submission, decoding_problem, step_id, task_id_of_key

from ..core import check_submission
from .errors import InvalidSubmissionError
from .workflow import Workflow, task_name_and_options

_encoder, _decoder = json.Encoder(), json.Decoder(Submission)


def submission_of(task: Any, args: dict[str, Any] | None, fields: dict[str, Any]) -> Submission:
    """A submission of a task (a name, a registered function, or a Workflow) with these fields. Raises InvalidSubmissionError."""
    given = {**fields, **({"args": args} if args else {})}
    if isinstance(task, Workflow):
        return checked({**task.to_json(), **given})
    name, defaults = task_name_and_options(task)
    return checked({"name": name, **defaults, **given})


def checked(fields: dict[str, Any]) -> Submission:
    """A submission with these fields, checked as by the engine. Raises InvalidSubmissionError, which names the field."""
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
    """The ids of the task and of its root. A submission that does not determine the id gets a random one."""
    root = submission.root_id
    if root is not None and submission.tasks is not None:
        return root, root  # Several steps have no common id: the handle is that of the workflow.
    if submission.idempotency_key is not None:
        task = task_id_of_key(root or submission.namespace, submission.idempotency_key)
    elif root is not None and submission.key is not None and submission.id is None:
        task = step_id(root, submission.key)
    else:
        if submission.id is None:
            submission.id = str(uuid_utils.uuid7())
        task = submission.id
    return task, root or task
