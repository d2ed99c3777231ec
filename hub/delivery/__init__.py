"""Delivers events of `hub.events` to subscribers. See README.md."""

from .check import check_subscribers
from .config import SubscriberConfig, SubscriberPlan, parse_configs
from .discovery import ENTRY_POINT_GROUP, PluginBroken, available, load
from .isolation import is_isolated
from .observing import IntakeObservations, Observation, SubscriberObserver
from .own_process import fork_server_for
from .secrets import masked_entry
from .service import DeliveryFailedError, DeliveryService
from .status import Counters, SubscriberStatus

__all__ = [
    "ENTRY_POINT_GROUP",
    "Counters",
    "DeliveryFailedError",
    "DeliveryService",
    "IntakeObservations",
    "Observation",
    "PluginBroken",
    "SubscriberConfig",
    "SubscriberObserver",
    "SubscriberPlan",
    "SubscriberStatus",
    "available",
    "check_subscribers",
    "fork_server_for",
    "is_isolated",
    "load",
    "masked_entry",
    "parse_configs",
]
