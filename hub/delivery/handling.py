"""Processes the events of a lane: decodes them, calls the handler, and acknowledges or retries them."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from schemas import Event, MalformedEvent
from schemas.tracing import context_of_event
from subscribers import Drop, Handler, Meta, Postpone, Unavailable, Undeliverable

from ..logs import LOG_SCOPE
from .admission import Admission
from .calls import INTERRUPTIONS, Calls, Slot, start
from .config import SubscriberPlan
from .current_events import CurrentEvents
from .decoding import event_of
from .failures import Failures
from .flushing import Flushing
from .lane import Lane
from .lanes import Lanes
from .outages import Outages
from .status import Counters
from .window import Item

ABOUT_ITSELF = "it is about this subscriber itself: a failure to handle it would cause the next one"

_BoundHandler = tuple[Handler, Callable[..., Any], bool, bool, bool]
"""A handler, its method, and its fields `whole`, `takes_meta` and `is_async`."""


class Handling:
    """See the module. Does not raise exceptions of handlers. `flushing` is None for a sink that does not buffer, `admission` if
    all events are treated alike, `current` outside of a process of its own: there it has the events that are being handled."""

    def __init__(
        self,
        plan: SubscriberPlan,
        lanes: Lanes,
        calls: Calls,
        failures: Failures,
        outages: Outages,
        flushing: Flushing | None,
        admission: Admission | None,
        current: CurrentEvents | None,
        counters: Counters,
        logger: logging.Logger,
    ) -> None:
        self._plan = plan
        self._own = f"subscriber/{plan.config.id}"
        self._lanes, self._calls = lanes, calls
        self._failures, self._outages = failures, outages
        self._flushing, self._admission, self._current = flushing, admission, current
        self._counters, self._log = counters, logger
        self._bound: dict[str, _BoundHandler] = {}

    async def step(self, slot: Slot, lane: Lane) -> float | None:
        """Handle the first event or batch of the lane; after a single event (see `lanes`) also those that follow it, until the
        slice of the worker ends. Returns the delay before the last one must be retried, in seconds (infinite: see
        `Outages.note`); None if it is finished."""
        if lane.batch is not None:
            return await self._step_with_batch(slot, lane)
        current, calls, decode = self._current, self._calls, self._decode
        while True:
            item = lane.items[0]
            if item.session.revoked or (self._admission is not None and not self._prepare(slot, lane)):
                lane.remove_part()
                return None
            if current is not None:
                current.begin(slot.number, (item,))
            try:
                event, (route, method, whole, takes_meta, is_async) = decode(item)
                given = event if whole else event.data
                scope, began = LOG_SCOPE.set(partial(_log_fields, event)), slot.begin()
                try:  # as in `Calls.call`, which would take a coroutine more
                    result = method(given, self._meta(event, item)) if takes_meta else method(given)
                    if is_async and (rest := start(result)) is not None:
                        self._lanes.keep(lane)
                        await rest
                except INTERRUPTIONS as error:
                    raise calls.failure(slot, route, error) from error.__cause__
                finally:
                    calls.end(slot, began)
                    LOG_SCOPE.reset(scope)
            except Exception as error:
                return await self._not_handled(lane, [item], error)
            finally:
                if current is not None:
                    current.end(slot.number)
            if lane.probes:
                self._outages.end(lane)
            self._counters.delivered += 1
            if self._flushing is None:
                item.finish()
            else:
                self._flushing.add([item])
            lane.remove_part()
            if lane.place != "single" or slot.is_slice_over or not self._lanes.refill(lane):
                return None

    async def _step_with_batch(self, slot: Slot, lane: Lane) -> float | None:
        part = lane.next_part()
        if part[0].session.revoked or (self._admission is not None and not self._prepare(slot, lane)):
            lane.remove_part()
            return None
        if (current := self._current) is not None:
            current.begin(slot.number, lane.parts[0])
        try:
            await self._handle_batch(slot, lane, lane.parts[0])
            part = lane.parts[0]
        except Exception as error:
            return await self._not_handled(lane, part, error)
        finally:
            if current is not None:
                current.end(slot.number)
        if lane.probes and part:
            self._outages.end(lane)
        self._counters.delivered += len(part)
        if self._flushing is None:
            for item in part:
                item.finish()
        else:
            self._flushing.add(part)
        lane.remove_part()
        return None

    async def _not_handled(self, lane: Lane, part: list[Item], error: Exception) -> float | None:
        """What `step` returns after an exception."""
        self._lanes.keep(lane)
        if isinstance(error, Postpone):
            self._counters.postponed += len(part)
            return error.after_seconds
        if isinstance(error, Drop):
            self._drop(lane, error.reason)
            return None
        return await self._failed(lane, lane.next_part(), error)

    def _drop(self, lane: Lane, reason: str) -> None:
        part = lane.next_part()
        self._counters.dropped += len(part)
        self._log.info("dropped %d event(s): %s", len(part), reason, extra={"action": "events_dropped"})
        for item in part:
            item.finish()
        lane.remove_part()

    def _prepare(self, slot: Slot, lane: Lane) -> bool:
        """Leave out events of the next part that are too old by now, and set the timeout. False if none is left."""
        assert self._admission is not None
        part = [item for item in lane.next_part() if not self._admission.leaves_out(item)]
        if lane.batch is not None:
            lane.parts[0] = part
        if not part:
            return False
        slot.set_timeout(max(item.policy.timeout_seconds for item in part if item.policy is not None))
        return True

    def _meta(self, event: Event, item: Item) -> Meta:
        return Meta(event, item.partition, item.offset, item.failures + 1, replay=self._plan.replay)

    def _decode(self, item: Item) -> tuple[Event, _BoundHandler]:
        """Decode a record. Raises MalformedEvent, also if its type belongs to another handler than its header, and Drop."""
        event = event_of(item.record)
        bound = self._bound.get(event.type) or self._bind(event.type)
        if bound[0] is not item.route:
            raise MalformedEvent("header ce_type occurs more than once, with different types")
        if event.entity == self._own:
            raise Drop(ABOUT_ITSELF)
        return event, bound

    def _bind(self, event_type: str) -> _BoundHandler:
        route = self._plan.plugin.handler_of(event_type)
        if route is None:
            raise MalformedEvent(f"no handler for events of type {event_type}")
        method = self._calls.methods[route.method]
        bound = self._bound[event_type] = (route, method, route.whole, route.takes_meta, route.is_async)
        return bound

    async def _handle_batch(self, slot: Slot, lane: Lane, part: list[Item]) -> None:
        """Decode all records, dead-letter those that are not events, call the handler with the others (the lane's first part)."""
        route = part[0].route
        assert isinstance(route, Handler)
        decoded, sound = [], []
        for item in part:
            if item.done:  # dead-lettered before another one could not be
                continue
            try:
                event, _ = self._decode(item)
            except MalformedEvent as error:
                await self._failures.set_aside(item, error)
                continue
            except Drop:
                self._counters.dropped += 1
                item.finish()
                continue
            sound.append(item)
            decoded.append((event, self._meta(event, item)))
        lane.parts[0] = sound
        if not sound:
            return
        events = [event if route.whole else event.data for event, _ in decoded]
        if route.takes_meta:
            await self._calls.call(slot, route, events, [meta for _, meta in decoded])
        else:
            await self._calls.call(slot, route, events)

    async def _failed(self, lane: Lane, part: list[Item], error: Exception) -> float | None:
        """Handle an error of a handler. Returns the delay before a retry, in seconds; None if `part` is finished."""
        failures = self._failures
        if isinstance(error, Unavailable):
            failures.error = f"the destination is unavailable: {error.reason}"
            return self._outages.note(lane, error)
        failures.note(part, error)
        if isinstance(error, Undeliverable):
            self._outages.end(lane)
        elif (delay := failures.redelivery_delay(part, error)) is not None:
            self._outages.count(part, delay)
            return delay
        if len(part) > 1:  # a batch: halve it until the failing event is isolated
            lane.parts.popleft()
            lane.parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            return 0.0
        if isinstance(error, MalformedEvent):
            await failures.set_aside(part[0], error)
        elif not await failures.give_up(part[0], error):
            return 0.0
        lane.remove_part()
        return None


def _log_fields(event: Event) -> dict[str, object]:
    """The fields of log records (`hub.logs.LOG_SCOPE`) while one event is handled."""
    if event.taskname is None:
        return {"event_id": event.id, "correlation_id": event.correlationid}
    root = event.rootid or event.subject
    return {
        "event_id": event.id,
        "task": event.subject,
        "root": root,
        "attempt": getattr(event.data, "attempt", None) or None,
        "correlation_id": event.correlationid or root,
        "trace_id": context_of_event(event).trace,
    }
