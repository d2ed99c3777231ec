"""What applies to an event by its type: share, age, timeout, priority and rate. Compiled once per run of a subscriber."""

from typing import NamedTuple

from schemas import CATALOGUE
from subscribers import Delivery, type_matches

from .config import SubscriberPlan
from .rate_limit import RateLimit
from .type_rules import TypeRule, rule_for

ERROR_SEVERITY = 17
HASH_VALUES = 1 << 64
"""The number of values of the hash that decides about a sample."""


class EventPolicy(NamedTuple):
    """What applies to the events of one type.

    `keep_below`: the hash of the root's id must be below this number. `age_ms_max`: maximum age, in milliseconds; None for no
    limit. `urgent`: whether it is handled first. `limit`: that of the type, in addition to that of the subscriber.
    """

    keep_below: int
    age_ms_max: float | None
    timeout_seconds: float
    urgent: bool
    limit: RateLimit | None


class Policies:
    """The policies of one subscriber by event type. `calls_max`: the limit of all its calls together."""

    def __init__(self, delivery: Delivery, rules: tuple[TypeRule, ...]) -> None:
        self.calls_max = None if delivery.calls_max is None else RateLimit(*delivery.calls_max)
        rates = [(one.pattern, one.delivery.calls_max) for one in rules if "rate" in one.given]
        self._limits = {pattern: RateLimit(*rate) for pattern, rate in rates if rate is not None}
        self._by_type = {name.encode(): self._policy_of(delivery, rules, name) for name in CATALOGUE}
        self._default = self._by_type_unknown(delivery)

    @property
    def limits_of_types(self) -> list[RateLimit]:
        """The limits of some event types."""
        return list(self._limits.values())

    def of(self, event_type: bytes | None) -> EventPolicy:
        """The policy for a record with this value of its header ce_type; None: without one."""
        return self._by_type.get(event_type or b"", self._default)

    def _policy_of(self, delivery: Delivery, rules: tuple[TypeRule, ...], event_type: str) -> EventPolicy:
        def chosen(field: str) -> Delivery:
            rule = rule_for(rules, event_type, field)
            return delivery if rule is None else rule.delivery

        urgency, rate = rule_for(rules, event_type, "priority"), rule_for(rules, event_type, "rate")
        declared = any(type_matches(pattern, event_type) for pattern in delivery.priority)
        return EventPolicy(
            keep_below=HASH_VALUES if _is_failure(event_type) else round(chosen("sample").sample * HASH_VALUES),
            age_ms_max=_milliseconds(chosen("max_event_age").max_event_age_seconds),
            timeout_seconds=chosen("timeout").timeout_seconds,
            urgent=declared if urgency is None else urgency.priority,
            limit=None if rate is None else self._limits.get(rate.pattern),
        )

    @staticmethod
    def _by_type_unknown(delivery: Delivery) -> EventPolicy:
        """For a record that is not an event of the catalogue: it is never sampled, because it may have to be dead-lettered."""
        age = _milliseconds(delivery.max_event_age_seconds)
        return EventPolicy(HASH_VALUES, age, delivery.timeout_seconds, urgent=False, limit=None)


def policies_of(plan: SubscriberPlan) -> Policies | None:
    """The policies of a subscriber; None if all its events are treated alike and none is delayed or left out."""
    delivery = plan.delivery
    used = (delivery.sample < 1, delivery.rate, delivery.priority, delivery.max_event_age is not None, plan.types)
    skips = plan.replay and delivery.replay == "skip"
    return Policies(delivery, plan.types) if any(used) or skips else None


def _is_failure(event_type: str) -> bool:
    return event_type.endswith(".failed") or CATALOGUE[event_type].severity >= ERROR_SEVERITY


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
