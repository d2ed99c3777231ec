"""Decides which of the selected events get to their handler: the sample, the maximum age, and the policy for replays.

By type, key and timestamp of the record alone: an event that is left out is acknowledged, but not decoded.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b

from .config import SubscriberPlan
from .decoding import type_of
from .policies import HASH_VALUES, Policies
from .selection import Malformed
from .status import Counters
from .window import Item


def wall_ms() -> int:
    """Milliseconds since the epoch, by the clock of the machine."""
    return int(datetime.now(UTC).timestamp() * 1000)


def sample_hash(key: bytes | None) -> int:
    """A number below HASH_VALUES for the key of a record, which is the id of the root (BLAKE2b: RFC 7693)."""
    return int.from_bytes(blake2b(key or b"", digest_size=8).digest())


class Admission:
    """The decision for one subscriber. Used in the subscriber's loop, because it acknowledges."""

    def __init__(self, plan: SubscriberPlan, policies: Policies, counters: Counters, now_ms: Callable[[], int]) -> None:
        self._policies, self._counters, self._now_ms = policies, counters, now_ms
        self._skips = plan.replay and plan.delivery.replay == "skip"

    def admit(self, items: list[Item]) -> list[Item]:
        """The items to deliver, with their policies; the others are acknowledged."""
        return [item for item in items if self._admits(item)]

    def _admits(self, item: Item) -> bool:
        policy = item.policy = self._policies.of(type_of(item.record))
        if self._skips:
            self._counters.replays_skipped += 1
        elif isinstance(item.route, Malformed):
            return True
        elif policy.keep_below < HASH_VALUES and sample_hash(item.key) >= policy.keep_below:
            self._counters.sampled += 1
        else:
            return not self.leaves_out(item)
        item.finish()
        return False

    def leaves_out(self, item: Item) -> bool:
        """Whether the event is too old by now; it is then acknowledged."""
        policy = item.policy
        if policy is None or policy.age_ms_max is None or self._now_ms() - item.timestamp_ms <= policy.age_ms_max:
            return False
        self._counters.too_old += 1
        item.finish()
        return True
