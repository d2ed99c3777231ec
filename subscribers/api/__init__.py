"""The whole plugin interface of subscribers: what a plugin declares, what it is handed, what it may raise.

A subscriber is handed lifecycle events at least once, in order per task, with stable ids (`meta.source` + `meta.id`).
A handler that returns has acknowledged its event; one that raises gets it again. Everything that can be declared here is
acted on by the runtime; mistakes in a declaration raise TypeError or ValueError when the class is made, not at night.

Rules: imports `schemas` and pydantic only; no IO, no clock.
"""

from .delivery import Batch, Delivery, Drop, Postpone, Redelivery
from .durations import Duration, parse_duration
from .filters import FILTER_ATTRIBUTES, F, Filter, parse_filter
from .handlers import Handler, on, type_matches
from .meta import Meta
from .subscriber import Subscriber, SubscriberContext, SubscriberSettings, subscriber

__all__ = [
    "FILTER_ATTRIBUTES",
    "Batch",
    "Delivery",
    "Drop",
    "Duration",
    "F",
    "Filter",
    "Handler",
    "Meta",
    "Postpone",
    "Redelivery",
    "Subscriber",
    "SubscriberContext",
    "SubscriberSettings",
    "on",
    "parse_duration",
    "parse_filter",
    "subscriber",
    "type_matches",
]
