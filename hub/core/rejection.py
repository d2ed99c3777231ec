"""The result of a decision about a report that changes nothing."""

from typing import Generic, Literal, NamedTuple, TypeVar

from schemas.events import RejectionCode

#: The codes of `attempt.report_rejected`.
AttemptRejectionCode = Literal[
    "unknown_task", "already_ended", "stale_attempt", "stale_token", "foreign_worker", "duplicate", "wrong_state"
]

Code = TypeVar("Code", RejectionCode, AttemptRejectionCode)


class Rejection(NamedTuple, Generic[Code]):
    """Why a submission, request or report is rejected: a code of `task.rejected` or `attempt.report_rejected`, and a message
    with the field."""

    code: Code
    reason: str


TaskRejection = Rejection[RejectionCode]
AttemptRejection = Rejection[AttemptRejectionCode]
