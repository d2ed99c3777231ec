"""The golden files change only by additions; includes tests of the comparison."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from .golden import REGENERATE, current, differing, golden, not_additive, write

Schema = dict[str, Any]


def test_the_contract_only_adds_to_the_golden_files() -> None:
    found = not_additive(golden(), current())
    assert not found, "not an addition to the contract; a changed meaning needs a new field or a new type:\n" + "\n".join(found)


def test_the_golden_files_are_those_of_the_code() -> None:
    changed = differing(golden(), current())
    assert not changed, f"the contract has grown ({', '.join(changed)}): write the golden files again with `{REGENERATE}`"


def test_every_type_has_a_file_of_its_own(tmp_path: Path) -> None:
    write(current(), tmp_path)
    assert golden(tmp_path) == current()
    assert len(list(tmp_path.rglob("*.json"))) == len(current())


def of(name: str, change: Callable[[Schema], None]) -> list[str]:
    """What is not additive after `change` to the schema of one type, and to nothing else."""
    old, new = current(), deepcopy(current())
    change(new[name])
    return not_additive(old, new)


def in_field(name: str, **facts: Any) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        schema["properties"][name].update(facts)

    return change


def without(*path: str) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        for part in path[:-1]:
            schema = schema[part]
        del schema[path[-1]]

    return change


def required(*names: str) -> Callable[[Schema], None]:
    return lambda schema: schema.update(required=list(names))


def adding(name: str, *, needed: bool) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        schema["properties"][name] = {"type": "string"}
        if needed:
            schema["required"].append(name)

    return change


EVENT, REPORT = "events/task.ready", "reports/worker.lost"

NOT_ADDITIVE: dict[str, tuple[str, Callable[[Schema], None], str]] = {
    "a field is gone": (EVENT, without("properties", "priority"), "field priority is gone"),
    "a field was renamed": (
        EVENT,
        lambda schema: schema["properties"].update(prio=schema["properties"].pop("priority")),
        "field priority is gone",
    ),
    "another type": (EVENT, in_field("priority", type="string"), "field priority has another type: integer became string"),
    "a type that became nullable": (
        EVENT,
        lambda schema: schema["properties"].update(priority={"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 0}),
        "field priority has another type: integer became integer or null",
    ),
    "a member of a union is gone": (
        "reports/task.created",
        in_field("start_after", anyOf=[{"type": "string"}, {"type": "null"}]),
        "field start_after has another type",
    ),
    "another default": (EVENT, in_field("priority", default=1), "field priority has another default"),
    "a default is gone": (EVENT, without("properties", "priority", "default"), "field priority has another default"),
    "a lower maximum": (
        REPORT,
        in_field("incarnation", maxLength=36),
        "field incarnation has a narrower maxLength: 255 became 36",
    ),
    "a new minimum": (REPORT, in_field("incarnation", minLength=1), "field incarnation has a narrower minLength: None became 1"),
    "a new field that is required": (REPORT, adding("host", needed=True), "field host is new and required"),
    "a new field of an event that is required": (EVENT, adding("pool", needed=True), "field pool is new and required"),
    "a field became required": (REPORT, required("incarnation", "reason"), "field reason became required"),
    "an event's field became optional": (EVENT, required(), "field queue is no longer required"),
    "an enum value is gone": (
        "events/task.failed",
        lambda schema: schema["properties"]["kind"]["enum"].remove("lost"),
        "field kind no longer has the value 'lost'",
    ),
    "an enum value was renamed": (
        "events/task.retry_scheduled",
        in_field("cause", enum=["error", "timeout", "vanished"]),
        "field cause no longer has the value 'lost'",
    ),
    "a struct within lost a field": (
        "events/attempt.failed",
        without("$defs", "TaskError", "properties", "fingerprint"),
        "field error.fingerprint is gone",
    ),
    "a struct within a map lost a field": (
        "reports/task.created",
        without("$defs", "StepSpec", "properties", "queue"),
        "field tasks[].queue is gone",
    ),
    "items of another type": (
        "reports/worker.heartbeat",
        in_field("queues", items={"type": "integer"}),
        "field queues[] has another type: string became integer",
    ),
    "values of a map of another type": (
        "events/task.created",
        in_field("tags", additionalProperties={"type": "number"}),
        "field tags[] has another type: string became number",
    ),
    "a header is gone": (REPORT, without("x-record", "optional_headers", "traceparent"), "header traceparent is gone"),
    "a header that not every record has any more": (
        EVENT,
        lambda schema: schema["x-record"]["optional_headers"].update(ce_time=schema["x-record"]["headers"].pop("ce_time")),
        "header ce_time is no longer on every record",
    ),
    "a new header that is required": (
        REPORT,
        lambda schema: schema["x-record"]["headers"].update(tenant="A tenant."),
        "header tenant is new and required",
    ),
    "a header became required": (
        REPORT,
        lambda schema: schema["x-record"]["headers"].update(replyto=schema["x-record"]["optional_headers"].pop("replyto")),
        "header replyto became required",
    ),
    "another topic": (EVENT, lambda schema: schema["x-record"].update(topic="hub.log"), "the topic hub.events became hub.log"),
    "unknown fields are refused now": (
        EVENT,
        lambda schema: schema.update(additionalProperties=False),
        "the type no longer takes unknown fields",
    ),
}


@pytest.mark.parametrize("case", NOT_ADDITIVE)
def test_a_change_that_is_not_an_addition_is_named(case: str) -> None:
    name, change, expected = NOT_ADDITIVE[case]
    found = of(name, change)
    assert any(problem.startswith(f"{name}: {expected}") for problem in found), found


ADDITIVE: dict[str, tuple[str, Callable[[Schema], None]]] = {
    "nothing": (EVENT, lambda schema: None),
    "a new field that may be absent": (EVENT, adding("pool", needed=False)),
    "a new field of a report that may be absent": (REPORT, adding("host", needed=False)),
    "another description": (EVENT, in_field("queue", description="Another sentence.")),
    "another name of the struct": (EVENT, lambda schema: schema.update(title="Ready")),
    "a report's field became optional": (REPORT, required()),
    "a wider bound of a report": (REPORT, in_field("incarnation", maxLength=1_000)),
    "a new header of what the engine writes": (EVENT, lambda schema: schema["x-record"]["headers"].update(more="More.")),
    "a new header that may be absent": (REPORT, lambda schema: schema["x-record"]["optional_headers"].update(more="More.")),
    "a new enum value": ("events/task.failed", lambda schema: schema["properties"]["kind"]["enum"].append("refused")),
    "another order of a union": (
        "reports/task.created",
        lambda schema: schema["properties"]["start_after"]["anyOf"].reverse(),
    ),
}


@pytest.mark.parametrize("case", ADDITIVE)
def test_an_addition_is_accepted(case: str) -> None:
    name, change = ADDITIVE[case]
    assert of(name, change) == []


def test_a_wider_bound_of_what_the_engine_writes_is_named() -> None:
    old = {EVENT: deepcopy(current()[EVENT])}
    old[EVENT]["properties"]["queue"]["maxLength"] = 255
    assert not_additive(old, {EVENT: current()[EVENT]}) == [
        f"{EVENT}: field queue has a wider maxLength: 255 became None, and readers rely on it"
    ]


def test_a_type_that_is_gone_is_named_and_a_new_one_is_an_addition() -> None:
    some = {EVENT: current()[EVENT]}
    both = {**some, REPORT: current()[REPORT]}
    assert not_additive(both, some) == [f"{REPORT}: the type is gone"]
    assert not_additive(some, both) == []


def test_a_type_that_the_code_no_longer_has_is_named() -> None:
    old = {**current(), "events/task.forgotten": current()[EVENT]}
    assert not_additive(old, current()) == ["events/task.forgotten: the type is gone"]
