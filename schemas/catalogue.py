"""The catalogue: every event type the hub emits, as data.

Nothing is emitted that is not here, and nothing is here that the running hub never emits (a test drives it until every
type has been seen). Severity numbers are OpenTelemetry's (5 debug, 9 info, 13 warn, 17 error).
"""

from typing import Any, NamedTuple

from msgspec import Struct

from . import events as e

DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17

DataStruct = type[Struct]


class EventType(NamedTuple):
    """One row: the dotted type, the data's struct, the entity's kind, severity, and when it is emitted (a sentence)."""

    type: str
    data: DataStruct
    entity: str
    severity: int
    when: str
    terminal: bool = False
    since: str = "0.1.0"


_ROWS: tuple[tuple[Any, ...], ...] = (
    ("task.created", e.TaskCreated, "task", INFO, "A submission was admitted; the task exists."),
    ("task.rejected", e.TaskRejected, "engine", WARN, "A submission or request was refused, with code and reason."),
    ("task.deduplicated", e.TaskDeduplicated, "engine", INFO, "A submission repeated one that is known."),
    ("task.scheduled", e.TaskScheduled, "task", INFO, "The task waits for its start time."),
    ("task.blocked", e.TaskBlocked, "task", INFO, "The task waits for dependencies."),
    ("task.dependency_satisfied", e.TaskDependencySatisfied, "task", DEBUG, "Some, not all, dependencies were met."),
    ("task.ready", e.TaskReady, "task", INFO, "Nothing but a free worker is missing."),
    ("task.dispatched", e.TaskDispatched, "task", INFO, "A command was issued to a worker."),
    ("task.started", e.TaskStarted, "task", INFO, "The first attempt's body began."),
    ("task.progressed", e.TaskProgressed, "task", DEBUG, "The body reported its progress."),
    ("task.retry_scheduled", e.TaskRetryScheduled, "task", WARN, "An attempt did not succeed; another is due later."),
    ("task.completed", e.TaskCompleted, "task", INFO, "The body returned.", True),
    ("task.failed", e.TaskFailed, "task", ERROR, "The task is over without success.", True),
    ("task.cancel_requested", e.TaskCancelRequested, "task", INFO, "A running attempt was asked to stop."),
    ("task.cancelled", e.TaskCancelled, "task", WARN, "The task ended because somebody asked.", True),
    ("task.expired", e.TaskExpired, "task", WARN, "The task was not started in time.", True),
    ("task.skipped", e.TaskSkipped, "task", INFO, "The task can never run.", True),
    ("attempt.started", e.AttemptStartedEvent, "task", INFO, "The body of a second or later attempt began."),
    ("attempt.granted", e.AttemptGranted, "task", INFO, "An at-most-once body was allowed to run."),
    ("attempt.failed", e.AttemptFailedEvent, "task", WARN, "The body raised."),
    ("attempt.timed_out", e.AttemptTimedOut, "task", WARN, "The attempt took too long."),
    ("attempt.lease_expired", e.AttemptLeaseExpired, "task", WARN, "No heartbeat for the length of a lease."),
    ("attempt.lost", e.AttemptLost, "task", WARN, "The attempt's worker is dead."),
    ("attempt.cancelled", e.AttemptCancelledEvent, "task", INFO, "The code stopped after a cancel."),
    ("attempt.released", e.AttemptReleasedEvent, "task", INFO, "The worker handed the attempt back unstarted."),
    ("attempt.superseded", e.AttemptSuperseded, "task", WARN, "Not started by its deadline; dispatched again."),
    ("attempt.report_rejected", e.AttemptReportRejected, "engine", WARN, "A stale or repeated report changed nothing."),
    ("workflow.started", e.WorkflowStarted, "task", INFO, "The steps of a graph are being created."),
    ("workflow.expanded", e.WorkflowExpanded, "task", INFO, "Steps were added to a live workflow."),
    ("workflow.steps_ready", e.WorkflowStepsReady, "task", DEBUG, "Steps became ready together."),
    ("workflow.progressed", e.WorkflowProgressed, "task", DEBUG, "Steps have ended; counts."),
    ("workflow.completed", e.WorkflowCompleted, "task", INFO, "Every step ended well.", True),
    ("workflow.failed", e.WorkflowFailed, "task", ERROR, "A step failed and nothing is left to run.", True),
    ("workflow.cancelled", e.WorkflowCancelled, "task", WARN, "Cancelled, and nothing runs any more.", True),
    ("worker.registered", e.WorkerRegisteredEvent, "worker", INFO, "A new incarnation takes work, or has registered more."),
    ("worker.heartbeat_missed", e.WorkerHeartbeatMissed, "worker", WARN, "Silent for two thirds of its lease."),
    ("worker.lost", e.WorkerLostEvent, "worker", ERROR, "Silent for a whole lease, or seen to die."),
    ("worker.draining", e.WorkerDrainingEvent, "worker", INFO, "Takes nothing new."),
    ("worker.stopped", e.WorkerStoppedEvent, "worker", INFO, "Left in order."),
    ("definition.registered", e.DefinitionRegistered, "definition", INFO, "A handler is new, or has other options."),
    ("definition.deprecated", e.DefinitionDeprecated, "definition", WARN, "A version is no longer the default."),
    ("engine.started", e.EngineStarted, "engine", INFO, "An owner took the partition over."),
    ("engine.restored", e.EngineRestored, "engine", INFO, "The partition's state was read back."),
    ("engine.stopped", e.EngineStopped, "engine", INFO, "The owner left in order."),
    ("engine.report_dead_lettered", e.EngineReportDeadLettered, "engine", ERROR, "Input that is not a report was dead-lettered."),
    (
        "engine.timer_dead_lettered",
        e.EngineTimerDeadLettered,
        "engine",
        ERROR,
        "A timer that failed was left out.",
    ),
    ("engine.storage_changed", e.EngineStorageChanged, "engine", WARN, "Free space of the broker's disk crossed a threshold."),
    ("engine.report_forwarded", e.EngineReportForwarded, "engine", DEBUG, "A misrouted report was forwarded."),
)

CATALOGUE: dict[str, EventType] = {row[0]: EventType(*row) for row in _ROWS}
TYPE_OF_DATA: dict[DataStruct, EventType] = {row.data: row for row in CATALOGUE.values()}
TERMINAL_TYPES = frozenset(row.type for row in CATALOGUE.values() if row.terminal)
