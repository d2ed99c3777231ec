"""The data of the first event of a task."""

from collections.abc import Callable

from schemas import TaskSpec
from schemas import events as e
from schemas.tasks import AdmittedFields

from ..times import text_of, us_of_seconds


def _copier() -> Callable[..., e.TaskCreated]:
    """A function that copies the fields that spec and event declare identically. It is compiled from their names, as
    dataclasses do; copying with a dict per task would take twice as long."""
    copied = ", ".join(f"{name}=spec.{name}" for name in AdmittedFields.__struct_fields__)
    function: Callable[..., e.TaskCreated] = eval(
        f"lambda spec, queue, priority, not_start_after, log_offset: TaskCreated({copied}, queue=queue, priority=priority,"
        " not_start_after=not_start_after, log_offset=log_offset)",
        {"TaskCreated": e.TaskCreated},
    )
    return function


_created = _copier()


def created_data(spec: TaskSpec, *, now_us: int, log_offset: int, queue: str = "default", priority: int = 0) -> e.TaskCreated:
    """The part of `TaskCreated` that comes from a checked spec: copied and computed fields. `queue` and `priority` are the
    defaults if the spec has none."""
    expires = spec.not_start_after
    return _created(
        spec,
        queue if spec.queue is None else spec.queue,
        priority if spec.priority is None else spec.priority,
        text_of(now_us + us_of_seconds(expires)) if isinstance(expires, int | float) else expires,
        log_offset,
    )
