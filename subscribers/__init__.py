"""Plugins of the hub: the interface they are written against (`api`) and the built-in ones.

A plugin imports `subscribers` and `schemas`, never `hub`; the hub finds it by entry point and never names it.
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
