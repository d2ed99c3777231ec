"""The counters of a subscriber, and a snapshot of its status."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

State = Literal["starting", "waiting", "running", "unavailable", "blocked", "reconnecting", "paused", "failed", "stopped"]
"""starting: import, `open`, joining the group; waiting: the topic does not exist yet; running;
unavailable: the destination, or an endpoint of it, is unavailable, and the handlers for it wait (see `outages`); blocked: its
code has blocked its thread for seconds; reconnecting: the broker is unreachable; paused: by an operator, until it is resumed;
failed: import or `open` raised, or its process ended, and it is retried later; stopped: by on_error = "stop", or the service has
ended."""


class OutageStatus(TypedDict):
    """One outage: the endpoint ("" for the whole subscriber), the reason of the latest error, since when (RFC 3339, UTC), and the
    number of failed attempts."""

    endpoint: str
    reason: str
    since: str
    attempts: int


@dataclass(slots=True)
class Counters:
    """Counters since the start of the process. Written by the subscriber's thread only; `filtered` and `gaps` by the feed."""

    delivered: int = 0
    retried: int = 0
    postponed: int = 0
    dropped: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    timed_out: int = 0
    filtered: int = 0
    gaps: int = 0
    malformed: int = 0
    sampled: int = 0
    too_old: int = 0
    replays_skipped: int = 0
    rate_limited: int = 0
    outages: tuple[OutageStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class SubscriberStatus:
    """The present status of one subscriber.

    `lag`: offsets between the acknowledged ones and the end of the log (transaction markers count, too). `lag_seconds`: age of
    the oldest event that was read and is not acknowledged; None while no partition is assigned. `filtered`: records that
    it does not handle. `malformed`: records that are not events; they are included in `dead_lettered` or `skipped`. `gaps`: how
    often its committed offset was no longer in the log. `sampled` (not in the sample), `too_old`, `replays_skipped`: events that
    were acknowledged without the handler. `rate_limited`: number of tasks (with a batch handler: 1) whose next event waits at
    present because of a rate. `outages`: those of the present. `restarts`: of its code after a failure; `reconnects`: of its
    consumer. `error`: the latest error message.
    """

    id: str
    use: str
    state: State
    partitions: tuple[int, ...] = ()
    lag: int = 0
    in_flight: int = 0
    delivered: int = 0
    retried: int = 0
    postponed: int = 0
    dropped: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    timed_out: int = 0
    filtered: int = 0
    gaps: int = 0
    malformed: int = 0
    restarts: int = 0
    reconnects: int = 0
    error: str | None = None
    sampled: int = 0
    too_old: int = 0
    replays_skipped: int = 0
    rate_limited: int = 0
    outages: tuple[OutageStatus, ...] = ()
    lag_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The status as plain JSON types."""
        return asdict(self)
