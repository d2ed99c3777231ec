"""How events are delivered: what a subscriber declares, and what a handler raises to say what shall follow."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .durations import Duration, parse_duration


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Redelivery(_Declared):
    """Backoff after a failure: `initial` seconds, doubled each time, at most `max`; given up `timeout` after the first."""

    initial: Duration = 1.0
    max: Duration = 60.0
    timeout: Duration = "1h"

    def delay_seconds(self, failures: int) -> float:
        """The wait after the `failures`-th failure in a row (from 1), without jitter."""
        initial, longest = parse_duration(self.initial), parse_duration(self.max)
        return min(longest, initial * 2.0 ** min(failures - 1, 60))

    @property
    def timeout_seconds(self) -> float:
        """Seconds from the first failure after which no further try is made."""
        return parse_duration(self.timeout)


class Delivery(_Declared):
    """What the runtime promises a subscriber. Configuration may override any field, per instance.

    `order`: events of one "task" come one after the other (default); of one "root" (a workflow and all its steps); or of one
    "partition" of the log. `concurrency`: how many handlers run side by side (each for another task). `timeout`: how long one
    call of a handler may take. `on_error`, after the last retry: "dlq" writes the event to `hub.dlq.<id>`, "skip" logs it
    and continues, "stop" halts the subscriber before that event. A record that is not an event is dead-lettered or skipped
    without retries, also where `on_error` is "stop". `in_flight_max`, `in_flight_bytes_max`: handed over and not yet
    acknowledged; beyond either, reading pauses.
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
        """Seconds that one call of a handler may take."""
        return parse_duration(self.timeout)


class Batch(_Declared):
    """A handler takes up to `max` events at once; fewer when `linger` has passed since the first of them arrived."""

    max: int = Field(default=100, ge=1)
    linger: Duration = "1s"

    @property
    def linger_seconds(self) -> float:
        """Seconds that the first event of a batch waits for others."""
        return parse_duration(self.linger)


class Postpone(Exception):
    """Raised by a handler: not now; hand me this event again `after` seconds. Later events of the same task wait for it."""

    def __init__(self, after: float | str) -> None:
        super().__init__(f"postponed by {after}")
        self.after_seconds = parse_duration(after)


class Drop(Exception):
    """Raised by a handler: this event is of no use; acknowledge it and count it as dropped, with the reason."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
