"""The complete plugin interface of subscribers: declarations, arguments of handlers, exceptions that handlers may raise.

A subscriber receives lifecycle events at least once, in order per task, with stable ids (`meta.source` + `meta.id`).
An event is acknowledged when its handler returns, and redelivered if it raises. Invalid declarations raise TypeError or
ValueError when the class is created.

Rules: imports `schemas` and pydantic only; no IO, no clock.
"""

from .delivery import Batch, Delivery, Drop, Postpone, Redelivery, Unavailable, Undeliverable
from .durations import Duration, parse_duration
from .event_types import EventTypes
from .facts import (
    TOTAL_TIMEOUT,
    ErrorCategory,
    EventError,
    TaskResult,
    Timing,
    error_of,
    exception_of,
    metric_name_of,
    result_of,
    tags_of,
    timing_of,
)
from .filters import FILTER_ATTRIBUTES, F, Filter, parse_filter
from .handlers import Handler, on, type_matches
from .meta import Meta
from .state import State
from .subscriber import Subscriber, SubscriberContext, SubscriberSettings, subscriber

__all__ = [
    "FILTER_ATTRIBUTES",
    "TOTAL_TIMEOUT",
    "Batch",
    "Delivery",
    "Drop",
    "Duration",
    "ErrorCategory",
    "EventError",
    "EventTypes",
    "F",
    "Filter",
    "Handler",
    "Meta",
    "Postpone",
    "Redelivery",
    "State",
    "Subscriber",
    "SubscriberContext",
    "SubscriberSettings",
    "TaskResult",
    "Timing",
    "Unavailable",
    "Undeliverable",
    "error_of",
    "exception_of",
    "metric_name_of",
    "on",
    "parse_duration",
    "parse_filter",
    "result_of",
    "subscriber",
    "tags_of",
    "timing_of",
    "type_matches",
]
