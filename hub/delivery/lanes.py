"""Order within one subscriber: a lane per task (or root, partition, batch handler), processed by one worker at a time.

Used in the subscriber's loop.
"""

import asyncio
import math
from collections import deque
from collections.abc import Hashable

from .decoding import subject_of
from .gate import Gate
from .lane import Lane, Probe
from .policies import Policies
from .status import Counters
from .window import Item


class Lanes:
    """All lanes of a subscriber, and the queues of those that are due.

    `yielding`: a worker must release its lane after each event, because the next call may belong to another lane, or to none.
    """

    def __init__(self, order: str, policies: Policies | None, counters: Counters, loop: asyncio.AbstractEventLoop) -> None:
        self._order = order
        self._loop = loop
        self._counters = counters
        self._lanes: dict[Hashable, Lane] = {}
        self._queue: deque[Lane] = deque()
        self._urgent: deque[Lane] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._gate = Gate(loop, policies, self._wake, self._put_first)
        self._shut = False
        self._probe: Probe | None = None
        self.yielding = self._gate.is_strict

    def add(self, items: list[Item]) -> None:
        """Add each item to its lane; wake workers."""
        lanes, by_partition, by_root = self._lanes, self._order == "partition", self._order == "root"
        for item in items:
            batch = None if item.route is None else item.route.batch
            key: Hashable
            if batch is not None:
                key = item.route
            elif by_partition:
                key = item.partition
            elif by_root:
                key = item.key
            else:
                key = subject_of(item.record)
            lane = lanes.get(key)
            if lane is None:
                lane = lanes[key] = Lane(key, batch)
            lane.items.append(item)
            if item.policy is not None and item.policy.urgent:
                self._hurry(lane, item)
            if lane.place == "new" and batch is None and lane.urgent is None:  # as in `queue`
                lane.place = "queued"
                self._queue.append(lane)
                if self._idle:
                    self._wake()
            elif lane.place in ("new", "gathering"):
                self._offer(lane)

    def _hurry(self, lane: Lane, item: Item) -> None:
        was_urgent, lane.urgent = lane.is_urgent, item
        if lane.place == "queued" and not was_urgent:  # its entry in the other queue is skipped later
            self._urgent.append(lane)
            self.yielding = True

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
        if lane.urgent is not None and lane.is_urgent:
            self._urgent.append(lane)
            self.yielding = True
        else:
            self._queue.append(lane)
        self._wake()

    def _put_first(self, lane: Lane) -> None:
        lane.place = "queued"
        (self._urgent if lane.is_urgent else self._queue).appendleft(lane)
        self._refresh()
        self._wake()

    def _refresh(self) -> None:
        self.yielding = self._shut or self._gate.is_strict or bool(self._urgent)

    def later(self, lane: Lane, seconds: float) -> None:
        """Release a lane that must be retried after `seconds`; infinite for one that will be queued by its outage."""
        if self._lanes.get(lane.key) is not lane:  # its session has ended
            return
        lane.place = "waiting"
        if seconds != math.inf:
            lane.timer = self._loop.call_later(seconds, self.queue, lane)

    def holds(self, lane: Lane) -> bool:
        """Whether the lane belongs to the present session."""
        return self._lanes.get(lane.key) is lane

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
        if self.yielding:
            return self._take_if_admitted()
        while self._queue:
            lane = self._queue.popleft()
            if lane.place == "queued":
                lane.place = "held"
                return lane
        return None

    def _take_if_admitted(self) -> Lane | None:
        lane, limited = None, False
        if (self._urgent or self._queue) and not (self._shut and self._probe is None):
            limited = not self._gate.is_open()
            lane = None if limited else self._first_admitted()
        self._counters.rate_limited = self._gate.waiting + (len(self._urgent) + len(self._queue) if limited else 0)
        self._refresh()
        if lane is not None and (self._urgent or self._queue):
            self._wake()
        return lane

    def _first_admitted(self) -> Lane | None:
        for queue in (self._urgent, self._queue):
            while queue:
                lane = queue.popleft()
                if lane.place == "queued" and self._gate.admits(lane):
                    lane.place = "held"
                    if self._shut and self._probe is not None:
                        lane.probes += (self._probe,)
                        self._probe = None
                    return lane
        return None

    def withdraw_call(self, lane: Lane) -> None:
        """The lane was taken, and no handler was called."""
        self._gate.withdraw(lane)
        self._wake()

    # Outages of the whole subscriber

    def shut(self) -> bool:
        """No lane can be taken until `admit_probe` or `reopen`. Returns whether this has withdrawn an admitted probe."""
        self._shut = self.yielding = True
        withdrawn, self._probe = self._probe is not None, None
        return withdrawn

    def admit_probe(self, probe: Probe) -> None:
        """One lane can be taken, which is then a probe of this outage."""
        self._probe = probe
        self._wake()

    def reopen(self) -> None:
        """All lanes can be taken again."""
        self._shut, self._probe = False, None
        self._refresh()
        while self._idle:
            self._wake()

    # Workers

    async def wait(self) -> None:
        """Wait until a lane may be taken. To be called when `take` has returned None."""
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
        self._urgent.clear()
        self._gate.clear()
        self._refresh()
