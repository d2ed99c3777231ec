"""What becomes of events whose handler raised: another try, a dead letter, a skip, or the end of the subscriber."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from schemas import MalformedEvent

from ..errors import HubError
from ..throttle import LogThrottle
from .config import SubscriberPlan
from .status import Counters
from .window import Item

JITTER = 0.1


class StoppedByPolicy(HubError):
    """An event could not be delivered and the subscriber's policy is to stop before it."""


class DeadLetterSink(Protocol):
    """Where events go that could not be delivered. Returns when the event is safe there; callable from any loop."""

    async def put(self, plan: SubscriberPlan, item: Item) -> None: ...


class Failures:
    """The policy of one subscriber. `error` is what happened last; `on_fatal` is called where the policy is to stop."""

    def __init__(
        self,
        plan: SubscriberPlan,
        sink: DeadLetterSink,
        counters: Counters,
        on_fatal: Callable[[Exception], None],
        logger: logging.Logger,
    ) -> None:
        self.error: str | None = None
        self._plan, self._sink, self._counters = plan, sink, counters
        self._on_fatal, self._log = on_fatal, logger
        self._loop = asyncio.get_running_loop()
        self._throttle = LogThrottle()

    def note(self, part: list[Item], error: Exception) -> None:
        """A handler raised `error` for each of `part`."""
        self.error = f"{type(error).__name__}: {error}"
        now = self._loop.time()
        for item in part:
            item.failures += 1
            item.error = error
            if item.failures == 1:
                item.first_failure_at = now
                item.wall_first_failure = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def redelivery_delay(self, part: list[Item], error: Exception) -> float | None:
        """Seconds after which to try `part` again; None when its time is over, and for what is not an event."""
        retry, first = self._plan.delivery.retry, part[0]
        delay = retry.delay_seconds(first.failures) * (1 + JITTER * random.random())
        if isinstance(error, MalformedEvent) or self._loop.time() + delay - first.first_failure_at > retry.timeout_seconds:
            return None
        self._counters.retried += len(part)
        self._log.warning(
            "try %d of %s failed, again in %.1f s: %s", first.failures, _place(part), delay, self.error,
            exc_info=error if first.failures == 1 else None, extra={"action": "event_retried"},
        )  # fmt: skip
        return delay

    async def give_up(self, item: Item, error: Exception) -> bool:
        """The policy for an event that cannot be delivered. False: the subscriber stops before it."""
        policy = self._plan.delivery.on_error
        item.error = error
        item.failures = max(item.failures, 1)
        self.error = f"{type(error).__name__}: {error}"
        if policy == "stop":
            self._on_fatal(StoppedByPolicy(f"{_place([item])} could not be delivered: {self.error}"))
            return False
        await self._leave_out(item)
        self._log.error(
            "gave up on %s after %d tries (%s): %s",
            _place([item]),
            item.failures,
            policy,
            self.error,
            extra={"action": "event_given_up"},
        )
        item.finish()
        return True

    async def set_aside(self, item: Item, error: Exception) -> None:
        """A record that is not an event: nobody could deliver it, so it goes to the dead letters, or it is skipped where there
        are none. It never stops a subscriber, and its log lines are limited."""
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
