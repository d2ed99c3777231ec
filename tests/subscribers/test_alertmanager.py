"""Alerts for Alertmanager: identity, begin and end, sending again."""

from base64 import b64encode
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from subscribers import Unavailable
from subscribers.alertmanager import Alertmanager, AlertmanagerSettings, alertmanager_alert
from subscribers.notices import Notice, notice_of

from .http_endpoint import HttpEndpoint, Reply
from .notice_cases import FakeState, at, cases, check_golden, completed, context, failed, firing, meta_of, resolved

EXPIRES = "2026-01-01T13:30:00+00:00"


def settings(**more: Any) -> AlertmanagerSettings:
    return AlertmanagerSettings.model_validate({"url": "http://alertmanager:9093", **more})


def exactly() -> Notice:
    """The description is as long as this subscriber sends it."""
    return replace(firing(), text="é" * 4096)


@cases(exactly)
def test_golden_alerts(case: str, notice: Notice) -> None:
    alert = check_golden(f"alertmanager_{case}", alertmanager_alert(notice, {"team": "shop"}, EXPIRES))
    assert all(alert["labels"].values())
    assert len(alert["annotations"]["description"].encode()) <= 8192
    assert ("…" in alert["annotations"]["description"]) == (case == "long")


def test_the_labels_of_an_alert_and_its_resolution_are_equal_and_have_no_ids() -> None:
    first, last = (alertmanager_alert(one, {}, EXPIRES) for one in (firing(), resolved()))
    assert first["labels"] == last["labels"]
    assert not {"hub_task_id", "task_id", "event"} & first["labels"].keys()
    assert (first["startsAt"], first["endsAt"]) == ("2026-01-01T09:30:00.000Z", EXPIRES)
    assert (last["startsAt"], last["endsAt"]) == ("2026-01-01T09:30:00.000Z", "2026-01-01T09:35:00.000Z")


@pytest.mark.parametrize(
    ("event_type", "origin"),
    [
        ("task.failed", "task"),
        ("attempt.failed", "task"),
        ("workflow.failed", "task"),
        ("worker.lost", "worker"),
        ("alert.fired", "rule"),
    ],
)
def test_the_origin_says_what_failed(event_type: str, origin: str) -> None:
    assert alertmanager_alert(notice_of(at("09:00:00", event_type)), {}, EXPIRES)["labels"]["hub_origin"] == origin


async def test_alerts_are_sent_again_while_they_fire_and_events_arrive() -> None:
    async with HttpEndpoint() as endpoint:
        target = Alertmanager(settings(url=f"{endpoint.url}/prefix/", types=("task.failed", "engine.report_dead_lettered")))
        await target.open(context())
        events = [
            failed("09:00:00"),  # sent
            failed("09:00:59"),
            at("09:00:59", "engine.report_dead_lettered"),  # sent, but nothing resolves it: not sent again
            completed("09:01:00", name="other"),  # the firing one is sent again
            completed("09:01:30", name="other"),
            completed("09:01:45"),  # resolved, and nothing fires any more
            completed("09:03:00", name="other"),
        ]
        sent = []
        for event in events:
            await target.receive(event, meta_of(event))
            sent.append(len(endpoint.requests))
        await target.close()
    assert sent == [1, 1, 2, 3, 3, 4, 4]
    assert {one.target for one in endpoint.requests} == {"/prefix/api/v2/alerts"}
    first, _, last, ended = (one.json[0] for one in endpoint.requests)
    assert first["labels"] == last["labels"] == ended["labels"]
    assert first["endsAt"] == "2026-01-01T13:00:00+00:00"
    assert last["endsAt"] == "2026-01-01T13:01:00+00:00"
    assert last["annotations"]["description"].startswith("CardError: declared stolen")
    assert ended["endsAt"] == "2026-01-01T09:01:45.000Z"


async def test_after_a_restart_the_alerts_that_fire_are_sent_again() -> None:
    state = FakeState()
    async with HttpEndpoint([Reply(), Reply(503)]) as endpoint:
        for event in (failed("09:00:00"), completed("09:00:01", name="other")):
            target = Alertmanager(settings(url=endpoint.url))
            await target.open(context(state))
            if event.type == "task.failed":
                await target.receive(event, meta_of(event))
            else:
                with pytest.raises(Unavailable):
                    await target.receive(event, meta_of(event))
                await target.receive(event, meta_of(event, 2))
            await target.close()
    first, refused, again = (one.json[0] for one in endpoint.requests)
    assert refused == again
    assert (first["labels"], first["startsAt"]) == (again["labels"], again["startsAt"])


def test_credentials() -> None:
    request = Alertmanager(settings(username="hub", password="secret"))
    assert request.settings.headers["authorization"] == "Basic " + b64encode(b"hub:secret").decode()
    assert settings(token="secret").headers["authorization"] == "Bearer secret"
    assert "authorization" not in settings().headers
    assert "secret" not in repr(settings(token="secret"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "hub"},
        {"password": "p"},
        {"username": "hub", "password": "p", "token": "t"},
        {"labels": {"a-b": "c"}},
        {"labels": {"hub_origin": "none"}},
        {"labels": {"alertname": "x"}},
    ],
)
def test_settings_that_contradict_each_other_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
