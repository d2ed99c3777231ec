"""The data of the first event of a task."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import fields as fields_of

from schemas import TaskSpec
from schemas import events as e
from schemas.tasks import AdmittedFields

from ..state import KnownDefinition
from ..times import text_of, us_of_seconds


def _copier() -> Callable[..., e.TaskCreated]:
    """A function that copies the fields that spec and event declare identically. It is compiled from their names, as
    dataclasses do. Fields that may be None are set one by one: most are, and a call with more than 15 named arguments would
    collect them in a dict first."""
    fields = fields_of(AdmittedFields)
    copied = ", ".join(f"{field.name}=spec.{field.name}" for field in fields if field.default is not None)
    optional = "".join(
        f"    if spec.{field.name} is not None:\n        data.{field.name} = spec.{field.name}\n"
        for field in fields
        if field.default is None
    )
    names: dict[str, Any] = {"TaskCreated": e.TaskCreated}
    exec(
        "def created(spec, queue, priority, not_start_after, log_offset):\n"
        f"    data = TaskCreated({copied}, queue=queue, priority=priority,"
        f" not_start_after=not_start_after, log_offset=log_offset)\n{optional}    return data\n",
        names,
    )
    function: Callable[..., e.TaskCreated] = names["created"]
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
