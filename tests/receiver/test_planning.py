"""What a notification causes: pure, from its JSON."""

import json
from typing import Any

import pytest

from hub.client.submissions import checked
from hub.core import check_submission
from hub.receiver import AlertOutcome, AlertTasks, InvalidNotification, PlannedAlert, decode_notification, plan_alerts
from schemas import task_id_of_key
from tests.receiver.alerts import STARTED, alert, notification

REPAIR = AlertTasks("repair")
KEY = f"alert-c64a1bd4f5a1c6a5-{STARTED}"


def planned(*alerts: dict[str, Any], tasks: AlertTasks = REPAIR, **changed: Any) -> list[PlannedAlert]:
    return plan_alerts(decode_notification(json.dumps(notification(*alerts, **changed)).encode()), tasks)


def only(*alerts: dict[str, Any], tasks: AlertTasks = REPAIR) -> PlannedAlert:
    (one,) = planned(*alerts, tasks=tasks)
    return one


def test_a_firing_alert_is_a_submission_with_the_alert_as_its_argument() -> None:
    one = only(alert(), tasks=AlertTasks("repair", "ops", "urgent", window_seconds=60.0))
    assert (one.outcome, one.task, one.problem) == (AlertOutcome.SUBMITTED, task_id_of_key("ops", KEY), "")
    assert one.submission == {
        "name": "repair",
        "namespace": "ops",
        "queue": "urgent",
        "args": {
            "alert": {
                "status": "firing",
                "labels": {"alertname": "DiskFull", "severity": "critical"},
                "annotations": {"summary": "the disk is full"},
                "startsAt": STARTED,
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
                "fingerprint": "c64a1bd4f5a1c6a5",
                "receiver": "taskhub",
                "groupKey": '{}:{alertname="DiskFull"}',
            }
        },
        "tags": {"hub_origin": "alert", "alertname": "DiskFull"},
        "correlation_id": "c64a1bd4f5a1c6a5",
        "created_by": "alertmanager",
        "idempotency_key": KEY,
        "idempotency_window": 60.0,
    }
    assert check_submission(checked(one.submission)) is None


def test_the_label_hub_task_names_the_task_and_the_option_is_the_default() -> None:
    assert only(alert(labels={"hub_task": "restart"})).submission["name"] == "restart"
    assert only(alert(labels={"hub_task": ""})).submission["name"] == "repair"


def test_an_alert_without_a_name_of_a_task_is_rejected_and_the_others_are_not() -> None:
    first, second = planned(alert(labels={"hub_task": "restart"}), alert(fingerprint="b"), tasks=AlertTasks())
    assert first.outcome is AlertOutcome.SUBMITTED
    assert second.outcome is AlertOutcome.REJECTED
    assert second.problem == "alerts[1].labels.hub_task: is missing, and the service has no --task"


def test_an_alert_that_no_engine_would_admit_is_rejected_with_the_field() -> None:
    one = only(alert(labels={"hub_task": "n" * 300}))
    assert one.outcome is AlertOutcome.REJECTED
    assert one.problem.startswith("alerts[0]: as a submission: name is longer than 255 bytes")
    large = only(alert(annotations={"description": "x" * 300_000}))
    assert large.outcome is AlertOutcome.REJECTED
    assert "args" in large.problem


@pytest.mark.parametrize("origin", ["task", "rule", "worker", ""])
@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_alerts_of_the_hub_itself_cause_nothing(origin: str, status: str) -> None:
    one = only(alert(status=status, labels={"hub_origin": origin}), tasks=AlertTasks("repair", cancel_resolved=True))
    assert (one.outcome, one.submission) == (AlertOutcome.IGNORED, {})


def test_a_resolved_alert_names_the_task_that_it_created() -> None:
    fired, ended = only(alert()), only(alert(status="resolved", annotations={}, endsAt="2026-01-01T11:00:00Z"))
    assert (ended.task, ended.outcome) == (fired.task, AlertOutcome.RESOLVED)
    assert only(alert(status="resolved"), tasks=AlertTasks("repair", cancel_resolved=True)).outcome is AlertOutcome.CANCELLED


def test_the_id_depends_on_fingerprint_start_and_namespace_only() -> None:
    task = only(alert()).task
    same = alert(labels={"hub_task": "other"}, annotations={}, startsAt="2026-01-01T09:30:00.2500000Z")
    assert only(same).task == task
    others = [
        only(alert(fingerprint="c64a1bd4f5a1c6a6")).task,
        only(alert(startsAt="2026-01-01T09:30:01.25Z")).task,
        only(alert(), tasks=AlertTasks("repair", "ops")).task,
    ]
    assert len({task, *others}) == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": "3"}, "version: '3' is not an allowed value"),
        ({"alerts": None}, "alerts: must be a list, not null"),
        ({"alerts": [alert(fingerprint="")]}, "alerts[0].fingerprint: must be a string of at least 1 characters"),
        ({"alerts": [alert(), alert(startsAt="yesterday")]}, "alerts[1].startsAt: invalid RFC3339 encoded datetime"),
        ({"alerts": [alert(startsAt="2026-01-01T09:30:00")]}, "alerts[0].startsAt: "),
        (
            {"alerts": [alert(startsAt="0001-01-01T00:00:00+02:00")]},
            "alerts[0].startsAt: it is outside of the years 1 to 9999 in UTC",
        ),
        ({"alerts": [alert(status="pending")]}, "alerts[0].status: 'pending' is not an allowed value"),
        ({"alerts": [alert(labels={"a": 1})]}, "alerts[0].labels"),
        ({"truncatedAlerts": -1}, "truncatedAlerts: "),
    ],
)
def test_a_malformed_notification_is_refused_with_the_field(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidNotification) as raised:
        decode_notification(json.dumps(notification() | change).encode())
    assert str(raised.value).startswith(problem), str(raised.value)


@pytest.mark.parametrize("name", ["version", "alerts"])
def test_a_missing_field_is_named(name: str) -> None:
    body = notification()
    del body[name]
    with pytest.raises(InvalidNotification, match=f"^{name}: is missing$"):
        decode_notification(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": "4", "alerts": [' + b"[" * 5000, b'"\xff"'])
def test_what_is_not_a_notification_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidNotification):
        decode_notification(body)
