"""Says which rule lets an event pass to a subscriber, or stops it."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from msgspec import json

from schemas import header_map
from subscribers import Filter, Handler, type_matches

from ..admission import sample_hash
from ..config import SubscriberPlan
from ..policies import HASH_VALUES, policies_of
from ..selection import Headers, Malformed, Selection, type_in

ATTRIBUTE = "ce_"


class AppliedRule(NamedTuple):
    """One rule of a subscriber, applied to an event."""

    name: str
    passes: bool
    reason: str


def explain(plan: SubscriberPlan, headers: Headers, key: bytes | None) -> list[AppliedRule]:
    """The rules that were applied to a record with these headers and this key, in their order; the first that does not pass is
    the last."""
    rules: list[AppliedRule] = []
    for rule in chain(_of_selection(plan, headers), _of_policies(plan, headers, key)):
        rules.append(rule)
        if not rule.passes:
            break
    return rules


def _of_selection(plan: SubscriberPlan, headers: Headers) -> Iterator[AppliedRule]:
    attributes = header_map(headers)
    event_type = attributes.get("ce_type", b"").decode(errors="replace")
    types = plan.plugin.event_types(plan.settings)
    yield _types(types, event_type)
    handler = plan.plugin.handler_of(event_type)
    if handler is None:
        named = ", ".join(f"{one.method}: {', '.join(one.patterns)}" for one in plan.plugin.handlers)
        yield AppliedRule("handler", False, f"no handler matches {event_type} ({named})")
    else:
        yield AppliedRule("handler", True, describe_handler(handler))
    if plan.filter is None:
        yield AppliedRule("filter", True, "it has no filter")
    else:
        reason = why_refused(plan.filter, attributes)
        yield AppliedRule("filter", reason is None, reason or text_of(plan.filter))
    route = Selection(plan.plugin, plan.settings, plan.filter).route(headers)
    if route is None or isinstance(route, Malformed):
        yield AppliedRule("selection", False, "the record is not selected by its headers")


def _of_policies(plan: SubscriberPlan, headers: Headers, key: bytes | None) -> Iterator[AppliedRule]:
    policies = policies_of(plan)
    if policies is None:
        return
    keep_below = policies.of(type_in(headers)).keep_below
    share, kept = keep_below / HASH_VALUES, sample_hash(key) < keep_below
    name = (key or b"").decode(errors="replace")
    yield AppliedRule("sample", kept, f"{name} {'is in' if kept else 'is not in'} the sample of {share:g}")


def _types(types: tuple[str, ...], event_type: str) -> AppliedRule:
    matching = [one for one in types if type_matches(one, event_type)]
    if matching:
        return AppliedRule("types", True, f"{event_type} matches {matching[0]}")
    return AppliedRule(
        "types", False, f"{event_type} matches none of the types that its settings select: {', '.join(types) or 'none'}"
    )


def describe_handler(handler: Handler) -> str:
    """The method, and its event types."""
    batch = "" if handler.batch is None else f", in batches of at most {handler.batch.max}"
    return f"{handler.method} handles {', '.join(handler.patterns)}{batch}"


def why_refused(filter: Filter, attributes: Mapping[str, bytes]) -> str | None:
    """The clause of a filter because of which a record with these headers does not pass; None if it passes."""
    if filter.predicate()(attributes):
        return None
    if filter.operator == "all":
        return next(reason for one in filter.filters if (reason := why_refused(one, attributes)) is not None)
    if filter.operator == "any":
        reasons = [reason for one in filter.filters if (reason := why_refused(one, attributes)) is not None]
        return f"none of any: {'; '.join(reasons)}"
    if filter.operator == "not":
        return f"{text_of(filter)} excludes it"
    values = ", ".join(f"{name} is {_value(attributes, name)}" for name, _ in filter.attributes)
    return f"{text_of(filter)} does not match: {values}"


def text_of(filter: Filter) -> str:
    """The filter as JSON of the CloudEvents filter dialect."""
    return json.encode(filter.to_json()).decode()


def _value(attributes: Mapping[str, bytes], name: str) -> str:
    value = attributes.get(ATTRIBUTE + name)
    return "absent" if value is None else repr(value.decode(errors="replace"))
