"""Which rule lets an event pass to a subscriber, or stops it."""

from typing import Any

import pytest

from hub.delivery import SubscriberConfig, SubscriberPlan
from hub.delivery.administration import explain
from hub.delivery.config import plan
from hub.delivery.selection import Selection
from hub.testing import make_event_record
from schemas import Event
from schemas.events import TaskFailed
from subscribers import F, Subscriber, SubscriberSettings, on


class Chosen(SubscriberSettings):
    types: tuple[str, ...] = ("*",)


class Routed(Subscriber[Chosen]):
    """Two handlers, and a filter."""

    name = "routed"
    filter = F.not_(F.exact(namespace="sandbox"))

    @classmethod
    def event_types(cls, settings: Chosen) -> tuple[str, ...]:
        return settings.types

    @on
    async def failed(self, event: TaskFailed) -> None: ...

    @on("task.re*")
    async def others(self, event: Event) -> None: ...


def planned(**fields: Any) -> SubscriberPlan:
    return plan(SubscriberConfig(use="routed", **fields), Routed)


@pytest.mark.parametrize(
    ("fields", "event_type", "namespace", "stopped_by", "reason"),
    [
        ({}, "task.failed", "default", None, ""),
        ({}, "task.ready", "default", None, ""),
        ({"settings": {"types": ["task.r*"]}}, "task.failed", "default", "types", "none of the types"),
        ({}, "task.completed", "default", "handler", "failed: task.failed, others: task.re"),
        ({}, "task.failed", "sandbox", "filter", '{"not":{"exact":{"namespace":"sandbox"}}} excludes it'),
        ({"filter": {"prefix": {"subject": "x"}}}, "task.failed", "default", "filter", "subject is 'order-7'"),
        (
            {"filter": {"any": [{"exact": {"traceparent": "00-1"}}, {"suffix": {"taskname": "x"}}]}},
            "task.failed",
            "default",
            "filter",
            "none of any",
        ),
        ({"filter": {"exact": {"traceparent": "00-1"}}}, "task.failed", "default", "filter", "traceparent is absent"),
        ({"delivery": {"sample": 0}}, "task.ready", "default", "sample", "not in the sample of 0"),
        ({"delivery": {"sample": 0}}, "task.failed", "default", None, ""),
    ],
)
def test_the_first_rule_that_does_not_pass_is_named(
    fields: dict[str, Any], event_type: str, namespace: str, stopped_by: str | None, reason: str
) -> None:
    chosen = planned(**fields)
    key, _, headers = make_event_record(event_type, envelope={"namespace": namespace})
    rules = explain(chosen, tuple(headers), key)
    assert [one.name for one in rules if not one.passes] == ([stopped_by] if stopped_by else [])
    assert reason in rules[-1].reason
    route = Selection(chosen.plugin, chosen.settings, chosen.filter).route(tuple(headers))
    assert (route is None) == (stopped_by in ("types", "handler", "filter")), "the explanation and the code that runs agree"


def test_the_rules_that_pass_say_why() -> None:
    key, _, headers = make_event_record("task.failed")
    named = {one.name: one.reason for one in explain(planned(), tuple(headers), key)}
    assert named["types"] == "task.failed matches *"
    assert named["handler"] == "failed handles task.failed"
    assert named["filter"] == '{"all":[{"not":{"exact":{"namespace":"sandbox"}}}]}'
