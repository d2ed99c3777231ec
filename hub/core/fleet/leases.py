""""""

from heapq import heappop
from typing import Any

from schemas import events as e

from ..changes import Changes
from ..state import LiveWorker, PartitionState, Task
from ..state.agenda import DROPPED_AT_ONCE
from ..tasks.attempts import on_lost, on_not_started
from ..times import SECOND_US, us_of_seconds


def expire_leases(changes: Changes) -> None:
    """Expire leases: a worker without a report for its lease, up to the time watermark, loses its attempts; missed heartbeats
    are reported. A worker that holds attempts and has not reported since the take-over gets a full lease from now."""
    watermark_us = changes.known.time_watermark_us
    if watermark_us is None:
        return
    _await_holders(changes)
    for worker in list(changes.state.workers.values()):
        silent_us = watermark_us - worker.last_report_us
        if silent_us >= worker.lease_us:
            over_ms = (worker.last_report_us + worker.lease_us) // 1000
            changes.caused_by(f"agenda/{changes.partition}/lease:{worker.incarnation}/{over_ms}", "agenda:lease")
            reason = f"no heartbeat for {silent_us / SECOND_US:.1f} s"
            lose_worker(changes, worker.incarnation, reason=reason, lease_seconds=worker.lease_us / SECOND_US)
        elif silent_us >= worker.lease_us * 2 // 3 and not worker.missed:
            worker.missed = True
            _report_silence(changes, worker, silent_us)


def _await_holders(changes: Changes) -> None:
    state = changes.state
    for incarnation in [*state.held, *state.worker_rows]:
        if incarnation not in state.workers and (state.held.get(incarnation) or incarnation in state.worker_rows):
            row = state.worker_rows.get(incarnation)
            held = (state.tasks[task].row.lease for task in state.held.get(incarnation, ()))
            leases = [lease.seconds for lease in held if lease is not None]
            if row is not None:
                leases.append(row.lease_seconds)
            state.workers[incarnation] = LiveWorker(incarnation, changes.now_us, us_of_seconds(max(leases)))


def _report_silence(changes: Changes, worker: LiveWorker, silent_us: int) -> None:
    row = changes.state.worker_rows.get(worker.incarnation)
    if row is None or row.state == "silent":
        return
    since_ms = worker.last_report_us // 1000
    changes.caused_by(f"agenda/{changes.partition}/silent:{worker.incarnation}/{since_ms}", "agenda:lease")
    about: dict[str, Any] = {"pool": row.pool, "host": row.host, "pid": row.pid, "slots": row.slots}
    silent_seconds = round(silent_us / SECOND_US, 3)
    changes.apply_to_worker(worker.incarnation, e.WorkerHeartbeatMissed(silent_seconds=silent_seconds, **about))


def extend_deadlines(state: PartitionState, gap_us: int) -> None:
    """Extend all leases and start deadlines by `gap_us` microseconds."""
    for worker in state.workers.values():
        worker.last_report_us += gap_us
    state.start_deadlines = [(due_us + gap_us, task, token) for due_us, task, token in state.start_deadlines]


def next_lease_expiry(workers: dict[str, LiveWorker]) -> int | None:
    """The earliest time at which a worker may miss a heartbeat or be lost, in microseconds, or None."""
    times = [
        worker.last_report_us + (worker.lease_us if worker.missed else worker.lease_us * 2 // 3) for worker in workers.values()
    ]
    return min(times) if times else None


def next_start_deadline(state: PartitionState) -> int | None:
    """The earliest start deadline of an attempt that has not started, in microseconds, or None. Deadlines before it, of attempts
    that have started, are removed: otherwise each of them would be a time at which there seems to be something to do. A call
    removes at most DROPPED_AT_ONCE, then it returns the next one, whatever it is."""
    deadlines, left = state.start_deadlines, DROPPED_AT_ONCE
    while deadlines:
        due_us, task_id, token = deadlines[0]
        if not left or _to_be_started(state, task_id, token) is not None:
            return due_us
        heappop(deadlines)
        left -= 1
    return None


def lose_worker(changes: Changes, incarnation: str, *, reason: str, lease_seconds: float | None) -> None:
    """End a worker and its attempts as lost. `lease_seconds`: its lease, if the lease expired."""
    row = changes.state.worker_rows.get(incarnation)
    if row is not None:
        data = e.WorkerLostEvent(pool=row.pool, host=row.host, pid=row.pid, slots=row.slots, reason=reason)
        changes.apply_to_worker(incarnation, data)
    _lose_attempts(changes, incarnation, reason=reason, lease_seconds=lease_seconds)
    changes.state.workers.pop(incarnation, None)


def _lose_attempts(changes: Changes, incarnation: str, *, reason: str, lease_seconds: float | None) -> None:
    for task_id in sorted(changes.state.held.pop(incarnation, ())):
        task = changes.state.tasks[task_id]
        changes.apply_all(
            task, on_lost(task.id, task.row, changes.now, changes.now_us, reason=reason, lease_seconds=lease_seconds)
        )


def expire_starts(changes: Changes) -> None:
    """Supersede attempts that were not started before their start deadline; they are dispatched again with a new number."""
    state, watermark_us = changes.state, changes.known.time_watermark_us
    while watermark_us is not None and state.start_deadlines and state.start_deadlines[0][0] <= watermark_us:
        due_us, task_id, token = heappop(state.start_deadlines)
        task = _to_be_started(state, task_id, token)
        if task is None or task.row.lease is None:
            continue
        changes.caused_by(f"agenda/{changes.partition}/start:{task_id}.{task.row.dispatch}/{due_us // 1000}", "agenda:start")
        changes.cancel_command(task, "not started in time")
        changes.apply_all(task, on_not_started(task.row, changes.now, start_seconds=task.row.lease.seconds))


def _to_be_started(state: PartitionState, task_id: str, token: str) -> Task | None:
    """The task whose attempt with this token was dispatched and has not started, or None. Such a task is not at rest."""
    task = state.tasks.get_active(task_id)
    lease = None if task is None else task.row.lease
    return task if task is not None and lease is not None and task.row.state == "dispatched" and lease.token == token else None
