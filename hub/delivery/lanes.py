"""Order within one subscriber: a lane per task (or root, partition, batch handler), processed by one worker at a time.

Used in the subscriber's loop. A lane is in exactly one state (`place`): queued, held by a worker, waiting for a retry, or
gathering a batch.
"""

import asyncio
from collections import deque
from collections.abc import Hashable

from subscribers import Batch, Handler

from .window import Item


class Lane:
    """Events that must be handled one after the other; with a batch handler, several at once."""

    __slots__ = ("batch", "items", "key", "parts", "place", "timer")

    def __init__(self, key: Hashable, batch: Batch | None) -> None:
        self.key = key
        self.batch = batch
        self.items: deque[Item] = deque()
        self.parts: deque[list[Item]] = deque()
        self.place = "new"
        self.timer: asyncio.TimerHandle | None = None


class Lanes:
    """All lanes of a subscriber, and the queue of those that are due."""

    def __init__(self, order: str, loop: asyncio.AbstractEventLoop) -> None:
        self._order = order
        self._loop = loop
        self._lanes: dict[Hashable, Lane] = {}
        self._queue: deque[Lane] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()

    def add(self, items: list[Item]) -> None:
        """Add each item to its lane; wake workers."""
        lanes, by_partition, by_root = self._lanes, self._order == "partition", self._order == "root"
        for item in items:
            route = item.route
            batch = route.batch if isinstance(route, Handler) else None
            key: Hashable
            if batch is not None:
                key = route
            elif by_partition:
                key = item.partition
            elif by_root:
                key = item.key
            else:
                key = _subject(item)
            lane = lanes.get(key)
            if lane is None:
                lane = lanes[key] = Lane(key, batch)
            lane.items.append(item)
            if lane.place in ("new", "gathering"):
                self._offer(lane)

    def _offer(self, lane: Lane) -> None:
        """Queue a new lane; a batch that is not full gathers events first."""
        if lane.batch is not None and not lane.parts and len(lane.items) < lane.batch.max:
            if lane.timer is None:
                lane.place = "gathering"
                lane.timer = self._loop.call_later(lane.batch.linger_seconds, self.queue, lane)
            return
        self.queue(lane)

    def queue(self, lane: Lane) -> None:
        """Queue a lane for the next free worker."""
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        lane.place = "queued"
        self._queue.append(lane)
        self._wake()

    def later(self, lane: Lane, seconds: float) -> None:
        """Release a lane that must be retried after `seconds`."""
        if self._lanes.get(lane.key) is not lane:  # its session has ended
            return
        lane.place = "waiting"
        lane.timer = self._loop.call_later(seconds, self.queue, lane)

    def release(self, lane: Lane) -> None:
        """Release a lane whose events were processed."""
        if self._lanes.get(lane.key) is not lane:
            return
        if not lane.items and not lane.parts:
            del self._lanes[lane.key]
            return
        lane.place = "new"
        self._offer(lane)

    def take(self) -> Lane | None:
        """The next queued lane, or None; the caller holds it until `later` or `release`."""
        if not self._queue:
            return None
        lane = self._queue.popleft()
        lane.place = "held"
        return lane

    async def wait(self) -> None:
        """Wait until a lane may be queued."""
        if self._queue:
            return
        waiter = self._loop.create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def _wake(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def clear(self) -> None:
        """Remove all lanes: the session has ended."""
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        self._lanes.clear()
        self._queue.clear()


def _subject(item: Item) -> Hashable:
    for name, value in item.headers:
        if name == "ce_subject":
            return value
    return item.key
