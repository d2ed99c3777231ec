"""The checker's tables of states, written from the documented guarantees, not from the engine.

State "" is the state between `task.created` and the next event of the task.
"""

from typing import Final

EVENTS, STATE, INTAKE, REPLIES, COMMANDS_PREFIX = "hub.events", "hub.state", "hub.intake", "hub.replies", "hub.commands."

STATE_AFTER: Final[dict[str, str]] = {
    "task.scheduled": "scheduled",
    "task.blocked": "blocked",
    "task.ready": "ready",
    "task.dispatched": "dispatched",
    "task.started": "running",
    "attempt.started": "running",
    "workflow.started": "running",
    "task.retry_scheduled": "retrying",
    "task.completed": "completed",
    "workflow.completed": "completed",
    "task.failed": "failed",
    "workflow.failed": "failed",
    "task.cancelled": "cancelled",
    "workflow.cancelled": "cancelled",
    "task.expired": "expired",
    "task.skipped": "skipped",
}
"""Event types that change the state, with the new state."""

_RUNNING = frozenset({"running"})
_HELD = frozenset({"dispatched", "running"})
_WAITING = frozenset({"", "scheduled", "blocked", "ready", "dispatched", "retrying"})

STATES_BEFORE: Final[dict[str, frozenset[str]]] = {
    "task.scheduled": frozenset({"", "blocked"}),
    "task.blocked": frozenset({"", "scheduled"}),
    "task.dependency_satisfied": frozenset({"blocked", "scheduled"}),
    "task.ready": frozenset({"", "scheduled", "blocked", "retrying", "dispatched", "running"}),
    "task.dispatched": frozenset({"ready"}),
    "task.started": frozenset({"dispatched"}),
    "attempt.started": frozenset({"dispatched"}),
    "attempt.granted": _HELD,
    "task.progressed": _RUNNING,
    "task.retry_scheduled": _HELD,
    "task.completed": _RUNNING,
    "task.expired": _WAITING,
    "task.skipped": frozenset({"", "scheduled", "blocked"}),
    "attempt.failed": _HELD,
    "attempt.timed_out": _HELD,
    "attempt.lease_expired": _HELD,
    "attempt.lost": _HELD,
    "attempt.cancelled": _HELD,
    "attempt.released": frozenset({"dispatched"}),
    "attempt.superseded": frozenset({"dispatched"}),
    "workflow.started": frozenset({""}),
    "workflow.expanded": _RUNNING,
    "workflow.steps_ready": _RUNNING,
    "workflow.progressed": _RUNNING,
    "workflow.completed": _RUNNING,
}
"""States in which an event type may occur; other types may occur in any live state."""

ENDS_OF_ATTEMPT: Final[dict[str, str]] = {
    "attempt.failed": "failed",
    "attempt.timed_out": "failed",
    "attempt.lease_expired": "lost",
    "attempt.lost": "lost",
    "attempt.cancelled": "cancelled",
    "attempt.released": "returned",
    "attempt.superseded": "returned",
}
"""Event types that end an attempt, and how it counts: failed (max_attempts), lost (max_lost), returned (not counted)."""

MET_BY: Final[dict[str, frozenset[str]]] = {
    "success": frozenset({"completed"}),
    "failure": frozenset({"failed", "expired"}),
    "ended": frozenset({"completed", "failed", "cancelled", "expired", "skipped"}),
}
"""End states that satisfy a dependency, by its `on`."""

FAILED_BY: Final[dict[str, frozenset[str]]] = {"success": frozenset({"failed", "expired"})}
"""End states that fail the dependent task (`dependency_failed`), by its `on`; other unsatisfying ends skip it."""

SOFT_REPORTS: Final = frozenset(
    {"worker.registered", "worker.heartbeat", "worker.draining", "worker.stopped", "worker.lost", "task.await"}
)
"""Reports that need not cause an event: soft state, copies of worker reports, queries."""

STARTS: Final = frozenset({"task.dispatched", "task.started", "attempt.started", "attempt.granted"})
"""Events that must not occur after a cancel request."""
