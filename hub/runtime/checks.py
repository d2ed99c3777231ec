"""The checks of each role: what keeps a process that runs from being ready. Computed from the services' memory, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..telemetry import masked
from .health import Check, HealthLimits

if TYPE_CHECKING:
    from ..analytics.service import AnalyticsService
    from ..broker import BrokerServer
    from ..delivery import SubscriberStatus
    from ..engine import PartitionProgress
    from ..worker import Worker

Checks = dict[str, Callable[[], Check]]

NOT_WORKING = ("failed", "stopped", "blocked", "reconnecting")
"""States of a subscriber that receives no events."""
RULES_AGE_MAX_SECONDS = 60.0
ERROR_MAX = 200
"""Most characters of a subscriber's error in a detail."""


class OwnsPartitions(Protocol):
    """An engine: over TCP, or in the broker's process."""

    def progress(self) -> list[PartitionProgress]:
        """How current each owned partition is."""


def broker_checks(server: BrokerServer) -> Checks:
    """Whether the embedded broker accepts connections and writes."""
    return {
        "listening": lambda: Check(server.listening, "" if server.listening else "clients cannot connect"),
        "writable": lambda: Check(server.writable, "" if server.writable else "the disk is full: writes are rejected"),
    }


def engine_checks(engine: OwnsPartitions, limits: HealthLimits) -> Checks:
    """Whether every owned partition is current. A partition that is being restored, or waits for the broker, gets older."""

    def check(what: Callable[[PartitionProgress], float], limit: float, text: str) -> Check:
        return _worst({f"partition {one.partition}": what(one) for one in engine.progress()}, limit, text)

    return {
        "intake_lag": partial(check, lambda one: one.lag, limits.intake_lag_max, "{:,.0f} records of hub.intake are not decided"),
        "commit_age": partial(
            check,
            lambda one: one.commit_age_seconds,
            limits.commit_age_max_seconds,
            "{:.1f} s since input was committed or none was waiting",
        ),
        "watermark_age": partial(
            check, lambda one: one.watermark_age_seconds, limits.watermark_age_max_seconds, "the time watermark is {:.1f} s old"
        ),
        "disk_space": partial(_accepts_submissions, engine),
    }


def _accepts_submissions(engine: OwnsPartitions) -> Check:
    if any(one.rejects for one in engine.progress()):
        return Check(False, "the broker's disk is almost full: submissions are rejected")
    return Check(True)


def worker_checks(worker: Worker) -> Checks:
    """Whether the worker receives commands and its leases are renewed."""

    def heartbeats() -> Check:
        lost = ", ".join(map(str, worker.lost_partitions))
        return Check(not lost, f"the engine's partitions {lost} have accepted no heartbeat in time" if lost else "")

    return {
        "inbox": lambda: Check(worker.connected, "" if worker.connected else "the connection to its inbox is lost"),
        "heartbeats": heartbeats,
    }


def delivery_checks(status: Callable[[], Sequence[SubscriberStatus]], limits: HealthLimits) -> Checks:
    """Whether every subscriber receives events, and its lag."""

    def subscribers() -> Check:
        faults = [_fault(one) for one in status() if one.state in NOT_WORKING]
        return Check(not faults, "; ".join(faults))

    def lag() -> Check:
        text = "{:,.0f} records of hub.events are not acknowledged"
        return _worst({f"subscriber {one.id}": one.lag for one in status()}, limits.delivery_lag_max, text)

    return {"subscribers": subscribers, "lag": lag}


def analytics_checks(analytics: AnalyticsService) -> Checks:
    """Whether rules are evaluated: all events up to a moment were read, and that moment is recent."""

    def current() -> Check:
        age = analytics.age_seconds
        if age is None:
            return Check(False, "rules were not evaluated yet")
        return Check(age <= RULES_AGE_MAX_SECONDS, f"rules were evaluated for the state {age:.1f} s ago")

    return {"current": current}


def _fault(subscriber: SubscriberStatus) -> str:
    why = f": {masked(subscriber.error)[:ERROR_MAX]}" if subscriber.error else ""
    return f"{subscriber.id} is {subscriber.state}{why}"


def _worst(values: dict[str, float], limit: float, text: str) -> Check:
    """The largest of the values by owner, compared with `limit` (0: none)."""
    if not values:
        return Check(True)
    owner = max(values, key=values.__getitem__)
    found = f"{owner}: {text.format(values[owner])}"
    if limit and values[owner] > limit:
        return Check(False, f"{found} (limit {limit:g})")
    return Check(True, found)
