"""The instruments of the analytics: the alerts that fire."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ...metrics import Registry
from .tables import GaugeTable

if TYPE_CHECKING:
    from ...analytics.book import AlertState


def observe_analytics(registry: Registry, alerts: "Callable[[], Iterable[AlertState]]") -> None:
    """Publish how many of `alerts` fire, by rule and severity, at each collection."""
    active = GaugeTable(registry, "hub.alert.active")
    registry.observe(lambda: active.show(Counter((one.rule, one.severity) for one in alerts() if one.is_firing)))
