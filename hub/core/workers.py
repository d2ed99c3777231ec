"""What workers say of themselves, and what their silence means. Leases are soft state: judged, never written."""

from heapq import heappop
from typing import Any

from schemas import CancelAttempt
from schemas import events as e
from schemas import reports as r

from .attempts import on_lost, on_not_started, on_worker_stopped
from .limits import ID_BYTES, LEASE_SECONDS_MAX, NAMES_MAX, cut
from .retry import problem_of_options
from .state import PartitionState, Worker
from .times import SECOND_US, us_of_seconds
from .turn import Turn

#: The lease of a worker that has not spoken since this partition was taken over.
DEFAULT_LEASE_US = 10 * SECOND_US


def check_worker(report: r.WorkerReport) -> str | None:
    """Why what a worker says of itself cannot be, naming the field."""
    if not 0 < report.lease_seconds <= LEASE_SECONDS_MAX:
        return f"lease_seconds: must be above 0 and at most {LEASE_SECONDS_MAX:.0f}"
    for name in ("incarnation", "pool", "host"):
        if len(getattr(report, name).encode()) > ID_BYTES:
            return f"{name}: longer than {ID_BYTES} bytes"
    for name in ("queues", "names"):
        if len(getattr(report, name)) > NAMES_MAX:
            return f"{name}: more than {NAMES_MAX}"
        if any(len(text.encode()) > ID_BYTES for text in getattr(report, name)):
            return f"{name}: one is longer than {ID_BYTES} bytes"
    return _check_options(report)


def _check_options(report: r.WorkerReport) -> str | None:
    if len(report.options) > NAMES_MAX:
        return f"options: more than {NAMES_MAX}"
    for name, options in report.options.items():
        if len(name.encode()) > ID_BYTES:
            return f"options: a name is longer than {ID_BYTES} bytes"
        if (problem := problem_of_options(options)) is not None:
            return f"options.{name}.{problem}"
    return None


def on_worker_report(turn: Turn, report: r.WorkerReport, *, offset: int, home: bool) -> None:
    """Registration, heartbeat, draining, stopped. On its home partition these are also events."""
    worker = turn.state.workers.get(report.incarnation)
    if worker is None:
        worker = turn.state.workers[report.incarnation] = Worker(report.incarnation, turn.now_us, DEFAULT_LEASE_US)
    was_missed = worker.missed
    worker.heard(report, turn.now_us)
    if report.pool not in turn.state.pools:
        turn.state.unknown_pools.add(report.pool)
    if isinstance(report, r.WorkerDraining):
        worker.draining = True
    row = turn.state.worker_rows.get(report.incarnation)
    if home and (row is None or was_missed or (row.state == "silent")) and not isinstance(report, r.WorkerStopped):
        turn.apply_to_worker(report.incarnation, _registered(report), life=offset)
        row = turn.state.worker_rows[report.incarnation]
    if home and row is not None:
        about: dict[str, Any] = {"pool": report.pool, "host": report.host, "pid": report.pid, "slots": report.slots}
        if isinstance(report, r.WorkerDraining) and row.state != "draining":
            turn.apply_to_worker(report.incarnation, e.WorkerDrainingEvent(**about))
        elif isinstance(report, r.WorkerStopped):
            turn.apply_to_worker(report.incarnation, e.WorkerStoppedEvent(**about))
    if isinstance(report, r.WorkerHeartbeat) and report.holding is not None:
        holding = set(report.holding)
        _stop_strays(turn, worker, report.holding)
        _miss(turn, worker, holding)
    if isinstance(report, r.WorkerStopped):
        for task_id in sorted(turn.state.held.pop(report.incarnation, ())):
            task = turn.state.tasks[task_id]
            turn.apply_all(task, on_worker_stopped(task.id, task.row, turn.now, turn.now_us))
        turn.state.workers.pop(report.incarnation, None)


def _stop_strays(turn: Turn, worker: Worker, holding: list[str]) -> None:
    """Tell the worker to stop what it runs without a lease (it was silent too long, or its command was superseded)."""
    known = {turn.state.tasks[task].row.token for task in turn.state.held.get(worker.incarnation, ())}
    for token in holding:
        if token not in known:
            turn.command(worker, "", CancelAttempt(task="", attempt=0, token=token, reason="the lease is over"))


def _miss(turn: Turn, worker: Worker, holding: set[str]) -> None:
    """Attempts that run by our books, and that their worker does not name twice in a row, are lost: it forgot how they ended.

    Once is no proof: a heartbeat that was made before an attempt began may arrive after its start."""
    tasks = [turn.state.tasks[task] for task in turn.state.held.get(worker.incarnation, ())]
    missing = {task.row.token or "" for task in tasks if task.row.state == "running" and task.row.token not in holding}
    for task in sorted(tasks, key=lambda task: task.id):
        if task.row.token in missing & worker.missing:
            missing.discard(task.row.token or "")
            turn.apply_all(task, on_lost(task.id, task.row, turn.now, turn.now_us, reason="its worker does not have it any more"))
    worker.missing = missing


def _registered(report: r.WorkerReport) -> e.WorkerRegisteredEvent:
    return e.WorkerRegisteredEvent(
        pool=report.pool,
        inbox=report.inbox,
        queues=report.queues,
        names=report.names,
        options=report.options,
        slots=report.slots,
        lease_seconds=report.lease_seconds,
        host=report.host,
        pid=report.pid,
    )


def on_worker_lost(turn: Turn, incarnation: str, reason: str) -> None:
    """A supervisor saw it die: its attempts are lost now, its lease does not have to run out."""
    _lose(turn, incarnation, reason=cut(reason) or "its process has ended", lease_seconds=None)


def judge_leases(turn: Turn, cause: str, heard_until_us: int) -> None:
    """Workers that were silent for a whole lease, up to a time before which all that was said has been read, have lost what
    they held.

    Whoever holds attempts and has not been heard of since the take-over gets a full lease from now.
    """
    state = turn.state
    for incarnation in [*state.held, *state.worker_rows]:
        if incarnation not in state.workers and (state.held.get(incarnation) or incarnation in state.worker_rows):
            row = state.worker_rows.get(incarnation)
            leases = [state.tasks[task].row.lease_seconds for task in state.held.get(incarnation, ())]
            if row is not None:
                leases.append(row.lease_seconds)
            lease_us = us_of_seconds(max(leases))
            state.workers[incarnation] = Worker(incarnation, turn.now_us, lease_us)
    for worker in list(state.workers.values()):
        silent_us = heard_until_us - worker.last_heard_us
        if silent_us >= worker.lease_us:
            turn.caused_by(
                f"agenda/{turn.partition}/lease:{worker.incarnation}/{(worker.last_heard_us + worker.lease_us) // 1000}", cause
            )
            lease_seconds = worker.lease_us / SECOND_US
            _lose(turn, worker.incarnation, reason=f"silent for {silent_us / SECOND_US:.1f} s", lease_seconds=lease_seconds)
        elif silent_us >= worker.lease_us * 2 // 3 and not worker.missed:
            worker.missed = True
            row = state.worker_rows.get(worker.incarnation)
            if row is not None and row.state != "silent":
                turn.caused_by(f"agenda/{turn.partition}/silent:{worker.incarnation}/{worker.last_heard_us // 1000}", cause)
                about: dict[str, Any] = {"pool": row.pool, "host": row.host, "pid": row.pid, "slots": row.slots}
                data = e.WorkerHeartbeatMissed(silent_seconds=round(silent_us / SECOND_US, 3), **about)
                turn.apply_to_worker(worker.incarnation, data)


def forgive_silence(state: PartitionState, gap_us: int) -> None:
    """Move everything that silence is judged by `gap_us` into the future."""
    for worker in state.workers.values():
        worker.last_heard_us += gap_us
    state.start_deadlines = [(due_us + gap_us, task, mark) for due_us, task, mark in state.start_deadlines]


def next_judgement(workers: dict[str, Worker]) -> int | None:
    """When the next worker could be judged silent or lost."""
    times = [
        worker.last_heard_us + (worker.lease_us if worker.missed else worker.lease_us * 2 // 3) for worker in workers.values()
    ]
    return min(times) if times else None


def _lose(turn: Turn, incarnation: str, *, reason: str, lease_seconds: float | None) -> None:
    row = turn.state.worker_rows.get(incarnation)
    if row is not None:
        data = e.WorkerLostEvent(pool=row.pool, host=row.host, pid=row.pid, slots=row.slots, reason=reason)
        turn.apply_to_worker(incarnation, data)
    _lose_attempts(turn, incarnation, reason=reason, lease_seconds=lease_seconds)
    turn.state.workers.pop(incarnation, None)


def _lose_attempts(turn: Turn, incarnation: str, *, reason: str, lease_seconds: float | None) -> None:
    for task_id in sorted(turn.state.held.pop(incarnation, ())):
        task = turn.state.tasks[task_id]
        turn.apply_all(task, on_lost(task.id, task.row, turn.now, turn.now_us, reason=reason, lease_seconds=lease_seconds))


def judge_starts(turn: Turn, cause: str, heard_until_us: int) -> None:
    """Commands that were not started by their start deadline are superseded: dispatched again under a new number."""
    deadlines = turn.state.start_deadlines
    while deadlines and deadlines[0][0] <= heard_until_us:
        due_us, task_id, dispatched = heappop(deadlines)
        task = turn.state.tasks.get(task_id)
        if task is None or task.row.state != "dispatched" or task.row.dispatch != dispatched:
            continue
        turn.caused_by(f"agenda/{turn.partition}/start:{task_id}.{dispatched}/{due_us // 1000}", cause)
        turn.cancel_command(task, "not started in time")
        turn.apply_all(task, on_not_started(task.row, turn.now, start_seconds=task.row.lease_seconds))
