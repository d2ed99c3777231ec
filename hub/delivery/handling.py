"""Processes the events of a lane: decodes them, calls the handler, and acknowledges or retries them."""

import logging

from schemas import Event, MalformedEvent, decode_event
from subscribers import Drop, Handler, Meta, Postpone

from .calls import Calls, Slot
from .config import SubscriberPlan
from .failures import Failures
from .flushing import Flushing
from .lanes import Lane
from .selection import Malformed
from .status import Counters
from .window import Item


class Handling:
    """See the module. Does not raise exceptions of handlers. `flushing` is None for a sink that does not buffer."""

    def __init__(
        self,
        plan: SubscriberPlan,
        calls: Calls,
        failures: Failures,
        flushing: Flushing | None,
        counters: Counters,
        logger: logging.Logger,
    ) -> None:
        self._plan = plan
        self._call = calls.call
        self._failures = failures
        self._flushing = flushing
        self._counters, self._log = counters, logger
        self._handlers: dict[str, Handler | None] = {}

    async def step(self, slot: Slot, lane: Lane) -> float | None:
        """Handle the first event or batch of the lane. Returns the delay before it must be retried, in seconds; None if it is
        finished."""
        if lane.batch is None:
            item = lane.items[0]
            part = [item]
        else:
            if not lane.parts:
                lane.parts.append([lane.items.popleft() for _ in range(min(lane.batch.max, len(lane.items)))])
            part = lane.parts[0]
        if part[0].session.revoked:
            _done(lane)
            return None
        try:
            if lane.batch is None:
                await self._handle_one(slot, item)
            else:
                await self._handle_batch(slot, lane, part)
                part = lane.parts[0]
        except Postpone as wish:
            self._counters.postponed += len(part)
            return wish.after_seconds
        except Drop as wish:
            self._counters.dropped += len(part)
            self._log.info("dropped %d event(s): %s", len(part), wish.reason, extra={"action": "events_dropped"})
        except Exception as error:
            part = lane.parts[0] if lane.batch is not None else part
            return await self._failed(lane, part, error)
        else:
            self._counters.delivered += len(part)
            if self._flushing is not None:
                self._flushing.add(part)
                _done(lane)
                return None
        for item in part:
            item.finish()
        _done(lane)
        return None

    async def _handle_one(self, slot: Slot, item: Item) -> None:
        route = item.route
        if not isinstance(route, Handler):
            raise MalformedEvent("header ce_type is missing" if isinstance(route, Malformed) else "no route")
        event = self._decode(item)
        given = event if route.whole else event.data
        if route.takes_meta:
            await self._call(slot, route, given, Meta(event, item.partition, item.offset, item.failures + 1))
        else:
            await self._call(slot, route, given)

    def _decode(self, item: Item) -> Event:
        """Decode a record. Raises MalformedEvent, also if its type belongs to another handler than its header."""
        event = decode_event(item.value, item.headers)
        try:
            handler = self._handlers[event.type]
        except KeyError:
            handler = self._handlers[event.type] = self._plan.plugin.handler_of(event.type)
        if handler is not item.route:
            raise MalformedEvent("header ce_type occurs more than once, with different types")
        return event

    async def _handle_batch(self, slot: Slot, lane: Lane, part: list[Item]) -> None:
        """Decode all records, dead-letter those that are not events, call the handler with the others (the lane's first part)."""
        route = part[0].route
        assert isinstance(route, Handler)
        decoded, sound = [], []
        for item in part:
            try:
                event = self._decode(item)
            except MalformedEvent as error:
                await self._failures.set_aside(item, error)
                continue
            sound.append(item)
            decoded.append((event, Meta(event, item.partition, item.offset, item.failures + 1)))
        lane.parts[0] = sound
        if not sound:
            return
        events = [event if route.whole else event.data for event, _ in decoded]
        if route.takes_meta:
            await self._call(slot, route, events, [meta for _, meta in decoded])
        else:
            await self._call(slot, route, events)

    async def _failed(self, lane: Lane, part: list[Item], error: Exception) -> float | None:
        """Handle an error of a handler. Returns the delay before a retry, in seconds; None if `part` is finished."""
        failures = self._failures
        failures.note(part, error)
        delay = failures.redelivery_delay(part, error)
        if delay is not None:
            return delay
        if len(part) > 1:  # a batch: halve it until the failing event is isolated
            lane.parts.popleft()
            lane.parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            return 0.0
        if isinstance(error, MalformedEvent):
            await failures.set_aside(part[0], error)
        elif not await failures.give_up(part[0], error):
            return 0.0
        _done(lane)
        return None


def _done(lane: Lane) -> None:
    """Remove the first event or batch of the lane."""
    if lane.batch is None:
        lane.items.popleft()
    else:
        lane.parts.popleft()
