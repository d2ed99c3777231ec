"""A task that is to be created, and the data of its first event."""

from operator import attrgetter

from schemas import TaskSpec
from schemas import events as e
from schemas.tasks import AdmittedFields

from ..times import text_of, us_of_seconds

_SAME = AdmittedFields.__struct_fields__
_values_of = attrgetter(*_SAME)


def created_data(spec: TaskSpec, *, now_us: int, log_offset: int, queue: str = "default", priority: int = 0) -> e.TaskCreated:
    """The part of `TaskCreated` that comes from the spec (already checked): every field that both declare the same way, and what
    is worked out. `queue` and `priority` where the spec has none."""
    expires = spec.not_start_after
    return e.TaskCreated(
        **dict(zip(_SAME, _values_of(spec), strict=True)),
        queue=queue if spec.queue is None else spec.queue,
        priority=priority if spec.priority is None else spec.priority,
        not_start_after=text_of(now_us + us_of_seconds(expires)) if isinstance(expires, int | float) else expires,
        log_offset=log_offset,
    )
