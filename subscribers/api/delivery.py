"""Declarations of how events are delivered, and the exceptions by which a handler postpones or drops an event."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .durations import Duration, parse_duration


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Redelivery(_Declared):
    """Backoff after failures: `initial`, doubled after each failure, at most `max`. No more attempts when `timeout` has passed
    since the first failure. Durations: see `parse_duration`."""

    initial: Duration = 1.0
    max: Duration = 60.0
    timeout: Duration = "1h"

    def delay_seconds(self, failures: int) -> float:
        """The delay after the given number of consecutive failures (from 1), in seconds, without jitter."""
        initial, longest = parse_duration(self.initial), parse_duration(self.max)
        return min(longest, initial * 2.0 ** min(failures - 1, 60))

    @property
    def timeout_seconds(self) -> float:
        """The time after the first failure when no more attempts are made, in seconds."""
        return parse_duration(self.timeout)


class Delivery(_Declared):
    """The delivery policy of a subscriber. The configuration may override each field, per instance.

    `order`: events of one "task" are handled one after the other (default); or of one "root" (a workflow and all its steps); or
    of one "partition" of the log. `concurrency`: maximum number of concurrent handlers, each for another task. `timeout` of one
    call of a handler. `on_error`, after the last retry: "dlq" writes the event to `hub.dlq.<id>`, "skip" logs it and continues,
    "stop" stops the subscriber before this event. A record that is not an event is dead-lettered or skipped without retries, also
    with "stop". `in_flight_max`, `in_flight_bytes_max`: limits of events that are not acknowledged yet; reading pauses at either.
    """

    order: Literal["task", "root", "partition"] = "task"
    concurrency: int = Field(default=1, ge=1, le=1024)
    retry: Redelivery = Redelivery()
    on_error: Literal["dlq", "skip", "stop"] = "dlq"
    timeout: Duration = "30s"
    in_flight_max: int = Field(default=2000, ge=1)
    in_flight_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1)

    @property
    def timeout_seconds(self) -> float:
        """The timeout of one call of a handler, in seconds."""
        return parse_duration(self.timeout)


class Batch(_Declared):
    """A handler gets up to `max` events at once; fewer if `linger` has passed since the arrival of the first."""

    max: int = Field(default=100, ge=1)
    linger: Duration = "1s"

    @property
    def linger_seconds(self) -> float:
        """The maximum time that the first event of a batch waits for others, in seconds."""
        return parse_duration(self.linger)


class Postpone(Exception):
    """Raised by a handler to request redelivery of the event after `after`, a duration; not counted as a failure. Later events of
    the same task wait for it. Raises ValueError if `after` is not a duration."""

    def __init__(self, after: float | str) -> None:
        super().__init__(f"postponed by {after}")
        self.after_seconds = parse_duration(after)


class Drop(Exception):
    """Raised by a handler to acknowledge the event without processing it. It is counted as dropped, and the reason is logged."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
