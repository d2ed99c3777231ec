"""Rules are checked when they are read; every fault names the rule and the field."""

from typing import Any

import pytest

from hub.analytics import Match, parse_rules
from hub.errors import ConfigurationError

from .logs import event, rule

VALID: dict[str, Any] = {"name": "r", "kind": "threshold", "match": {"type": "task.failed"}, "window": "5m", "at_least": 3}
SLO: dict[str, Any] = {"name": "r", "kind": "slo", "match": {"type": "task.*"}, "bad": {"type": "task.failed"}, "objective": 0.99}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (VALID | {"window": "5x"}, r"rules\[0\] \(r\): window: '5x' is not a duration"),
        (VALID | {"window": 0.5}, r"window: must be between 1 s and 31 days"),
        (VALID | {"match": {"type": "task.fail"}}, r"match: type: 'task.fail' matches no event type"),
        (VALID | {"match": {"typ": "task.failed"}}, r"match\.typ: there is no such field"),
        (VALID | {"kind": "limit"}, r"kind: invalid value 'limit'"),
        ({key: VALID[key] for key in ("name", "kind", "at_least")}, r"window: is missing"),
        (VALID | {"for_each": ["tsk"]}, r"for_each: there is no field 'tsk'; the fields are type, namespace, task"),
        (VALID | {"summary": "{count} failed"}, r"summary: 'count' is not a value; the values are value, threshold"),
        (VALID | {"actions": [{"do": "run"}]}, r"actions\[0\]\.task: is missing"),
        (VALID | {"actions": [{"do": "page"}]}, r"actions\[0\]\.do: invalid value 'page'"),
        (VALID | {"below": 1.0}, r"at_least: exactly one of at_least and below is required"),
        (VALID | {"measure": "ratio"}, r"part: is required for the measure ratio"),
        (VALID | {"resolve_at": 4}, r"resolve_at: must be on the other side of the threshold"),
        (VALID | {"name": "a b"}, r"rules\[0\]: name: must consist of"),
        (VALID | {"throttle": "-1s"}, r"throttle: '-1s' is not a duration"),
        (VALID | {"inhibited_by": ["x"]}, r"inhibited_by: there is no other rule 'x'"),
        (VALID | {"inhibit_equal": ["task"]}, r"inhibit_equal: task is not in for_each"),
        (SLO | {"objective": 1}, r"objective: must be"),
        (SLO | {"burns": [{"long": "1m", "short": "5m", "factor": 2}]}, r"burns\[0\]: short: must be shorter than long"),
        ({"name": "r", "kind": "absence", "window": "1m", "keys": ["a"]}, r"keys: requires for_each"),
        (3, r"rules\[0\]: must be an object, not an integer"),
    ],
)
def test_a_fault_is_reported_with_the_rule_and_the_field(fields: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_rules([fields])


def test_names_are_unique_and_rules_do_not_inhibit_each_other_in_a_circle() -> None:
    with pytest.raises(ConfigurationError, match=r"rules\[1\]\.name: 'r' is the name of another rule"):
        parse_rules([VALID, VALID])
    with pytest.raises(ConfigurationError, match="is inhibited by a rule that it inhibits"):
        parse_rules([VALID | {"name": "a", "inhibited_by": ["b"]}, VALID | {"name": "b", "inhibited_by": ["a"]}])


def test_rules_that_inhibit_others_come_first() -> None:
    found = parse_rules([VALID | {"name": "child", "inhibited_by": ["parent"]}, VALID | {"name": "parent"}])
    assert [one.name for one in found] == ["parent", "child"]


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({}, True),
        ({"type": "task.*"}, True),
        ({"type": ["task.completed", "task.expired"]}, False),
        ({"task": "ch*"}, True),
        ({"task": ["mail", "charge"]}, True),
        ({"task": "mail"}, False),
        ({"error": "ConnectionError"}, True),
        ({"result": "failure"}, True),
        ({"result": "timeout"}, False),
        ({"tags": {"team": "bil*"}}, True),
        ({"tags": {"team": "shop"}}, False),
        ({"steps": "exclude"}, False),
        ({"steps": "only"}, True),
        ({"pool": "default"}, False),
    ],
)
def test_a_match_selects_events(fields: dict[str, Any], matches: bool) -> None:
    failed = event(0, "task.failed", root="order-6", tags={"team": "billing"})
    assert rule(kind="absence", window="1m", match=fields).match.predicate()(failed) is matches


def test_alerts_and_tasks_of_alerts_match_no_rule() -> None:
    matches = Match().predicate()
    assert matches(event(0, "task.failed"))
    assert not matches(event(0, "task.failed", id="alert-run-1"))
    assert not matches(event(0, "attempt.failed", root="alert-run-1"))
    assert not matches(event(0, "task.failed", tags={"hub_origin": "alert"}))
    assert not matches(event(0, "alert.fired", id="r/a"))
