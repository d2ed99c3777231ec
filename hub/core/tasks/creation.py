"""The data of the first event of a task."""

from collections.abc import Callable

from schemas import TaskSpec
from schemas import events as e
from schemas.tasks import AdmittedFields

from ..state import KnownDefinition
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


def created_data(
    spec: TaskSpec, known: KnownDefinition | None, *, now_us: int, log_offset: int, queue: str = "default", priority: int = 0
) -> e.TaskCreated:
    """The part of `TaskCreated` that comes from the spec (already checked) and from the definition of its name: every field that
    both declare the same way, and what is worked out. `queue` and `priority` where neither of them has one. Without a definition
    the task is unresolved."""
    if known is not None:
        options = known.definition
        queue, priority = options.queue or queue, priority if options.priority is None else options.priority
    expires = spec.not_start_after
    data = _created(
        spec,
        queue if spec.queue is None else spec.queue,
        priority if spec.priority is None else spec.priority,
        text_of(now_us + us_of_seconds(expires)) if isinstance(expires, int | float) else expires,
        log_offset,
    )
    if known is None:
        data.unresolved = True
    else:
        data.version, data.policy = options.version, known.policy_for(spec)
    return data
