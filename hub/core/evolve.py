"""`evolve`: the only writer of durable state. One function per event type; it takes a row and what happened, and changes the row.

Every function uses nothing but the row, the event's data, its time and its life, so that folding the events of an entity
from an empty row gives the same bytes. Rules: never edit the meaning of one after a release; add a version instead.
"""

from collections.abc import Callable
from sys import intern
from typing import Any

from msgspec import Struct

from schemas import ABSENT
from schemas import events as e

from .rows import EngineRow, TaskRow, WorkerRow
from .rows.task import INLINE_ARGS_BYTES_MAX
from .times import us_of, us_of_seconds
from .transitions import BY_EVENT


def created(
    data: e.TaskCreated,
    *,
    life: int,
    namespace: str,
    root: str | None,
    correlation: str | None,
    traceparent: str | None,
    time: str,
    time_us: int,
) -> TaskRow:
    """The row of a new task; `root` is None where the task is its own.

    Words that repeat are interned: it saves memory, and a default is left out of the encoded row by its identity.
    """
    timeouts = data.timeouts
    return TaskRow(
        life=life,
        sequence=1,
        state="created",
        name=data.name,
        version=data.version,
        namespace=intern(namespace),
        queue=intern(data.queue),
        priority=data.priority,
        delivery=data.delivery,
        root=root,
        parent=data.parent_id,
        key=data.key,
        correlation=correlation,
        traceparent=traceparent,
        args=data.args if 2 < len(bytes(data.args)) <= INLINE_ARGS_BYTES_MAX else ABSENT,
        depends_on=data.depends_on,
        unmet=len(data.depends_on),
        tags=data.tags,
        timeouts=timeouts,
        retry=data.retry,
        payload_hash=data.payload_hash,
        window=data.idempotency_window,
        log_offset=data.log_offset,
        created_at=time,
        nodes=data.nodes,
        start_after=data.start_after,
        expire_due_us=us_of(data.not_start_after) if data.not_start_after else None,
        total_due_us=time_us + us_of_seconds(timeouts.total) if timeouts and timeouts.total else None,
    )


def _scheduled(row: TaskRow, data: e.TaskScheduled, time: str, time_us: int) -> None:
    row.scheduled_at = time
    row.start_due_us = us_of(data.start_after)
    row.unmet = 0


def _blocked(row: TaskRow, data: e.TaskBlocked, time: str, time_us: int) -> None:
    row.unmet = data.unmet


def _ready(row: TaskRow, data: e.TaskReady, time: str, time_us: int) -> None:
    if row.ready_at is None and row.timeouts and row.timeouts.start:
        start_by = time_us + us_of_seconds(row.timeouts.start)
        row.expire_due_us = min(start_by, row.expire_due_us or start_by)
    row.ready_at = time
    row.unmet = 0
    row.start_due_us = None
    row.retry_due_us = None
    row.attempt_due_us = None
    row.worker = row.pool = row.inbox = row.token = None


def _retry_scheduled(row: TaskRow, data: e.TaskRetryScheduled, time: str, time_us: int) -> None:
    row.retry_due_us = us_of(data.next_retry_at)
    row.attempt_due_us = None
    row.worker = row.pool = row.inbox = row.token = None


def _dispatched(row: TaskRow, data: e.TaskDispatched, time: str, time_us: int) -> None:
    row.dispatched_at = time
    row.attempt = data.attempt
    row.dispatch = data.dispatch
    row.token = data.token
    row.worker = data.worker
    row.pool = data.pool
    row.inbox = data.inbox
    row.lease_seconds = data.lease_seconds
    row.policy = data.policy
    row.number = 0
    row.percent = None
    row.message = ""


def _started(row: TaskRow, data: e.TaskStarted | e.AttemptStartedEvent, time: str, time_us: int) -> None:
    row.started_at = time
    row.number = data.number
    row.expire_due_us = None
    if row.policy.timeout_seconds is not None:
        row.attempt_due_us = time_us + us_of_seconds(row.policy.timeout_seconds)


def _progressed(row: TaskRow, data: e.TaskProgressed, time: str, time_us: int) -> None:
    row.percent = data.percent
    row.message = data.message
    row.number = data.number


def _attempt_failed(row: TaskRow, data: e.AttemptFailedEvent, time: str, time_us: int) -> None:
    row.errors += 1
    row.error = data.error
    row.number = data.number


def _attempt_timed_out(row: TaskRow, data: e.AttemptTimedOut, time: str, time_us: int) -> None:
    row.timed_out += 1


def _attempt_lost(row: TaskRow, data: e.AttemptEvent, time: str, time_us: int) -> None:
    row.lost += 1


def _attempt_given_back(row: TaskRow, data: e.AttemptEvent, time: str, time_us: int) -> None:
    row.attempt -= 1  # Not counted: the next dispatch runs the same attempt.


def _cancel_requested(row: TaskRow, data: e.TaskCancelRequested, time: str, time_us: int) -> None:
    row.cancelling = True
    row.cancel_reason = data.reason
    row.cancel_by = data.by
    row.cancel_timed_out = data.timed_out


def _completed(row: TaskRow, data: e.TaskCompleted | e.WorkflowCompleted, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.result = data.result


def _failed(row: TaskRow, data: e.TaskFailed | e.WorkflowFailed, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.error = data.error


def _ended(row: TaskRow, data: e.Ended, time: str, time_us: int) -> None:
    row.finished_at = time
    row.unmet = 0
    row.worker = row.pool = row.inbox = row.token = None
    row.args = ABSENT
    row.start_due_us = row.expire_due_us = row.total_due_us = row.retry_due_us = row.attempt_due_us = None


def _cancelled(row: TaskRow, data: e.TaskCancelled, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.cancel_reason, row.cancel_by = data.reason, data.by


def _workflow_ended(row: TaskRow, data: e.WorkflowEnded, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    _counted(row, data)


def _workflow_completed(row: TaskRow, data: e.WorkflowCompleted, time: str, time_us: int) -> None:
    _completed(row, data, time, time_us)
    _counted(row, data)


def _workflow_failed(row: TaskRow, data: e.WorkflowFailed, time: str, time_us: int) -> None:
    _failed(row, data, time, time_us)
    _counted(row, data)


def _counted(row: TaskRow, data: e.WorkflowEnded | e.WorkflowProgressed) -> None:
    row.completed = data.completed
    row.failed = data.failed
    row.cancelled = data.cancelled
    row.skipped = data.skipped
    row.expired = data.expired


def _workflow_started(row: TaskRow, data: e.WorkflowStarted, time: str, time_us: int) -> None:
    row.started_at = time
    row.planned = data.planned


def _workflow_expanded(row: TaskRow, data: e.WorkflowExpanded, time: str, time_us: int) -> None:
    row.nodes = data.nodes


def _workflow_progressed(row: TaskRow, data: e.WorkflowProgressed, time: str, time_us: int) -> None:
    row.planned = data.planned
    _counted(row, data)


def _nothing(row: TaskRow, data: Any, time: str, time_us: int) -> None:
    """The event says something; the row has nothing to remember of it but its sequence."""


TASK_EVOLVERS: dict[type, Callable[[TaskRow, Any, str, int], None]] = {
    e.TaskScheduled: _scheduled,
    e.TaskBlocked: _blocked,
    e.TaskDependencySatisfied: _blocked,
    e.TaskReady: _ready,
    e.TaskDispatched: _dispatched,
    e.TaskStarted: _started,
    e.AttemptStartedEvent: _started,
    e.AttemptGranted: _nothing,
    e.TaskProgressed: _progressed,
    e.AttemptFailedEvent: _attempt_failed,
    e.AttemptTimedOut: _attempt_timed_out,
    e.AttemptLeaseExpired: _attempt_lost,
    e.AttemptLost: _attempt_lost,
    e.AttemptCancelledEvent: _nothing,
    e.AttemptReleasedEvent: _attempt_given_back,
    e.AttemptSuperseded: _attempt_given_back,
    e.TaskRetryScheduled: _retry_scheduled,
    e.TaskCancelRequested: _cancel_requested,
    e.TaskCompleted: _completed,
    e.TaskFailed: _failed,
    e.TaskCancelled: _cancelled,
    e.TaskExpired: _ended,
    e.TaskSkipped: _ended,
    e.WorkflowStarted: _workflow_started,
    e.WorkflowExpanded: _workflow_expanded,
    e.WorkflowStepsReady: _nothing,
    e.WorkflowProgressed: _workflow_progressed,
    e.WorkflowCompleted: _workflow_completed,
    e.WorkflowFailed: _workflow_failed,
    e.WorkflowCancelled: _workflow_ended,
}


#: What each event of a task does: its function, and the state it leads to (None: the state stays).
_TASK_EVENTS = {event: (evolver, BY_EVENT[event].target) for event, evolver in TASK_EVOLVERS.items()}

_WORKER_STATES: dict[type, str] = {
    e.WorkerHeartbeatMissed: "silent",
    e.WorkerLostEvent: "lost",
    e.WorkerDrainingEvent: "draining",
    e.WorkerStoppedEvent: "stopped",
}


def evolve_task(row: TaskRow, event: Struct, time: str, time_us: int) -> None:
    """Apply `event` to `row`. An event that is not a task's is a broken invariant: KeyError."""
    evolver, target = _TASK_EVENTS[type(event)]
    row.sequence += 1
    evolver(row, event, time, time_us)
    if target is not None:
        row.state = target


def evolve_worker(row: WorkerRow, event: Struct, time: str) -> None:
    """Apply an event to the row of a worker."""
    row.sequence += 1
    if isinstance(event, e.WorkerRegisteredEvent):
        row.pool, row.inbox, row.queues, row.names = event.pool, event.inbox, event.queues, event.names
        row.options = event.options
        row.slots, row.lease_seconds, row.host, row.pid = event.slots, event.lease_seconds, event.host, event.pid
        row.registered_at = time
        row.state = "active"
    else:
        row.state = _WORKER_STATES[type(event)]


def evolve_engine(row: EngineRow, event: Struct, time: str) -> None:
    """Apply an event of the partition's own entity."""
    row.sequence += 1
    if isinstance(event, e.EngineStarted):
        row.state, row.host, row.pid, row.started_at = "active", event.host, event.pid, time
    elif isinstance(event, e.EngineStopped):
        row.state = "stopped"
    elif isinstance(event, e.EngineStorageChanged):
        row.storage = event.level
