"""Notices: what an event says to people, how texts are cut, which events are told and which resolve."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub.testing import make_event
from schemas import CATALOGUE
from subscribers.notices import (
    DEFAULT_TYPES,
    AlertPolicy,
    Alerts,
    AlertSettings,
    EscapedText,
    FreeText,
    LinkTemplates,
    Notice,
    cut_bytes,
    cut_characters,
    fit_json,
    link_of,
    notice_of,
    types_to_receive,
    utf16_units,
)

from .notice_cases import TASK, TEMPLATES, FakeState, at, completed, failed

FAMILY = "👩‍👩‍👧"


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_every_event_gives_a_notice_without_ids_in_its_key(event_type: str) -> None:
    event = make_event(event_type)
    notice = notice_of(event)
    assert notice.title.isprintable()
    assert notice.key.isascii()
    assert not notice.labels.keys() & notice.details.keys(), "a destination may show both in one list"
    assert event.entity.startswith(("definition", "engine", "alert", "subscriber")) or event.subject not in notice.key


def test_an_event_of_an_unknown_type_gives_a_sensible_notice() -> None:
    event = make_event("engine.started")._replace(type="quota.exceeded", severitynumber=17, data={"limit": 7, "what": "a\nb"})
    notice = notice_of(event)
    assert (notice.title, notice.severity, notice.text) == ("Quota: exceeded", "error", r"limit: 7, what: a\nb")


def test_a_failed_task_says_what_failed_why_and_where_to_look() -> None:
    notice = notice_of(failed(message="declared\nstolen"), TEMPLATES)
    assert notice.title == "Task charge failed: CardError"
    assert notice.text.startswith(r"CardError: declared\nstolen, exhausted")
    assert notice.key == "task.failed/shop/charge/CardError"
    assert notice.labels == {"namespace": "shop", "task": "charge", "queue": "default", "error_type": "CardError"}
    assert (notice.details["task_id"], notice.details["attempt"]) == (TASK, "3 of 3")
    assert [link.href for link in notice.links] == [
        f"https://hub.example/tasks/{TASK}",
        f"https://tempo.example/trace/{TASK.replace('-', '')}",
    ]


def test_the_trace_of_a_notice_is_that_of_the_event() -> None:
    event = failed()._replace(traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    ids = notice_of(event).trace
    assert ids is not None
    assert ids.trace == "ab" * 16
    assert notice_of(make_event("worker.lost")).trace is None


@pytest.mark.parametrize(
    ("event_type", "data", "severity"),
    [
        ("task.failed", {}, "error"),
        ("task.expired", {}, "warning"),
        ("task.completed", {}, "info"),
        ("engine.timer_dead_lettered", {}, "critical"),
        ("engine.storage_changed", {"level": "low"}, "critical"),
        ("engine.storage_changed", {"level": "warning"}, "warning"),
        ("alert.fired", {"severity": "critical"}, "critical"),
        ("alert.fired", {"severity": "info"}, "info"),
    ],
)
def test_severity(event_type: str, data: dict[str, Any], severity: str) -> None:
    assert notice_of(make_event(event_type, **data)).severity == severity


def test_keys_of_different_things_differ_and_are_short() -> None:
    pairs = [("a/b", "c"), ("a", "b/c"), ("x" * 255, "y" * 255), ("x" * 255, "y" * 254 + "z")]
    keys = {notice_of(failed(namespace=namespace, name=name)).key for namespace, name in pairs}
    assert len(keys) == len(pairs)
    assert max(map(len, keys)) <= 255


def test_an_alert_of_a_rule_is_told_in_its_own_words() -> None:
    event = make_event(
        "alert.fired", rule="charge-fails", key="charge", summary="5 of 6 failed", labels={"team": "billing"}, tasks=["t/1"]
    )
    notice = notice_of(event, TEMPLATES)
    assert (notice.title, notice.key, notice.group) == ("5 of 6 failed", "alert/charge-fails/charge", "alert/charge-fails/charge")
    assert notice.labels["team"] == "billing"
    assert notice.links[0].href == "https://hub.example/tasks/t%2F1"
    assert notice_of(make_event("alert.resolved", rule="charge-fails", key="charge")).status == "resolved"


def test_labels_of_a_rule_are_bounded() -> None:
    labels = notice_of(make_event("alert.fired", labels={"text": "é" * 1000})).labels
    assert labels["text"] == "é" * 254 + "…"


# Links


def test_values_in_links_are_quoted_and_a_link_without_its_value_is_omitted() -> None:
    template = "https://hub.example/{namespace}/{task}?x=1"
    assert link_of(template, {"namespace": "a b", "task": "../?&#é"}) == "https://hub.example/a%20b/..%2F%3F%26%23%C3%A9?x=1"
    assert link_of(template, {"namespace": "a", "task": None}) is None
    assert link_of("", {}) is None
    assert notice_of(make_event("worker.lost"), TEMPLATES).links == ()


@pytest.mark.parametrize(
    "template",
    [
        "javascript:alert({task})",
        "hub.example/{task}",
        "https://{task}.example/",
        "https://user@hub.example/",
        "https://hub.example/{secret}",
        "https://hub.example/{task",
        "https://hub.example/<{task}>",
        "https://hub.example/a b",
        "https://hub.example/" + "a" * 1000,
    ],
)
def test_an_unsafe_template_of_a_link_is_rejected(template: str) -> None:
    with pytest.raises(ValidationError, match="task_url"):
        AlertSettings(task_url=template)


# Cutting


@pytest.mark.parametrize(
    ("text", "bytes_max", "cut"),
    [
        ("short", 5, "short"),
        ("longer", 5, "lo…"),
        ("ééé", 6, "ééé"),
        ("éééé", 7, "éé…"),
        ("éééé", 6, "é…"),
        ("ab", 1, "a"),
        ("é", 1, ""),
        ("abcé" + "x" * 9, 7, "abc…"),
        ("abe\u0301" + "x" * 9, 7, "ab…"),
        ("a" + FAMILY + "x" * 9, 12, "a…"),
        ("a👍🏽" + "x" * 9, 10, "a…"),
        ("a\ud800", 9, "a?"),
    ],
)
def test_cut_bytes(text: str, bytes_max: int, cut: str) -> None:
    assert cut_bytes(text, bytes_max) == cut


@given(st.text(), st.integers(0, 60))
def test_a_cut_text_fits_and_is_a_beginning(text: str, limit: int) -> None:
    for cut, size in ((cut_bytes(text, limit), len(cut_bytes(text, limit).encode())), (cut_characters(text, limit), None)):
        assert (utf16_units(cut) if size is None else size) <= limit
        assert cut == text or text.startswith(cut.removesuffix("…"))


def test_cut_characters_counts_as_destinations_do() -> None:
    assert cut_characters("👍👍", 4) == "👍👍"
    assert cut_characters("👍👍", 3) == "👍…"
    assert cut_characters("👍👍", 2) == "…"


def test_a_payload_that_fits_is_not_changed() -> None:
    payload = {"a": FreeText("é" * 10), "n": [1, None]}
    exact = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
    assert json.loads(fit_json(payload, exact)) == payload
    assert json.loads(fit_json(payload, exact - 1))["a"] == "é" * 8 + "…"


def test_the_largest_texts_are_shortened_first_and_others_never() -> None:
    payload = {"id": "i" * 50, "texts": [FreeText("a" * 100), FreeText("b" * 5000), FreeText("c" * 9000)]}
    content = fit_json(payload, 1000)
    found = json.loads(content)
    assert len(content) >= 990, "the space is used"
    assert (found["id"], found["texts"][0]) == (payload["id"], "a" * 100)
    assert abs(len(found["texts"][1]) - len(found["texts"][2])) <= 1
    assert all(text.endswith("…") for text in found["texts"][1:])


@given(st.lists(st.text(max_size=300), max_size=5), st.integers(150, 900))
def test_a_payload_fits_its_limit_whatever_is_in_it(texts: list[str], limit: int) -> None:
    content = fit_json([FreeText(text) for text in texts], limit)
    assert len(content) <= limit
    assert len(json.loads(content)) == len(texts)


def test_a_payload_whose_fixed_part_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be cut to 20"):
        fit_json({"fixed": "x" * 30, "free": FreeText("y")}, 20)


def test_an_entity_is_not_split() -> None:
    for limit in range(8, 30):
        text = json.loads(fit_json([EscapedText("&amp;" * 20)], limit))[0]
        assert text.removesuffix("…").replace("&amp;", "") == ""


# Firing and resolved


def policy(**fields: Any) -> AlertPolicy:
    return AlertPolicy(**{"repeat_after_seconds": 3600.0, **fields})


class Told:
    """Alerts whose destination accepts everything: `await told(event)` returns what was sent."""

    def __init__(self, policy: AlertPolicy, state: FakeState | None = None) -> None:
        self.state = state or FakeState()
        self.forgotten: list[str] = []
        self.alerts = Alerts(policy, self.state, self.forgotten.append)

    async def __call__(self, *events: Any) -> list[tuple[str, str]]:
        return [(one.status, one.key) for one in await self.notices(*events)]

    async def notices(self, *events: Any) -> list[Notice]:
        found = [notice for event in events for notice in self.alerts.take(event)]
        await self.alerts.commit()
        return found


KEY = "task.failed/shop/charge/CardError"


async def test_an_alert_fires_once_and_is_resolved_by_the_next_success() -> None:
    told = Told(policy())
    assert await told(failed("09:00:00")) == [("firing", KEY)]
    assert await told(failed("09:01:00", subject="other")) == []
    assert await told(completed("09:02:00", name="another")) == []
    (notice,) = await told.notices(completed("09:03:00", subject="order-9"))
    assert (notice.status, notice.key, notice.title) == ("resolved", KEY, "Task charge failed: CardError")
    assert (notice.started_at, notice.ended_at) == ("2026-01-01T09:00:00.000Z", "2026-01-01T09:03:00.000Z")
    assert notice.details["task_id"] == "order-9"
    assert await told(completed("09:04:00")) == []
    assert await told(failed("09:05:00")) == [("firing", KEY)]


async def test_what_happens_while_nothing_fires_is_not_written() -> None:
    told = Told(policy())
    await told(completed("09:00:00"))
    await told(failed("09:01:00"))
    await told(failed("09:02:00"))
    assert told.state.writes == ["firing/task/shop/charge"]


async def test_all_errors_of_a_task_are_resolved_together_in_its_namespace() -> None:
    told = Told(policy())
    await told(failed("09:00:00"), failed("09:00:01", error="Timeout"), failed("09:00:02", namespace="other"))
    keys = {key for _, key in await told(completed("09:03:00"))}
    assert keys == {KEY, "task.failed/shop/charge/Timeout"}
    assert [one.key for one in told.alerts.firing()] == ["task.failed/other/charge/CardError"]


async def test_an_alert_is_repeated_after_a_while_with_the_number_of_failures() -> None:
    told = Told(policy())
    await told(failed("09:00:00"), failed("09:30:00"), failed("09:59:59"))
    (notice,) = await told.notices(failed("10:00:00", queue="other"))
    assert notice.details["failures since the last notice"] == "3"
    assert (notice.started_at, notice.labels["queue"]) == ("2026-01-01T09:00:00.000Z", "default"), "its identity does not change"
    assert await told(failed("10:00:01")) == []


async def test_a_success_before_the_last_failure_does_not_resolve() -> None:
    told = Told(policy())
    await told(failed("09:00:00"), failed("09:10:00"))
    assert await told(completed("09:09:59")) == []
    assert await told(completed("09:10:00")) == [("resolved", KEY)]


async def test_an_older_failure_that_arrives_late_changes_nothing() -> None:
    told = Told(policy())
    await told(failed("09:10:00"), failed("09:05:00"))
    assert await told(completed("09:07:00")) == []
    assert await told(completed("09:11:00")) == [("resolved", KEY)]


async def test_resolve_after_keeps_an_alert_of_which_some_tasks_fail() -> None:
    told = Told(policy(resolve_after_seconds=300.0))
    await told(failed("09:00:00"))
    assert await told(completed("09:04:59")) == []
    assert await told(failed("09:05:00")) == []
    assert await told(completed("09:09:59")) == []
    assert await told(completed("09:10:00")) == [("resolved", KEY)]


async def test_an_alert_is_resolved_after_a_restart_and_not_repeated() -> None:
    told = Told(policy())
    await told(failed("09:00:00"))
    again = Told(policy(), told.state)
    assert await again(failed("09:01:00")) == []
    assert await again(completed("09:02:00")) == [("resolved", KEY)]
    assert told.state.stored == {}


async def test_another_process_of_the_subscriber_resolves() -> None:
    first = Told(policy())
    second = Told(policy(), first.state)
    await first(failed("09:00:00"))
    await first(failed("09:00:30"))
    assert await second(completed("09:02:00")) == [("resolved", KEY)]
    assert await first(failed("09:03:00")) == [("firing", KEY)]


async def test_a_process_sees_what_another_has_told() -> None:
    first = Told(policy())
    second = Told(policy(), first.state)
    await first(failed("09:00:00"))
    await second(completed("09:01:00"), failed("09:02:00", error="Timeout"))
    assert await first(completed("09:03:00")) == [("resolved", "task.failed/shop/charge/Timeout")]


async def test_what_could_not_be_sent_is_decided_again() -> None:
    told = Told(policy())
    assert [one.key for one in told.alerts.take(failed("09:00:00"))] == [KEY]
    told.alerts.discard()
    assert told.state.stored == {}
    assert await told(failed("09:00:00")) == [("firing", KEY)]


async def test_a_workflow_is_resolved_by_a_workflow() -> None:
    told = Told(policy())
    await told(at("09:00:00", "workflow.failed", error={"type": "E"}))
    assert await told(completed("09:01:00")) == []
    assert await told(at("09:02:00", "workflow.completed")) == [("resolved", "workflow.failed/shop/charge/E")]


async def test_a_lost_worker_is_resolved_by_a_new_one_of_its_pool() -> None:
    told = Told(policy())
    assert await told(at("09:00:00", "worker.lost", pool="gpu")) == [("firing", "worker.lost/gpu")]
    assert await told(at("09:01:00", "worker.registered", pool="cpu")) == []
    assert await told(at("09:02:00", "worker.registered", pool="gpu", revision=2)) == [], "that one was there all the time"
    assert await told(at("09:03:00", "worker.registered", pool="gpu")) == [("resolved", "worker.lost/gpu")]


async def test_the_disk_and_rules_are_resolved_by_their_own_events() -> None:
    told = Told(policy())
    disk = "engine.storage_changed"
    assert await told(at("09:00:00", disk, level="low")) == [("firing", "engine.storage_changed/low")]
    assert await told(at("09:01:00", disk, level="ok")) == [("resolved", "engine.storage_changed/low")]
    assert await told(at("09:02:00", "alert.fired", rule="r", key="k")) == [("firing", "alert/r/k")]
    assert await told(at("09:03:00", "alert.resolved", rule="r", key="other")) == []
    assert await told(at("09:04:00", "alert.resolved", rule="r", key="k")) == [("resolved", "alert/r/k")]


async def test_what_nothing_resolves_is_told_once_per_interval() -> None:
    told = Told(policy())
    dead = "engine.report_dead_lettered"
    assert len(await told(at("09:00:00", dead), at("09:30:00", dead), at("10:00:00", dead))) == 2


async def test_a_selected_event_that_is_no_failure_is_told_each_time() -> None:
    told = Told(policy(types=("workflow.*",)))
    done = at("09:00:00", "workflow.completed"), at("09:00:01", "workflow.completed")
    assert await told(*done) == [("firing", "workflow.completed/shop/charge")] * 2
    assert told.state.writes == []
    assert await told(failed()) == []


async def test_many_kinds_of_errors_of_one_task_do_not_flood() -> None:
    told = Told(policy())
    sent = await told(*(failed(f"09:00:{second:02}", error=f"Error{second}") for second in range(60)))
    assert len(sent) == 6
    assert len(await told(completed("09:01:00"))) == 6


async def test_the_number_of_groups_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subscribers.notices.alerting.GROUPS_MAX", 3)
    told = Told(policy())
    for number in range(5):
        await told(failed(f"09:00:0{number}", name=f"task{number}"))
    assert told.forgotten == ["task/shop/task0", "task/shop/task1"]
    assert len(told.state.stored) == 3


async def test_a_state_of_another_form_is_ignored() -> None:
    state = FakeState()
    await state.put("firing/task/shop/charge", ["of an earlier release"])
    told = Told(policy(), state)
    assert await told(completed("09:00:00")) == []
    assert await told(failed("09:01:00")) == [("firing", KEY)]


async def test_a_group_with_the_longest_names_can_be_stored() -> None:
    told = Told(policy(templates=LinkTemplates("https://hub.example/" + "a" * 970 + "{task}", "")))
    long = {"name": "ü" * 127, "namespace": "ü" * 127, "queue": "q" * 255, "message": "é" * 4096, "subject": "é" * 127}
    await told(*(failed(f"09:00:0{number}", error=f"{number}" + "é" * 254, **long) for number in range(6)))
    assert len(told.alerts.firing()) == 6


def test_types_include_those_that_resolve() -> None:
    assert {"task.failed", "workflow.failed", "worker.lost", "alert.fired", "engine.storage_changed"} <= set(DEFAULT_TYPES)
    assert all(CATALOGUE[one].severity >= 13 for one in DEFAULT_TYPES)
    assert types_to_receive(("task.failed",)) == ("task.failed", "task.completed")
    assert types_to_receive(("task.started",)) == ("task.started",)
    assert {"task.completed", "workflow.completed", "worker.registered", "alert.resolved"} <= set(types_to_receive(DEFAULT_TYPES))


def test_unknown_types_are_rejected_with_the_name_of_the_field() -> None:
    with pytest.raises(ValidationError, match=r"types\n.*'task.fail' is not an event type"):
        AlertSettings(types=("task.fail",))
