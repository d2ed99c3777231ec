"""What a notification causes: submissions, cancellations, and alerts that are left out, with the reason. Pure."""

from enum import StrEnum
from typing import Any, NamedTuple

from schemas import task_id_of_key

from ..client import InvalidSubmissionError
from ..client.submissions import checked
from .notification import Notification, ReceivedAlert, arguments_of

ORIGIN_LABEL = "hub_origin"
"""Label of the alerts that the hub raised itself, and tag of the tasks that alerts created."""
ORIGIN = "alert"
TASK_LABEL = "hub_task"
CREATED_BY = "alertmanager"


class AlertOutcome(StrEnum):
    """What was done with an alert: the label `outcome` of `hub.receiver.alerts`."""

    SUBMITTED = "submitted"
    REPEATED = "repeated"
    IGNORED = "ignored"
    RESOLVED = "resolved"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    FAILED = "failed"


class AlertTasks(NamedTuple):
    """Which task an alert creates. `task`: its name, unless the alert has the label `hub_task`. `window_seconds`: how long after
    its end the same alert creates no second one."""

    task: str | None = None
    namespace: str = "default"
    queue: str | None = None
    cancel_resolved: bool = False
    window_seconds: float = 30 * 86_400.0


class PlannedAlert(NamedTuple):
    """What one alert causes. `outcome`: SUBMITTED with a `submission`, CANCELLED (if the task is live), or why nothing is done.
    `problem`: why it is REJECTED, with the field."""

    task: str
    outcome: AlertOutcome
    submission: dict[str, Any] = {}
    problem: str = ""


def plan_alerts(notification: Notification, tasks: AlertTasks) -> list[PlannedAlert]:
    """What each alert of a notification causes, in their order."""
    return [_plan(number, alert, notification, tasks) for number, alert in enumerate(notification.alerts)]


def key_of(alert: ReceivedAlert) -> str:
    """The idempotency key of an alert: its fingerprint and its start, so that a repeated notification creates no second task."""
    return f"alert-{alert.fingerprint}-{alert.started}"


def _plan(number: int, alert: ReceivedAlert, notification: Notification, tasks: AlertTasks) -> PlannedAlert:
    task = task_id_of_key(tasks.namespace, key_of(alert))
    if ORIGIN_LABEL in alert.labels:
        return PlannedAlert(task, AlertOutcome.IGNORED)
    if alert.status == "resolved":
        return PlannedAlert(task, AlertOutcome.CANCELLED if tasks.cancel_resolved else AlertOutcome.RESOLVED)
    name = alert.labels.get(TASK_LABEL) or tasks.task
    if not name:
        problem = f"alerts[{number}].labels.{TASK_LABEL}: is missing, and the service has no --task"
        return PlannedAlert(task, AlertOutcome.REJECTED, problem=problem)
    submission = _submission(name, alert, notification, tasks)
    try:
        checked(submission)
    except InvalidSubmissionError as error:
        return PlannedAlert(task, AlertOutcome.REJECTED, problem=f"alerts[{number}]: as a submission: {error.reason}")
    return PlannedAlert(task, AlertOutcome.SUBMITTED, submission)


def _submission(name: str, alert: ReceivedAlert, notification: Notification, tasks: AlertTasks) -> dict[str, Any]:
    alert_name = alert.labels.get("alertname", "")
    return {
        "name": name,
        "namespace": tasks.namespace,
        **({"queue": tasks.queue} if tasks.queue is not None else {}),
        "args": {"alert": arguments_of(alert, notification)},
        "tags": {ORIGIN_LABEL: ORIGIN, **({"alertname": alert_name} if alert_name else {})},
        "correlation_id": alert.fingerprint,
        "created_by": CREATED_BY,
        "idempotency_key": key_of(alert),
        "idempotency_window": tasks.window_seconds,
    }
