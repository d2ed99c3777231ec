"""Publishes the figures of the rooms as metrics: maps them to the instruments of the catalogue. See README.md."""

from .analytics import observe_analytics
from .broker import broker_figures, observe_broker
from .delivery import observe_delivery
from .engine import observe_engine
from .worker import observe_worker

__all__ = ["broker_figures", "observe_analytics", "observe_broker", "observe_delivery", "observe_engine", "observe_worker"]
