"""A task that is to be created, and the data of its first event."""

from schemas import TaskSpec
from schemas import events as e

from ..times import text_of, us_of_seconds


def created_data(spec: TaskSpec, *, now_us: int, log_offset: int, queue: str = "default", priority: int = 0) -> e.TaskCreated:
    """The part of `TaskCreated` that comes from the spec (already checked); `queue` and `priority` where the spec has none."""
    expires = spec.not_start_after
    return e.TaskCreated(
        name=spec.name,
        version=spec.version,
        args=spec.args,
        delivery=spec.delivery,
        queue=queue if spec.queue is None else spec.queue,
        priority=priority if spec.priority is None else spec.priority,
        start_after=spec.start_after,
        not_start_after=text_of(now_us + us_of_seconds(expires)) if isinstance(expires, int | float) else expires,
        timeouts=spec.timeouts,
        retry=spec.retry,
        external_id=spec.external_id,
        account_id=spec.account_id,
        user_id=spec.user_id,
        category=spec.category,
        subject=spec.subject,
        description=spec.description,
        tags=spec.tags,
        annotations=spec.annotations,
        log_offset=log_offset,
    )
