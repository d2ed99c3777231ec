"""Processes due timers in a batch, including work done in slices.

Each entry is compared with its row, and dropped if it is outdated. Provenance:
`agenda/<partition>/<kind>:<task>[.<mark>]/<due>/<index>`; the mark of a slice is its position, which makes it unique.
"""

from schemas import events as e

from ..bounds import REASON_MAX, cut
from ..changes import Changes
from ..conditions import TimerKey
from ..tasks.retirement import retire_steps
from ..times import text_of
from .timers import TIMERS

#: Number of events in a batch from which further due timers wait for the next batch (a slice may add about 600).
EVENTS_PER_BATCH = 400


class PoisonTimer(Exception):
    """Processing the timer `key` failed with the state partly changed: discard the partition and restore it."""

    def __init__(self, key: TimerKey, reason: str) -> None:
        super().__init__(f"timer {key[0]} of task {key[1]}: {reason}")
        self.key, self.reason = key, reason


def take_due(changes: Changes, *, timers_max: int | None = None) -> TimerKey | None:
    """Process due timers in order, until the batch is full or `timers_max` were processed. Returns the last one, or None.

    Timeouts wait until the time watermark has reached them, because a report of an earlier end may be unread. Raises
    PoisonTimer."""
    left, key = timers_max, None
    while len(changes.events) < EVENTS_PER_BATCH and left != 0:
        entry = changes.state.agenda.pop_due(changes.now_us, changes.known.time_watermark_us)
        if entry is None:
            break
        left = None if left is None else left - 1
        key = _take_one(changes, entry)
    return key


def _take_one(changes: Changes, entry: tuple[int, str, str, int]) -> TimerKey:
    due_us, kind, task_id, mark = entry
    task = changes.state.tasks.get(task_id)
    key = (kind, task_id, -1 if task is None else task.row.run, mark)
    before, done = changes.provenance, (len(changes.events), len(changes.counted))
    changes.caused_by(f"agenda/{changes.partition}/{kind}:{task_id}.{mark}/{due_us // 1000}", f"agenda:{kind}")
    if kind == "dispatch":
        return key  # only triggers the batch, and is the cause of its dispatches
    if key in changes.known.poison_timers:
        _dead_letter(changes, key, due_us)
        return key
    try:
        _take_timer(changes, entry)
    except MemoryError:
        raise
    except Exception as error:
        raise PoisonTimer(key, cut(f"{type(error).__name__}: {error}", REASON_MAX)) from error
    if (len(changes.events), len(changes.counted)) == done:
        changes.caused_by(*before)  # it caused nothing, now or at the end of the batch: restore the previous cause
    return key


def _dead_letter(changes: Changes, key: TimerKey, due_us: int) -> None:
    """Emit the event of a poison timer. It is found again after each take-over, so each event needs a unique provenance."""
    kind, task_id, _, _ = key
    again = changes.state.engine_row.sequence
    changes.caused_by(f"agenda/{changes.partition}/poison:{task_id}.{again}/{due_us // 1000}", f"agenda:{kind}")
    reason = changes.known.poison_timers[key]
    changes.apply_to_engine(e.EngineTimerDeadLettered(timer=kind, task=task_id, due_at=text_of(due_us), reason=reason))


def _take_timer(changes: Changes, entry: tuple[int, str, str, int]) -> None:
    due_us, kind, task_id, mark = entry
    task = changes.state.tasks.get(task_id)
    if kind == "retire":
        retire_steps(changes, task_id)
    elif task is not None and not task.ended:
        TIMERS[kind](changes, task, due_us, mark)
