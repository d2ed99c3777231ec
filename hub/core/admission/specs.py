"""Validates all fields of a task in a submission."""

from schemas import StepSpec, TaskSpec, check_id
from schemas.tasks import ARGS_BYTES_MAX

from ..bounds import PRIORITY_MAX, SECONDS_MAX, check_texts
from ..rejection import Rejection, TaskRejection
from ..tasks.retry import problem_of
from ..times import us_of


def check_spec(spec: TaskSpec, at: str) -> TaskRejection | None:
    """Why `spec` is invalid, with the path of the field below `at`; None if it is valid."""
    if (problem := check_id(spec.name, f"{at}name")) is not None:
        return Rejection("invalid_input", problem)
    args = bytes(spec.args)
    if len(args) > ARGS_BYTES_MAX:
        return Rejection(
            "limit_exceeded", f"{at}args: must be at most {ARGS_BYTES_MAX} bytes, got {len(args)}; pass a reference instead"
        )
    if isinstance(spec, StepSpec) and spec.idempotency_key is not None:
        return Rejection("invalid_input", f"{at}idempotency_key: not allowed on a step, whose key in tasks is already unique")
    if args.lstrip()[:1] != b"{":
        return Rejection("invalid_input", f"{at}args: must be a JSON object")
    if spec.priority is not None and not -PRIORITY_MAX <= spec.priority <= PRIORITY_MAX:
        return Rejection("invalid_input", f"{at}priority: must be between {-PRIORITY_MAX:,} and {PRIORITY_MAX:,}")
    if spec.queue is not None and (problem := check_id(spec.queue, f"{at}queue")) is not None:
        return Rejection("invalid_input", problem)
    if (problem := check_texts(spec, at)) is not None:
        return Rejection("limit_exceeded", problem)
    if spec.retry is not None and (problem := problem_of(spec.retry)) is not None:
        return Rejection("invalid_input", f"{at}retry.{problem}")
    return _check_times(spec, at)


def _check_times(spec: TaskSpec, at: str) -> TaskRejection | None:
    if spec.start_after is None and spec.not_start_after is None and spec.timeouts is None:
        return None
    for field, moment in (("start_after", spec.start_after), ("not_start_after", spec.not_start_after)):
        if isinstance(moment, str):
            try:
                us_of(moment)
            except (ValueError, OverflowError) as error:
                return Rejection("invalid_input", f"{at}{field}: {error}")
        elif moment is not None and not 0 <= moment <= SECONDS_MAX:
            return Rejection("invalid_input", f"{at}{field}: must be between 0 and {SECONDS_MAX:.0f} seconds")
    if spec.timeouts is not None:
        for field in spec.timeouts.__struct_fields__:
            seconds = getattr(spec.timeouts, field)
            if seconds is not None and not 0 < seconds <= SECONDS_MAX:
                return Rejection(
                    "invalid_input", f"{at}timeouts.{field}: must be greater than 0 and at most {SECONDS_MAX:.0f} seconds"
                )
    return None
