"""The table `types` of a subscriber: settings of delivery for some event types.

    [subscribers.types."task.progressed"]
    sample = 0.01
    rate = "1/s"

Rule: faults are reported at the start, with the path of the field.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from schemas import CATALOGUE
from subscribers import Delivery, type_matches

from ..validation import fault_of, place_of

FIELDS = ("max_event_age", "priority", "rate", "sample", "timeout")
"""What can be set per event type."""


class TypeRule(NamedTuple):
    """One entry: `given` has the names of its fields; `delivery` their values; `priority` is not in it."""

    pattern: str
    given: frozenset[str]
    delivery: Delivery
    priority: bool

    def rank(self, event_type: str) -> int:
        """How specifically the pattern matches: 0 if not at all, an exact name is higher than a pattern, a longer pattern higher
        than a shorter one."""
        if self.pattern == event_type:
            return 1_000_000
        return len(self.pattern) if type_matches(self.pattern, event_type) else 0


def rule_for(rules: Iterable[TypeRule], event_type: str, field: str) -> TypeRule | None:
    """The rule with the most specific pattern that has this field. Raises ValueError if two match equally well."""
    ranked = sorted(
        ((rank, one) for one in rules if field in one.given and (rank := one.rank(event_type))), key=lambda two: -two[0]
    )
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        both = " and ".join(f'"{one.pattern}"' for _, one in ranked[:2])
        raise ValueError(f': {both} match {event_type} equally well, and both have "{field}"')
    return ranked[0][1] if ranked else None


def read_rules(delivery: Delivery, table: Mapping[str, Mapping[str, Any]]) -> tuple[TypeRule, ...]:
    """The rules in `table`, whose keys are event types, in which `*` matches any text. Raises ValueError with the path of the
    field below the table, and what is wrong with it."""
    rules = tuple(_read_rule(delivery, pattern, fields) for pattern, fields in table.items())
    for event_type in CATALOGUE:
        for field in FIELDS:
            rule_for(rules, event_type, field)
    return rules


def check_patterns(patterns: Iterable[str], at: str = "") -> None:
    """Raise ValueError for a pattern that matches no event type. `at`: the path with which the message begins."""
    for pattern in patterns:
        if not any(type_matches(pattern, one) for one in CATALOGUE):
            raise ValueError(f"{at}: {pattern!r} matches no event type of this hub; see `hub events list`")


def _read_rule(delivery: Delivery, pattern: str, fields: Mapping[str, Any]) -> TypeRule:
    at = f'."{pattern}"'
    check_patterns([pattern], at)
    for name in fields:
        if name not in FIELDS:
            raise ValueError(f"{at}.{name}: unknown key (known keys: {', '.join(FIELDS)})")
    priority = fields.get("priority", False)
    if not isinstance(priority, bool):
        raise ValueError(f"{at}.priority: must be true or false")
    others = {name: value for name, value in fields.items() if name != "priority"}
    try:
        own = Delivery.model_validate({**delivery.model_dump(), **others})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise ValueError("; ".join(f"{place_of(one['loc'], at)}: {fault_of(one)}" for one in faults)) from None
    return TypeRule(pattern, frozenset(fields), own, priority)
