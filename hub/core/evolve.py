"""`evolve`, the only writer of durable state: one function per event type, which applies an event to a row.

The functions use only the row, the data of the event, its time and its run, so that folding the events of an entity from an
empty row gives the same bytes. Never change the meaning of a function after a release; add a version instead.
"""

from collections.abc import Callable
from sys import intern
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schemas import ABSENT
from schemas import events as e

from .rows import DefinitionRow, EngineRow, ObservedRow, TaskRow, WorkerRow
from .rows.task import INLINE_ARGS_BYTES_MAX, NO_TAGS, NO_TIMERS, Cancel, Lease, Steps, Timers
from .times import us_of, us_of_seconds
from .transitions import BY_EVENT


def created(
    data: e.TaskCreated,
    *,
    run: int,
    namespace: str,
    root: str | None,
    correlation: str | None,
    traceparent: str | None,
    time: str,
    time_us: int,
) -> TaskRow:
    """The row of a new task; `root` is None if the task is its own root.

    Repeated strings are interned to save memory; the encoder recognises defaults by identity and omits them. Fields that few
    tasks have are set one by one: a call with more than 15 named arguments would collect them in a dict first.
    """
    row = TaskRow(
        run=run,
        sequence=1,
        state="created",
        name=intern(data.name),
        version=data.version if data.version is None else intern(data.version),
        namespace=intern(namespace),
        queue=intern(data.queue),
        priority=data.priority,
        root=root,
        args=data.args if 2 < len(bytes(data.args)) <= INLINE_ARGS_BYTES_MAX else ABSENT,
        tags=data.tags or NO_TAGS,
        policy=data.policy,
        payload_hash=data.payload_hash,
        log_offset=data.log_offset,
        created_at=time,
    )
    if correlation is not None:
        row.correlation = correlation
    if traceparent is not None:
        row.traceparent = traceparent
    _take_optional(row, data)
    total = data.timeouts.total if data.timeouts is not None else None
    if data.not_start_after or total:
        row.timers = _timers(
            expire=us_of(data.not_start_after) if data.not_start_after else None,
            total=time_us + us_of_seconds(total) if total else None,
        )
    return row


def _take_optional(row: TaskRow, data: e.TaskCreated) -> None:
    if data.delivery is not None:
        row.delivery = data.delivery
    if data.parent_id is not None:
        row.parent = data.parent_id
    if data.trace_link is not None:
        row.trace_link = data.trace_link
    if data.key is not None:
        row.key = data.key
    if data.depends_on:
        row.depends_on, row.unmet = data.depends_on, len(data.depends_on)
    if data.timeouts is not None:
        row.timeouts = data.timeouts
    if data.retry is not None:
        row.retry = data.retry
    if data.unresolved:
        row.unresolved = True
    if data.idempotency_window is not None:
        row.window = data.idempotency_window
    if data.steps_total:
        row.steps = Steps(total=data.steps_total)
    if data.start_after is not None:
        row.start_after = data.start_after


def _timers(
    *, start: int | None = None, retry: int | None = None, attempt: int | None = None, expire: int | None, total: int | None
) -> Timers:
    """The timers of a row; the default, which is not written, if there are none."""
    if start is retry is attempt is expire is total is None:
        return NO_TIMERS
    return Timers(start=start, retry=retry, attempt=attempt, expire=expire, total=total)


def _scheduled(row: TaskRow, data: e.TaskScheduled, time: str, time_us: int) -> None:
    row.scheduled_at = time
    row.timers = _timers(start=us_of(data.start_after), expire=row.timers.expire, total=row.timers.total)
    row.unmet = 0


def _blocked(row: TaskRow, data: e.TaskBlocked, time: str, time_us: int) -> None:
    row.unmet = data.unmet


def _ready(row: TaskRow, data: e.TaskReady, time: str, time_us: int) -> None:
    expire = row.timers.expire
    if row.ready_at is None and row.timeouts and row.timeouts.start:
        start_by = time_us + us_of_seconds(row.timeouts.start)
        expire = min(start_by, expire or start_by)
    row.timers = _timers(expire=expire, total=row.timers.total)
    row.ready_at = time
    row.retrying_at = None
    row.unmet = 0
    row.lease = None


def _retry_scheduled(row: TaskRow, data: e.TaskRetryScheduled, time: str, time_us: int) -> None:
    row.timers = _timers(retry=us_of(data.next_retry_at), expire=row.timers.expire, total=row.timers.total)
    row.retrying_at = time
    row.lease = None


def _dispatched(row: TaskRow, data: e.TaskDispatched, time: str, time_us: int) -> None:
    row.dispatched_at = time
    row.attempt = data.attempt
    row.dispatch = data.dispatch
    row.lease = Lease(
        worker=data.worker,
        token=data.token,
        pool=data.pool,
        inbox=data.inbox,
        seconds=data.lease_seconds,
        trace_period=data.trace_period,
    )
    row.policy = data.policy
    row.unresolved = False
    if data.version is not None:
        row.version = data.version
    row.number = 0
    row.percent = None
    row.message = ""


def _started(row: TaskRow, data: e.TaskStarted | e.AttemptStartedEvent, time: str, time_us: int) -> None:
    row.started_at = time
    row.ran_seconds = None
    row.number = data.number
    seconds = row.policy.timeout_seconds
    attempt = None if seconds is None else time_us + us_of_seconds(seconds)
    row.timers = _timers(attempt=attempt, expire=None, total=row.timers.total)


def _progressed(row: TaskRow, data: e.TaskProgressed, time: str, time_us: int) -> None:
    row.percent = data.percent
    row.message = data.message
    row.number = data.number


def _attempt_failed(row: TaskRow, data: e.AttemptFailedEvent, time: str, time_us: int) -> None:
    row.errors += 1
    row.error = data.error
    row.ran_seconds = data.ran_seconds
    row.number = data.number


def _attempt_timed_out(row: TaskRow, data: e.AttemptTimedOut, time: str, time_us: int) -> None:
    row.timed_out += 1


def _attempt_lost(row: TaskRow, data: e.AttemptEvent, time: str, time_us: int) -> None:
    row.lost += 1


def _attempt_given_back(row: TaskRow, data: e.AttemptEvent, time: str, time_us: int) -> None:
    row.attempt -= 1  # not counted: the next dispatch repeats the same attempt


def _cancel_requested(row: TaskRow, data: e.TaskCancelRequested, time: str, time_us: int) -> None:
    row.cancel = Cancel(reason=data.reason, by=data.by, timed_out=data.timed_out)


def _completed(row: TaskRow, data: e.TaskCompleted, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.ran_seconds = data.ran_seconds
    row.result = data.result


def _failed(row: TaskRow, data: e.TaskFailed, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.error = data.error


def _ended(row: TaskRow, data: e.Ended, time: str, time_us: int) -> None:
    row.finished_at = time
    row.unmet = 0
    row.lease = None
    row.args = ABSENT
    row.timers = NO_TIMERS


def _cancelled(row: TaskRow, data: e.TaskCancelled, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.cancel = Cancel(reason=data.reason, by=data.by)


def _workflow_ended(row: TaskRow, data: e.WorkflowEnded, time: str, time_us: int) -> None:
    _ended(row, data, time, time_us)
    row.steps = _steps(row, data, planned=row.steps.planned)


def _workflow_completed(row: TaskRow, data: e.WorkflowCompleted, time: str, time_us: int) -> None:
    _workflow_ended(row, data, time, time_us)
    row.result = data.result


def _workflow_failed(row: TaskRow, data: e.WorkflowFailed, time: str, time_us: int) -> None:
    _workflow_ended(row, data, time, time_us)
    row.error = data.error


def _steps(row: TaskRow, data: e.WorkflowEnded | e.WorkflowProgressed, *, planned: int) -> Steps:
    return Steps(
        total=row.steps.total,
        planned=planned,
        completed=data.completed,
        failed=data.failed,
        cancelled=data.cancelled,
        skipped=data.skipped,
        expired=data.expired,
    )


def _workflow_started(row: TaskRow, data: e.WorkflowStarted, time: str, time_us: int) -> None:
    row.started_at = time
    row.steps = replace(row.steps, planned=data.planned)


def _workflow_expanded(row: TaskRow, data: e.WorkflowExpanded, time: str, time_us: int) -> None:
    row.steps = replace(row.steps, total=data.steps_total)


def _workflow_progressed(row: TaskRow, data: e.WorkflowProgressed, time: str, time_us: int) -> None:
    row.steps = _steps(row, data, planned=data.planned)


#: What an event changes in the row of its task. Other events change only the sequence and the state.
TASK_EVOLVERS: dict[type, Callable[[TaskRow, Any, str, int], None]] = {
    e.TaskScheduled: _scheduled,
    e.TaskBlocked: _blocked,
    e.TaskDependencySatisfied: _blocked,
    e.TaskReady: _ready,
    e.TaskDispatched: _dispatched,
    e.TaskStarted: _started,
    e.AttemptStartedEvent: _started,
    e.TaskProgressed: _progressed,
    e.AttemptFailedEvent: _attempt_failed,
    e.AttemptTimedOut: _attempt_timed_out,
    e.AttemptLeaseExpired: _attempt_lost,
    e.AttemptLost: _attempt_lost,
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
    e.WorkflowProgressed: _workflow_progressed,
    e.WorkflowCompleted: _workflow_completed,
    e.WorkflowFailed: _workflow_failed,
    e.WorkflowCancelled: _workflow_ended,
}


#: For each event of a task: its function (None: no change), and the new state (None: unchanged).
_TASK_EVENTS = {event: (TASK_EVOLVERS.get(event), row.target) for event, row in BY_EVENT.items() if event is not e.TaskCreated}

_WORKER_STATES: dict[type, str] = {
    e.WorkerHeartbeatMissed: "silent",
    e.WorkerLostEvent: "lost",
    e.WorkerDrainingEvent: "draining",
    e.WorkerStoppedEvent: "stopped",
}


def evolve_task(row: TaskRow, event: Struct, time: str, time_us: int) -> None:
    """Apply `event` to `row`. Raises KeyError if it is not an event of a task, which is a bug."""
    evolver, target = _TASK_EVENTS[type(event)]
    row.sequence += 1
    if evolver is not None:
        evolver(row, event, time, time_us)
    if target is not None:
        row.state = target


def evolve_worker(row: WorkerRow, event: Struct, time: str) -> None:
    """Apply an event to the row of a worker."""
    row.sequence += 1
    if isinstance(event, e.WorkerRegisteredEvent):
        row.pool, row.inbox, row.queues = event.pool, event.inbox, event.queues
        row.revision, row.definitions = event.revision, event.definitions
        row.slots, row.lease_seconds, row.host, row.pid = event.slots, event.lease_seconds, event.host, event.pid
        row.registered_at = time
        row.state = "active"
    else:
        row.state = _WORKER_STATES[type(event)]


def evolve_definition(row: DefinitionRow, event: Struct, time: str) -> None:
    """Apply an event to the row of a definition."""
    row.sequence += 1
    if isinstance(event, e.DefinitionRegistered):
        row.definition, row.worker, row.registered_at = event.definition, event.worker, time
        row.state = row.state or "active"
    elif isinstance(event, e.DefinitionDeprecated):
        row.state, row.deprecated_at, row.reason, row.by = "deprecated", time, event.reason, event.by


_OBSERVED_STATES: dict[type[Struct], str] = {
    e.SubscriberStarted: "running",
    e.SubscriberFailing: "failing",
    e.SubscriberUnavailable: "unavailable",
    e.SubscriberRecovered: "running",
    e.SubscriberPaused: "paused",
    e.SubscriberResumed: "running",
    e.SubscriberStopped: "stopped",
    e.AlertFired: "firing",
    e.AlertSilenced: "silenced",
    e.AlertResolved: "resolved",
}
"""The state after an event; other events do not change it."""


def evolve_observed(row: ObservedRow, event: Struct) -> None:
    """Apply an event to the row of a subscriber or an alert."""
    row.sequence += 1
    row.state = _OBSERVED_STATES.get(type(event), row.state)


def evolve_engine(row: EngineRow, event: Struct, time: str) -> None:
    """Apply an event to the row of the engine partition."""
    row.sequence += 1
    if isinstance(event, e.EngineStarted):
        row.state, row.host, row.pid, row.started_at = "active", event.host, event.pid, time
    elif isinstance(event, e.EngineStopped):
        row.state = "stopped"
    elif isinstance(event, e.EngineStorageChanged):
        row.storage = event.level
