"""The counters of a subscriber, and a snapshot of its status."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["starting", "waiting", "running", "blocked", "reconnecting", "failed", "stopped"]
"""starting: import, `open`, joining the group; waiting: the topic does not exist yet; running; blocked: its code has blocked its
thread for seconds; reconnecting: the broker is unreachable; failed: import or `open` raised and is retried later; stopped: by
on_error = "stop", or the service has ended."""


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


@dataclass(frozen=True, slots=True)
class SubscriberStatus:
    """The present status of one subscriber.

    `lag`: offsets between the acknowledged ones and the end of the log (transaction markers count, too). `filtered`: records that
    it does not handle. `malformed`: records that are not events; they are included in `dead_lettered` or `skipped`. `gaps`: how
    often its committed offset was no longer in the log. `restarts`: of its code after a failure; `reconnects`: of its consumer.
    `error`: the latest error message.
    """

    id: str
    use: str
    state: State
    partitions: tuple[int, ...]
    lag: int
    in_flight: int
    delivered: int
    retried: int
    postponed: int
    dropped: int
    skipped: int
    dead_lettered: int
    timed_out: int
    filtered: int
    gaps: int
    malformed: int
    restarts: int
    reconnects: int
    error: str | None

    def as_dict(self) -> dict[str, Any]:
        """The status as plain JSON types."""
        return asdict(self)
