"""Handles events whose handler raised: a retry, a dead letter, a skip, or the end of the subscriber."""

import logging
import random
from collections.abc import Callable
from typing import Protocol

from schemas import MalformedEvent

from ..errors import HubError
from ..throttle import LogThrottle
from .config import SubscriberPlan
from .status import Counters
from .times import utc_now
from .window import Item

JITTER = 0.1


class StoppedByPolicy(HubError):
    """An event could not be delivered, and the subscriber has on_error = "stop"."""


class DeadLetterSink(Protocol):
    """Stores events that could not be delivered. `put` returns when the event is stored; callable from any loop."""

    async def put(self, plan: SubscriberPlan, item: Item) -> None: ...


class Failures:
    """Applies the policy of one subscriber. `error`: the latest error; `clock`: the time for `retry.timeout`, in seconds;
    `on_fatal` is called if the policy is to stop."""

    def __init__(
        self,
        plan: SubscriberPlan,
        sink: DeadLetterSink,
        counters: Counters,
        clock: Callable[[], float],
        on_fatal: Callable[[Exception], None],
        logger: logging.Logger,
    ) -> None:
        self.error: str | None = None
        self._plan, self._sink, self._counters = plan, sink, counters
        self._on_fatal, self._log = on_fatal, logger
        self._clock = clock
        self._throttle = LogThrottle()

    def note(self, part: list[Item], error: Exception) -> None:
        """Record that a handler raised `error` for the events in `part`."""
        self.error = f"{type(error).__name__}: {error}"
        now = self._clock()
        for item in part:
            item.failures += 1
            item.error = error
            if item.failures == 1:
                item.first_failure_at = now
                item.wall_first_failure = utc_now()

    def redelivery_delay(self, part: list[Item], error: Exception) -> float | None:
        """The delay before the next attempt, in seconds; None if the retry timeout has passed, or if a record is not an event."""
        retry, first = self._plan.delivery.retry, part[0]
        delay = retry.delay_seconds(first.failures) * (1 + JITTER * random.random())
        if isinstance(error, MalformedEvent) or self._clock() + delay - first.first_failure_at > retry.timeout_seconds:
            return None
        self._counters.retried += len(part)
        self._log.warning(
            "attempt %d of %s failed, retrying in %.1f s: %s", first.failures, _place(part), delay, self.error,
            exc_info=error if first.failures == 1 else None, extra={"action": "event_retried"},
        )  # fmt: skip
        return delay

    async def give_up(self, item: Item, error: Exception) -> bool:
        """Apply the policy to an event that cannot be delivered. False if the subscriber stops before this event."""
        policy = self._plan.delivery.on_error
        item.error = error
        item.failures = max(item.failures, 1)
        self.error = f"{type(error).__name__}: {error}"
        if policy == "stop":
            self._on_fatal(StoppedByPolicy(f"{_place([item])} could not be delivered: {self.error}"))
            return False
        await self._leave_out(item)
        self._log.error(
            "gave up on %s after %d attempts (%s): %s",
            _place([item]),
            item.failures,
            policy,
            self.error,
            extra={"action": "event_given_up"},
        )
        item.finish()
        return True

    async def set_aside(self, item: Item, error: Exception) -> None:
        """Write a record that is not an event to the dead letters, or skip it unless on_error = "dlq". Never stops the
        subscriber; logged at a limited rate."""
        item.error = error
        item.failures = max(item.failures, 1)
        self._counters.malformed += 1
        await self._leave_out(item)
        more = self._throttle.admit("malformed")
        if more is not None:
            self.error = f"{_place([item])} is not an event: {error}"
            self._log.error("%s (and %d more since the last such line)", self.error, more, extra={"action": "event_malformed"})
        item.finish()

    async def _leave_out(self, item: Item) -> None:
        if self._plan.delivery.on_error == "dlq":
            await self._sink.put(self._plan, item)
            self._counters.dead_lettered += 1
        else:
            self._counters.skipped += 1


def _place(part: list[Item]) -> str:
    first = part[0]
    return f"{first.partition}/{first.offset}" if len(part) == 1 else f"{first.partition}/{first.offset} and {len(part) - 1} more"
