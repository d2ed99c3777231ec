"""What time causes: taking due entries of the agenda inside a batch, and large work done in slices.

Each entry is compared with the row it is about: an entry that the row has moved past is dropped. Provenance:
`agenda/<partition>/<kind>:<task>[.<mark>]/<due>/<index>`; a slice's mark is its position, so no two are alike.
"""

from schemas import events as e

from ..bounds import REASON_MAX, cut
from ..changes import Changes
from ..conditions import TimerKey
from ..tasks.retirement import retire_steps
from ..times import text_of
from .timers import TIMERS

#: How many events a batch may hold before what is still due waits for the next (a slice may add some 600).
EVENTS_PER_BATCH = 400


class PoisonTimer(Exception):
    """Taking the timer `key` failed half-way: the state is spoiled, drop the partition and restore it."""

    def __init__(self, key: TimerKey, reason: str) -> None:
        super().__init__(f"the timer {key[0]} of task {key[1]}: {reason}")
        self.key, self.reason = key, reason


def take_due(changes: Changes, *, timers_max: int | None = None) -> TimerKey | None:
    """Take what is due, in order, until the batch is full or `timers_max` were taken; returns the last one.

    A report that something was in time may lie unread: a timeout waits until the time watermark has reached it. Raises
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
    before, count = changes.provenance, len(changes.events)
    changes.caused_by(f"agenda/{changes.partition}/{kind}:{task_id}.{mark}/{due_us // 1000}", f"agenda:{kind}")
    if kind == "dispatch":
        return key  # Only there so that the batch is decided, and as the cause of what it dispatches.
    if key in changes.known.poison_timers:
        _dead_letter(changes, key, due_us)
        return key
    try:
        _take_timer(changes, entry)
    except MemoryError:
        raise
    except Exception as error:
        raise PoisonTimer(key, cut(f"{type(error).__name__}: {error}", REASON_MAX)) from error
    if len(changes.events) == count and not changes.counted:
        changes.caused_by(*before)  # Nothing happened, and nothing follows from it: what comes next has another cause.
    return key


def _dead_letter(changes: Changes, key: TimerKey, due_us: int) -> None:
    """It is found again after each take-over: its provenance must be another one each time."""
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
