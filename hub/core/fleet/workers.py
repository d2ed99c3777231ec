"""Reports of workers about themselves."""

from typing import Any

from schemas import CancelAttempt, DefinitionsWanted
from schemas import events as e
from schemas import reports as r

from ..bounds import ID_BYTES, LEASE_SECONDS_MAX, QUEUES_MAX, cut
from ..changes import Changes
from ..envelope import Envelope, InvalidReport
from ..rows import WorkerRow
from ..state import LiveWorker, Task
from ..tasks.attempts import on_lost, on_worker_stopped
from ..times import SECOND_US
from .definitions import check_definitions, learn, news_of
from .leases import lose_worker

#: Lease of a worker that has not reported since the take-over of this partition.
DEFAULT_LEASE_US = 10 * SECOND_US


def check_worker(report: r.WorkerReport, inboxes: int) -> str | None:
    """Why a worker's report about itself is invalid, with the field; None if it is valid."""
    if not 0 < report.lease_seconds <= LEASE_SECONDS_MAX:
        return f"lease_seconds: must be greater than 0 and at most {LEASE_SECONDS_MAX:.0f}"
    for name in ("incarnation", "pool", "host"):
        if len(getattr(report, name).encode()) > ID_BYTES:
            return f"{name}: longer than {ID_BYTES} bytes"
    if len(report.queues) > QUEUES_MAX:
        return f"queues: more than {QUEUES_MAX}"
    if any(len(queue.encode()) > ID_BYTES for queue in report.queues):
        return f"queues: one is longer than {ID_BYTES} bytes"
    if report.inbox >= inboxes:
        return f"inbox: must be between 0 and {inboxes - 1}, got {report.inbox}"
    return check_definitions(report)


def on_worker_report(changes: Changes, envelope: Envelope, report: r.WorkerReport) -> None:
    """Process registration, heartbeat, draining and stopped. On the worker's home partition these also emit events. Raises
    InvalidReport."""
    if (problem := check_worker(report, changes.settings.inboxes)) is not None:
        raise InvalidReport(f"{envelope.type}: {problem}")
    worker = changes.state.workers.get(report.incarnation)
    if report.definitions is not None:
        _learn(changes, report, worker)
    if worker is None:
        worker = changes.state.workers[report.incarnation] = LiveWorker(report.incarnation, changes.now_us, DEFAULT_LEASE_US)
    was_missed = worker.missed
    worker.update(report, changes.now_us)
    if report.pool not in changes.known.pools:
        changes.unknown_pools.add(report.pool)
    if changes.home_of(report.incarnation) == changes.partition:
        _announce(changes, envelope, report, worker, was_missed=was_missed)
    match report:
        case r.WorkerHeartbeat(holding=list() as holding):
            _stop_strays(changes, worker, holding)
            _miss(changes, worker, set(holding))
        case r.WorkerDraining():
            worker.draining = True
        case r.WorkerStopped():
            _release(changes, worker)
            return
    if report.revision > worker.revision and worker.pool in changes.known.pools:
        changes.command(worker, "", DefinitionsWanted(partition=changes.partition, revision=report.revision))


def _learn(changes: Changes, report: r.WorkerReport, worker: LiveWorker | None) -> None:
    """A registration says what holds from now on, once. What else gives definitions repeats what may be out of date by now: other
    workers have registered since."""
    replace = isinstance(report, r.WorkerRegistered) and (worker is None or report.revision > worker.registered)
    learn(changes, news_of(changes, report, replace=replace), report.incarnation)


def _announce(changes: Changes, envelope: Envelope, report: r.WorkerReport, worker: LiveWorker, *, was_missed: bool) -> None:
    """On the worker's home partition, emit an event if its report has news."""
    row = changes.state.worker_rows.get(report.incarnation)
    is_news = row is None or was_missed or row.state == "silent" or worker.revision > row.revision
    if is_news and not isinstance(report, r.WorkerStopped):
        changes.apply_to_worker(report.incarnation, _registered(report, worker, row), run=envelope.offset)
        row = changes.state.worker_rows[report.incarnation]
    if row is None:
        return
    about: dict[str, Any] = {"pool": report.pool, "host": report.host, "pid": report.pid, "slots": report.slots}
    if isinstance(report, r.WorkerDraining) and row.state != "draining":
        changes.apply_to_worker(report.incarnation, e.WorkerDrainingEvent(**about))
    elif isinstance(report, r.WorkerStopped):
        changes.apply_to_worker(report.incarnation, e.WorkerStoppedEvent(**about))


def _release(changes: Changes, worker: LiveWorker) -> None:
    """Release the attempts of a worker that shut down."""
    for task_id in sorted(changes.state.held.pop(worker.incarnation, ())):
        task = changes.state.tasks[task_id]
        changes.apply_all(task, on_worker_stopped(task.id, task.row, changes.now, changes.now_us))
    changes.state.workers.pop(worker.incarnation, None)


def _stop_strays(changes: Changes, worker: LiveWorker, holding: list[str]) -> None:
    """Request the worker to stop attempts that it runs without a lease (the lease expired, or the attempt was superseded).
    Skips workers of a pool without a commands topic: they never got a command, and a transaction that writes to the topic
    would fail."""
    if worker.pool not in changes.known.pools:
        return
    known = {_token(changes.state.tasks[task]) for task in changes.state.held.get(worker.incarnation, ())}
    for token in holding:
        if token not in known:
            changes.command(worker, "", CancelAttempt(task="", attempt=0, token=token, reason="the lease has expired"))


def _miss(changes: Changes, worker: LiveWorker, holding: set[str]) -> None:
    """Running attempts that are missing from two consecutive reports of their worker are lost.

    One report is not enough: a heartbeat built before the start of an attempt may arrive after it."""
    tasks = [changes.state.tasks[task] for task in changes.state.held.get(worker.incarnation, ())]
    missing = {_token(task) for task in tasks if task.row.state == "running" and _token(task) not in holding}
    lost = missing & worker.missing
    for task in sorted(tasks, key=lambda task: task.id):
        if _token(task) in lost:
            changes.apply_all(
                task, on_lost(task.id, task.row, changes.now, changes.now_us, reason="its worker no longer has the attempt")
            )
    worker.missing = missing


def _token(task: Task) -> str:
    assert task.row.lease is not None, "a task that a worker holds has a lease"
    return task.row.lease.token


def _registered(report: r.WorkerReport, worker: LiveWorker, row: WorkerRow | None) -> e.WorkerRegisteredEvent:
    """`row`: what is known of the worker from before a take-over, since when it may not have said what it has registered."""
    known = row if row is not None and worker.revision < 0 else worker
    return e.WorkerRegisteredEvent(
        pool=report.pool,
        inbox=report.inbox,
        queues=report.queues,
        revision=max(0, known.revision),
        definitions=sorted(known.definitions),
        slots=report.slots,
        lease_seconds=report.lease_seconds,
        host=report.host,
        pid=report.pid,
    )


def on_worker_lost(changes: Changes, envelope: Envelope, report: r.WorkerLost) -> None:
    """A supervisor observed the death of a worker: its attempts are lost at once, before the lease expires."""
    lose_worker(changes, report.incarnation, reason=cut(report.reason) or "its process has ended", lease_seconds=None)
