"""What can be seen of a subscriber from outside: counters that one thread writes, and a snapshot of them."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["starting", "waiting", "running", "blocked", "reconnecting", "failed", "stopped"]
"""starting: importing, opening, joining; waiting: the topic does not exist yet; running; blocked: its code has held its thread
for seconds; reconnecting: the broker is unreachable; failed: import or open raised, tried again later; stopped: by on_error =
"stop", or the service has ended."""


@dataclass(slots=True)
class Counters:
    """Since the process began. Written by the subscriber's thread alone (but `filtered` and `gaps`: by the feed)."""

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
    """One subscriber now.

    `lag`: offsets between what is acknowledged and the end of the log (transaction markers count too). `filtered`: records
    that it did not want. `malformed`: records that are not events; they are among `dead_lettered` or `skipped`. `gaps`: times
    that the log no longer held the place where it wanted to continue. `restarts`: of its code after a failure; `reconnects`: of
    its consumer. `error`: the latest, as a sentence.
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
        """The same as plain JSON types."""
        return asdict(self)
