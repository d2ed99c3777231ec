"""The instruments of delivery: the statuses of subscribers."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

from ...metrics import Registry
from .tables import GaugeTable

if TYPE_CHECKING:
    from ...delivery import SubscriberStatus

#: Values of the label `outcome`, and the counters of the status.
OUTCOMES = {
    "ok": "delivered",
    "retry": "retried",
    "postponed": "postponed",
    "drop": "dropped",
    "skip": "skipped",
    "dlq": "dead_lettered",
    "timeout": "timed_out",
}


def observe_delivery(registry: Registry, statuses: "Callable[[], Sequence[SubscriberStatus]]") -> None:
    """Publish the statuses of subscribers at each collection."""
    from ...delivery.status import State  # here, because other processes import this module, too

    lag, age = GaugeTable(registry, "hub.subscriber.lag"), GaugeTable(registry, "hub.subscriber.lag.time")
    in_flight, states = GaugeTable(registry, "hub.subscriber.inflight"), GaugeTable(registry, "hub.subscriber.state")

    def read() -> None:
        present = statuses()
        lag.show({(one.id,): one.lag for one in present})
        age.show({(one.id,): one.lag_seconds for one in present if one.lag_seconds is not None})
        in_flight.show({(one.id,): one.in_flight for one in present})
        states.show({(one.id, state): float(one.state == state) for one in present for state in get_args(State)})
        for one in present:
            _count(registry, one)

    registry.observe(read)


def _count(registry: Registry, status: "SubscriberStatus") -> None:
    for outcome, field in OUTCOMES.items():
        counter = registry.counter("hub.subscriber.deliveries", subscriber=status.id, outcome=outcome)
        counter.follow(getattr(status, field))
    registry.counter("hub.subscriber.dead_letters", subscriber=status.id).follow(status.dead_lettered)
    registry.counter("hub.subscriber.restarts", subscriber=status.id).follow(status.restarts)
