"""What a transition sends to `hub.intake`: its event, and the actions of its rule. Pure."""

import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Raw, Struct, json

from schemas import TYPE_OF_DATA, Submission, derived_id
from schemas import reports as r
from schemas.events import AlertFired, AlertSilenced

from ..kafka import INTAKE, Record, TopicPartition, partition_of
from .book import AlertId
from .deciding import AlertTransition
from .matching import ALERT, ALERT_ORIGIN, ALERT_TASK_PREFIX
from .moments import time_of
from .rule_kinds import CancelTasks, RunTask

REASON_CHARACTERS_MAX = 500


class AlertReport(NamedTuple):
    """A report, its type, the key of its record, and its ce_id."""

    type: str
    key: str
    value: Struct
    id: str


def reports_of(transition: AlertTransition) -> Iterator[AlertReport]:
    """The event of the transition, and the actions of an alert that fires. Ids are derived from rule, key and moment."""
    identity = (transition.alert.rule, transition.alert.key, str(transition.at))
    yield observed(transition.alert, transition.data, derived_id("alert", type(transition.data).__name__, *identity))
    if not isinstance(transition.data, AlertFired) or transition.rule is None:
        return
    for number, action in enumerate(transition.rule.actions):
        base = derived_id("alert-action", *identity, str(number))
        if isinstance(action, CancelTasks):
            yield from _cancellations(transition, action, base)
        elif isinstance(action, RunTask):
            yield _submission(transition, transition.data, action, base)


def observed(alert: AlertId, data: Struct, report_id: str) -> AlertReport:
    """The report that puts an event about an alert on the log."""
    value = r.EventObserved(entity=f"alert/{alert.name}", event=TYPE_OF_DATA[type(data)].type, data=Raw(json.encode(data)))
    return AlertReport("event.observed", alert.name, value, report_id)


def silenced(alert: AlertId, until: int, by: str | None, report_id: str) -> AlertReport:
    """The report that silences alerts until a moment; one that is past ends a silence. Rule and key may be patterns."""
    summary = f"silenced until {time_of(until)}"
    data = AlertSilenced(rule=alert.rule, key=alert.key, severity="info", summary=summary, until=time_of(until), by=by)
    return observed(alert, data, report_id)


def _cancellations(transition: AlertTransition, action: CancelTasks, base: str) -> Iterator[AlertReport]:
    finding = transition.finding
    tasks = {cause.task: cause.root for cause in (finding.causes if finding is not None else ()) if cause.task}
    reason = (action.reason or transition.data.summary)[:REASON_CHARACTERS_MAX]
    for task, root in tasks.items():
        by = f"alert/{transition.alert.name}"
        value = r.TaskCancel(id=task, root=None if root == task else root, reason=reason, by=by)
        yield AlertReport("task.cancel", root, value, derived_id("alert-cancel", base, task))


def _submission(transition: AlertTransition, data: AlertFired, action: RunTask, base: str) -> AlertReport:
    about: dict[str, Any] = {"rule": data.rule, "key": data.key, "summary": data.summary, "value": data.value}
    about |= {"labels": data.labels, "tasks": data.tasks, "events": data.events, "fired_at": time_of(transition.at)}
    task_id = ALERT_TASK_PREFIX + base
    value = Submission(
        name=action.task,
        id=task_id,
        namespace=action.namespace,
        queue=action.queue,
        args=Raw(json.encode({**action.args, "alert": about})),
        tags={ALERT_ORIGIN: ALERT},
        created_by=f"alert/{transition.alert.name}",
    )
    return AlertReport("task.created", task_id, value, task_id)


def records_of(reports: list[AlertReport], partitions: int, now_ms: int) -> dict[TopicPartition, list[Record]]:
    """The records for `hub.intake`, by partition."""
    found: dict[TopicPartition, list[Record]] = {}
    for report in reports:
        headers = r.report_headers(report.type, f"/analytics/{socket.gethostname()}", report.id)
        place = TopicPartition(INTAKE, partition_of(report.key, partitions))
        found.setdefault(place, []).append(Record(report.key.encode(), json.encode(report.value), headers, now_ms))
    return found
