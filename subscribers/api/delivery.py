"""Declarations of how events are delivered, and the exceptions by which a handler postpones or drops an event."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .durations import Duration, parse_duration
from .rates import Rate, RateText


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

    `sample`: the share of workflows whose events are delivered, from 0 to 1. It is decided by a hash of the root's id, so that a
    workflow is kept or left out whole, and equally by all subscribers with the same share. Failures are always kept: types whose
    severity in the catalogue is error, and `*.failed`. `max_event_age`: events that are older (by the timestamp of their record)
    are acknowledged without the handler. `replay`: "skip" does the same with the events of a replay (`meta.replay`).

    `rate`: how often handlers are called at most, such as "5/s", "100/m" or "1000/h", in each process; retries count, and a batch
    counts once. Events wait, none is left out. No more than a second's worth of calls, or one call, is made at once. `priority`:
    event types, in which `*` matches any text, that are handled first when several tasks have events in flight. Order is not
    affected: earlier events of the same task (root, partition, batch handler) are handled before them, with the same priority.

    `sample`, `rate`, `max_event_age`, `timeout` and `priority` (true or false) can be configured per event type, in the table
    `types` of a subscriber: for each field, the most specific pattern that has it applies. A rate of a type is a limit for the
    types of its pattern together, in addition to that of the subscriber. A batch gets the longest timeout of its events.

    Outages: a handler that raises `Unavailable` stops the calls of handlers. After 1 s, and then after twice the delay each time,
    up to 60 s (at most a tenth longer, and not before `retry_after`), one handler is called as a probe. The outage ends when it
    returns, or raises `Undeliverable`. With an `endpoint`, only the tasks whose handlers raised for this endpoint wait, and one
    of them is the probe. `flush` may raise `Unavailable`, too; it is then its own probe. The time of an outage does not count for
    `retry.timeout`: no event is dead-lettered because of it. Reading pauses at the limits of events in flight.
    """

    order: Literal["task", "root", "partition"] = "task"
    concurrency: int = Field(default=1, ge=1, le=1024)
    retry: Redelivery = Redelivery()
    on_error: Literal["dlq", "skip", "stop"] = "dlq"
    timeout: Duration = "30s"
    in_flight_max: int = Field(default=2000, ge=1)
    in_flight_bytes_max: int = Field(default=32 * 1024 * 1024, ge=1)
    sample: float = Field(default=1.0, ge=0, le=1)
    rate: RateText | None = None
    priority: tuple[str, ...] = ()
    max_event_age: Duration | None = None
    replay: Literal["deliver", "skip"] = "deliver"

    @property
    def timeout_seconds(self) -> float:
        """The timeout of one call of a handler, in seconds."""
        return parse_duration(self.timeout)

    @property
    def calls_max(self) -> Rate | None:
        """The maximum rate of calls; None for no limit."""
        return None if self.rate is None else Rate.parse(self.rate)

    @property
    def max_event_age_seconds(self) -> float | None:
        """The maximum age of an event, in seconds; None for no limit."""
        return None if self.max_event_age is None else parse_duration(self.max_event_age)


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


class Unavailable(Exception):
    """Raised by a handler when the destination cannot take events at present: it cannot be reached, it fails, or it limits the
    rate. The event is redelivered; `retry_after`: the earliest time of that, a duration, as the destination asked for it.

    `endpoint` names the destination if a subscriber has several. Not a failure of the event: see `Delivery`, "outages". Raises
    ValueError if `retry_after` is not a duration."""

    def __init__(self, reason: str, *, retry_after: float | str | None = None, endpoint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = None if retry_after is None else parse_duration(retry_after)
        self.endpoint = endpoint


class Undeliverable(Exception):
    """Raised by a handler when the destination rejects the event itself, so that another attempt is useless: `on_error` applies
    at once. In a batch handler: the batch is halved until the rejected events are isolated."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
