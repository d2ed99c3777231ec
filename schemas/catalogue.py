"""The catalogue of all event types that the hub emits.

The hub emits only these types, and each of them (a test checks that every type occurs). Severity numbers are OpenTelemetry's
(5 debug, 9 info, 13 warn, 17 error).
"""

from typing import Any, NamedTuple

from msgspec import Struct

from . import events as e

DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17

DataStruct = type[Struct]


class EventType(NamedTuple):
    """One event type: its name, the struct of its data, the kind of its entity, severity, and when it is emitted (a sentence)."""

    type: str
    data: DataStruct
    entity: str
    severity: int
    when: str
    terminal: bool = False
    since: str = "0.1.0"


_ROWS: tuple[tuple[Any, ...], ...] = (
    ("task.created", e.TaskCreated, "task", INFO, "A submission was admitted and created the task."),
    ("task.rejected", e.TaskRejected, "engine", WARN, "A submission or request was rejected, with code and reason."),
    ("task.deduplicated", e.TaskDeduplicated, "engine", INFO, "A submission was a duplicate of an earlier one."),
    ("task.scheduled", e.TaskScheduled, "task", INFO, "The task waits for its start time."),
    ("task.blocked", e.TaskBlocked, "task", INFO, "The task waits for dependencies."),
    ("task.dependency_satisfied", e.TaskDependencySatisfied, "task", DEBUG, "Some of the dependencies were met."),
    ("task.ready", e.TaskReady, "task", INFO, "The task can run and waits for a worker."),
    ("task.dispatched", e.TaskDispatched, "task", INFO, "A command was issued to a worker."),
    ("task.started", e.TaskStarted, "task", INFO, "The body of the first attempt started."),
    ("task.progressed", e.TaskProgressed, "task", DEBUG, "The body reported progress."),
    ("task.retry_scheduled", e.TaskRetryScheduled, "task", WARN, "An attempt did not succeed; a retry is scheduled."),
    ("task.completed", e.TaskCompleted, "task", INFO, "The body returned.", True),
    ("task.failed", e.TaskFailed, "task", ERROR, "The task ended without success.", True),
    ("task.cancel_requested", e.TaskCancelRequested, "task", INFO, "A running attempt was asked to stop."),
    ("task.cancelled", e.TaskCancelled, "task", WARN, "The task was cancelled on request.", True),
    ("task.expired", e.TaskExpired, "task", WARN, "The task did not start before its deadline.", True),
    ("task.skipped", e.TaskSkipped, "task", INFO, "The task can never run.", True),
    ("attempt.started", e.AttemptStartedEvent, "task", INFO, "The body of a later attempt started."),
    ("attempt.granted", e.AttemptGranted, "task", INFO, "The body of an at-most-once task may run."),
    ("attempt.failed", e.AttemptFailedEvent, "task", WARN, "The body raised an exception."),
    ("attempt.timed_out", e.AttemptTimedOut, "task", WARN, "The attempt exceeded its timeout."),
    ("attempt.lease_expired", e.AttemptLeaseExpired, "task", WARN, "The lease expired without a heartbeat."),
    ("attempt.lost", e.AttemptLost, "task", WARN, "The worker of the attempt is lost."),
    ("attempt.cancelled", e.AttemptCancelledEvent, "task", INFO, "The body stopped after a cancel request."),
    ("attempt.released", e.AttemptReleasedEvent, "task", INFO, "The worker returned the attempt without starting it."),
    ("attempt.superseded", e.AttemptSuperseded, "task", WARN, "The attempt was not started in time and is dispatched again."),
    ("attempt.report_rejected", e.AttemptReportRejected, "engine", WARN, "A stale or repeated report was rejected."),
    ("workflow.started", e.WorkflowStarted, "task", INFO, "The steps of a graph are being created."),
    ("workflow.expanded", e.WorkflowExpanded, "task", INFO, "Steps were added to a live workflow."),
    ("workflow.steps_ready", e.WorkflowStepsReady, "task", DEBUG, "Several steps became ready together."),
    ("workflow.progressed", e.WorkflowProgressed, "task", DEBUG, "Steps ended; has counts by state."),
    ("workflow.completed", e.WorkflowCompleted, "task", INFO, "All steps ended, none with a failure.", True),
    ("workflow.failed", e.WorkflowFailed, "task", ERROR, "A step failed, and no step can run any longer.", True),
    ("workflow.cancelled", e.WorkflowCancelled, "task", WARN, "The workflow was cancelled, and no step is running.", True),
    ("worker.registered", e.WorkerRegisteredEvent, "worker", INFO, "A new incarnation takes work, or has registered more."),
    (
        "worker.heartbeat_missed",
        e.WorkerHeartbeatMissed,
        "worker",
        WARN,
        "The worker sent no heartbeat for two thirds of its lease.",
    ),
    ("worker.lost", e.WorkerLostEvent, "worker", ERROR, "The worker sent no heartbeat for its lease, or its process died."),
    ("worker.draining", e.WorkerDrainingEvent, "worker", INFO, "The worker accepts no new work."),
    ("worker.stopped", e.WorkerStoppedEvent, "worker", INFO, "The worker shut down."),
    ("definition.registered", e.DefinitionRegistered, "definition", INFO, "A handler is new, or has other options."),
    ("definition.deprecated", e.DefinitionDeprecated, "definition", WARN, "A version is no longer the default."),
    ("subscriber.started", e.SubscriberStarted, "subscriber", INFO, "A process began to deliver events to the subscriber."),
    ("subscriber.stopped", e.SubscriberStopped, "subscriber", INFO, "A process stopped delivering events to the subscriber."),
    ("subscriber.failing", e.SubscriberFailing, "subscriber", ERROR, "The subscriber does not run; it is started again later."),
    ("subscriber.unavailable", e.SubscriberUnavailable, "subscriber", WARN, "The destination of the subscriber takes no events."),
    ("subscriber.recovered", e.SubscriberRecovered, "subscriber", INFO, "The subscriber or its destination works again."),
    ("subscriber.paused", e.SubscriberPaused, "subscriber", WARN, "An operator paused the subscriber."),
    ("subscriber.resumed", e.SubscriberResumed, "subscriber", INFO, "A paused subscriber runs again."),
    ("subscriber.dead_lettered", e.SubscriberDeadLettered, "subscriber", ERROR, "Events could not be delivered."),
    ("subscriber.replayed", e.SubscriberReplayed, "subscriber", INFO, "Events of the past were delivered once more."),
    ("alert.fired", e.AlertFired, "alert", ERROR, "The condition of a rule is met."),
    ("alert.resolved", e.AlertResolved, "alert", INFO, "The condition of a rule is no longer met."),
    ("alert.silenced", e.AlertSilenced, "alert", INFO, "An operator silenced the alert."),
    ("engine.started", e.EngineStarted, "engine", INFO, "A new owner took over the partition."),
    ("engine.restored", e.EngineRestored, "engine", INFO, "The state of the partition was restored."),
    ("engine.stopped", e.EngineStopped, "engine", INFO, "The owner shut down."),
    (
        "engine.report_dead_lettered",
        e.EngineReportDeadLettered,
        "engine",
        ERROR,
        "An intake record that is not a valid report was dead-lettered.",
    ),
    (
        "engine.timer_dead_lettered",
        e.EngineTimerDeadLettered,
        "engine",
        ERROR,
        "A timer that could not be processed was dead-lettered.",
    ),
    (
        "engine.storage_changed",
        e.EngineStorageChanged,
        "engine",
        WARN,
        "The free space of the broker's disk crossed a threshold.",
    ),
    ("engine.report_forwarded", e.EngineReportForwarded, "engine", DEBUG, "A misrouted report was forwarded."),
)

CATALOGUE: dict[str, EventType] = {row[0]: EventType(*row) for row in _ROWS}
TYPE_OF_DATA: dict[DataStruct, EventType] = {row.data: row for row in CATALOGUE.values()}
OBSERVED_KINDS = frozenset({"subscriber", "alert"})
"""Kinds of entities whose events the engine does not decide: other processes report them (`event.observed`)."""
TERMINAL_TYPES = frozenset(row.type for row in CATALOGUE.values() if row.terminal)
