"""Which alerts fire and resolve, by findings, book and time."""

from collections.abc import Mapping
from typing import Any

from hub.analytics import AlertId, Book, Rule, parse_rules
from hub.analytics.actions import reports_of
from hub.analytics.deciding import AlertTransition, Evaluation, decide
from hub.analytics.keyed import Cause, RuleFinding
from hub.analytics.moments import time_of
from schemas.events import AlertFired, AlertResolved
from schemas.reports import EventObserved, TaskCancel
from schemas.tasks import Submission

from .logs import at, event

BASE: dict[str, Any] = {
    "kind": "threshold",
    "match": {"type": "task.failed"},
    "for_each": ["task"],
    "window": "1m",
    "at_least": 3,
}
TASK = Cause(at(99), 0, 7, "0/7/0", "order-7", "order-7")
STEP = Cause(at(99), 0, 8, "0/8/0", "step-1", "order-8")


def rules(*tables: Mapping[str, Any]) -> list[Rule]:
    return parse_rules([{**BASE, "name": f"r{number}", **table} for number, table in enumerate(tables)])


def found(*keys: str, value: float = 5.0, latest: float = 99, causes: tuple[Cause, ...] = (TASK,)) -> dict[str, RuleFinding]:
    return {key: RuleFinding(value, 3.0, at(latest), (key,), causes) for key in keys}


def fired(seconds: float, rule: str, key: str, **data: Any) -> Any:
    return event(seconds, "alert.fired", id=f"{rule}/{key}", **{"rule": rule, "key": key, "labels": {"task": key}, **data})


def book(*events: Any) -> Book:
    made = Book()
    for one in events:
        made.take(one)
    return made


def shown(transitions: list[AlertTransition]) -> list[str]:
    return [f"{'+' if isinstance(one.data, AlertFired) else '-'}{one.alert.name}" for one in transitions]


def test_a_finding_fires_and_its_end_resolves() -> None:
    (one,) = rules({})
    assert shown(decide(Evaluation([one], {"r0": found("a")}, Book(), at(100)))) == ["+r0/a"]
    assert not decide(Evaluation([one], {"r0": found("a")}, book(fired(90, "r0", "a")), at(100)))
    (ended,) = decide(Evaluation([one], {"r0": {}}, book(fired(90, "r0", "a")), at(100)))
    assert isinstance(ended.data, AlertResolved)
    assert (ended.data.key, ended.data.fired_at, ended.data.labels) == ("a", time_of(at(90)), {"task": "a"})


def test_a_transition_that_is_sent_is_not_sent_again() -> None:
    (one,) = rules({})
    assert not decide(Evaluation([one], {"r0": found("a")}, Book(), at(100), waiting={"r0/a"}))


def test_an_alert_whose_rule_is_gone_or_disabled_resolves() -> None:
    (disabled,) = rules({"enabled": False})
    old = book(fired(90, "r0", "a"), fired(90, "gone", "b"))
    assert shown(decide(Evaluation([disabled], {"r0": found("a")}, old, at(100)))) == ["-r0/a", "-gone/b"]


def test_old_causes_do_not_fire() -> None:
    (one,) = rules({"max_event_age": "10s"})
    assert shown(decide(Evaluation([one], {"r0": found("a", latest=90)}, Book(), at(100)))) == ["+r0/a"]
    assert not decide(Evaluation([one], {"r0": found("a", latest=89)}, Book(), at(100)))


def test_a_throttled_alert_does_not_fire_again_too_early() -> None:
    (one,) = rules({"throttle": "1m"})
    earlier = book(fired(50, "r0", "a"), event(60, "alert.resolved", id="r0/a", rule="r0", key="a"))
    assert not decide(Evaluation([one], {"r0": found("a")}, earlier, at(100)))
    assert shown(decide(Evaluation([one], {"r0": found("a", latest=109)}, earlier, at(110)))) == ["+r0/a"]


def test_a_silence_holds_until_its_end_and_for_its_pattern() -> None:
    (one,) = rules({})
    silenced = event(50, "alert.silenced", id="r0/a*", rule="r*", key="a*", until=time_of(at(100)), by="me")
    findings = {"r0": found("a1", "b")}
    assert shown(decide(Evaluation([one], findings, book(silenced), at(99)))) == ["+r0/b"]
    assert shown(decide(Evaluation([one], findings, book(silenced), at(100)))) == ["+r0/a1", "+r0/b"]
    lifted = event(60, "alert.silenced", id="r0/a*", rule="r*", key="a*", until=time_of(at(60)))
    assert shown(decide(Evaluation([one], findings, book(silenced, lifted), at(99)))) == ["+r0/a1", "+r0/b"]


def test_a_rule_is_inhibited_by_an_alert_of_another_one_with_the_same_labels() -> None:
    both = rules({"inhibited_by": ["r1"], "inhibit_equal": ["task"]}, {})
    findings = {"r0": found("a", "b")}
    assert shown(decide(Evaluation(both, findings, book(fired(90, "r1", "a")), at(100)))) == ["-r1/a", "+r0/a", "+r0/b"]
    still = findings | {"r1": found("a")}
    assert shown(decide(Evaluation(both, still, book(fired(90, "r1", "a")), at(100)))) == ["+r0/b"]
    assert shown(decide(Evaluation(both, still, Book(), at(100)))) == ["+r1/a", "+r0/b"]


def test_many_keys_fire_as_one() -> None:
    (one,) = rules({"group_from": 3})
    assert shown(decide(Evaluation([one], {"r0": found("a", "b")}, Book(), at(100)))) == ["+r0/a", "+r0/b"]
    (group,) = decide(Evaluation([one], {"r0": found("a", "b", "c")}, Book(), at(100)))
    assert (group.alert, group.data.summary) == (AlertId("r0", "*"), "r0: the condition holds for 3 keys")
    grouped = book(fired(90, "r0", "*"), fired(80, "r0", "a"))
    assert not decide(Evaluation([one], {"r0": found("a", "b", "c")}, grouped, at(100)))
    assert shown(decide(Evaluation([one], {"r0": found("b", "c")}, grouped, at(100)))) == ["-r0/*", "-r0/a", "+r0/b", "+r0/c"]


def test_the_summary_is_that_of_the_rule() -> None:
    (one,) = rules({"summary": "{value:.0f} of {key} failed in {window:.0f} s (limit {threshold})"})
    (transition,) = decide(Evaluation([one], {"r0": found("a")}, Book(), at(100)))
    assert transition.data.summary == "5 of a failed in 60 s (limit 3.0)"


def test_an_alert_cancels_the_tasks_that_caused_it_and_runs_a_task() -> None:
    actions = [
        {"do": "notify"},
        {"do": "cancel", "reason": "stop"},
        {"do": "run", "task": "page", "args": {"x": 1}, "queue": "ops"},
    ]
    (one,) = rules({"actions": actions})
    given = Evaluation([one], {"r0": found("a", causes=(TASK, STEP))}, Book(), at(100))
    (transition,) = decide(given)
    event_, *cancels, run = reports_of(transition)
    assert isinstance(event_.value, EventObserved)
    assert (event_.value.entity, event_.value.event, event_.key) == ("alert/r0/a", "alert.fired", "r0/a")
    assert [(one.key, one.value) for one in cancels] == [
        ("order-7", TaskCancel(id="order-7", reason="stop", by="alert/r0/a")),
        ("order-8", TaskCancel(id="step-1", root="order-8", reason="stop", by="alert/r0/a")),
    ]
    assert isinstance(run.value, Submission)
    assert (run.value.name, run.value.queue, run.value.tags) == ("page", "ops", {"hub_origin": "alert"})
    assert run.value.id == run.key
    assert run.key.startswith("alert-run-")
    assert [one.id for one in reports_of(transition)] == [one.id for one in reports_of(decide(given)[0])]


def test_resolving_takes_no_action() -> None:
    (one,) = rules({"actions": [{"do": "run", "task": "page"}]})
    (transition,) = decide(Evaluation([one], {}, book(fired(90, "r0", "a")), at(100)))
    assert [report.type for report in reports_of(transition)] == ["event.observed"]


def test_long_and_unprintable_keys_have_short_printable_names() -> None:
    names = {AlertId("r", key).name for key in ("k" * 300, "k" * 301, "a\nb", "a\tb")}
    assert len(names) == 4
    assert all(len(name.encode()) < 200 and name.isprintable() for name in names)
