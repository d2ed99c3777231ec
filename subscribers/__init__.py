"""Plugins of the hub: their interface (`api`) and the built-in plugins.

A plugin imports `subscribers` and `schemas`, not `hub`; the hub finds it by entry point.
"""

from .api import (
    Batch,
    Delivery,
    Drop,
    F,
    Filter,
    Handler,
    Meta,
    Postpone,
    Redelivery,
    Subscriber,
    SubscriberContext,
    SubscriberSettings,
    on,
    parse_duration,
    parse_filter,
    subscriber,
    type_matches,
)

__distribution__ = "taskhub"

__all__ = [
    "Batch",
    "Delivery",
    "Drop",
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
