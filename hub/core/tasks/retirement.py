"""Moves ended tasks to the ended index."""

from msgspec import json

from schemas import ABSENT

from ..bounds import KEPT_ERROR_MAX, cut_error
from ..changes import Changes
from ..rows import TaskRow
from ..rows.ended import INLINE_RESULT_BYTES_MAX, EndedRow
from ..state import Task
from ..times import us_of, us_of_seconds

#: Steps of an ended workflow that are removed from memory in one batch.
RETIRED_PER_BATCH = 500

#: Workflows of more steps are removed in the batches after that in which they end, which has the reply to the client.
RETIRED_AT_ONCE = 50


_encoder = json.Encoder()


def retire(changes: Changes, task: Task) -> None:
    """Replace the row of an ended task by its entry in the ended index."""
    row = ended_row(task.row, changes.now_us, changes.settings.retention_seconds)
    changes.state.forget(task)
    changes.touched.pop(task.id, None)
    encoded = _encoder.encode(row)
    changes.state.ended.put(task.id, row, encoded)
    changes.retired[task.id] = (task, encoded)


def ended_row(row: TaskRow, now_us: int, retention_seconds: float) -> EndedRow:
    """The entry of the ended index for the row of an ended task."""
    keep = row.window if row.window is not None else retention_seconds
    result = row.result
    small = len(bytes(result)) <= INLINE_RESULT_BYTES_MAX
    ended = EndedRow(
        ended=row.state,
        run=row.run,
        sequence=row.sequence,
        name=row.name,
        until_us=now_us + us_of_seconds(keep),
        finished_at=row.finished_at or "",
        seconds=_seconds(row),
        root=row.root,
        attempt=row.attempt,
        payload_hash=row.payload_hash,
        keyed=row.window is not None,
        log_offset=row.log_offset,
        result=result if small else ABSENT,
        result_omitted=not small,
    )
    if row.error is not None and row.state != "completed":
        ended.error = cut_error(row.error, message=KEPT_ERROR_MAX, stacktrace=0)
    if row.cancel is not None:
        ended.reason = row.cancel.reason
    return ended


def _seconds(row: TaskRow) -> float | None:
    if row.ran_seconds is not None:
        return row.ran_seconds  # Start and end may have been reported together: on the log no time lies between them then.
    if not row.started_at or not row.finished_at:
        return None
    return round((us_of(row.finished_at) - us_of(row.started_at)) / 1e6, 6)


def retire_later(changes: Changes, root_id: str, steps: list[str]) -> None:
    """Have the steps of an ended workflow removed from memory: few of them in this batch, others in slices, one per batch."""
    changes.state.retiring.setdefault(root_id, []).extend(steps)
    changes.state.agenda.add(changes.now_us + (len(steps) > RETIRED_AT_ONCE), "retire", root_id)


def retire_steps(changes: Changes, root_id: str) -> None:
    """Remove the next slice of the steps of an ended workflow from memory, but for those whose id is in use again."""
    steps, tasks = changes.state.retiring.pop(root_id, []), changes.state.tasks
    again = tasks.get(root_id)
    for step in steps[:RETIRED_PER_BATCH]:
        task = tasks.get(step)
        if task is not None and task.ended and (again is None or task.row.run < again.row.run):
            retire(changes, task)
    if len(steps) > RETIRED_PER_BATCH:
        retire_later(changes, root_id, steps[RETIRED_PER_BATCH:])
