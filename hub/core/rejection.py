"""What a decision gives where a report changes nothing."""

from typing import Generic, Literal, NamedTuple, TypeVar

from schemas.events import RejectionCode

#: The codes of `attempt.report_rejected`.
AttemptRejectionCode = Literal[
    "unknown_task", "already_ended", "stale_attempt", "stale_token", "foreign_worker", "duplicate", "wrong_state"
]

Code = TypeVar("Code", RejectionCode, AttemptRejectionCode)


class Rejection(NamedTuple, Generic[Code]):
    """Why a submission, a request or a report cannot be taken: a code of `task.rejected` or of `attempt.report_rejected`, and a
    sentence that names the field."""

    code: Code
    reason: str


TaskRejection = Rejection[RejectionCode]
AttemptRejection = Rejection[AttemptRejectionCode]
