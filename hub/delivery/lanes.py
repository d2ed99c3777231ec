"""Order within one subscriber: a lane per task (or root, partition, batch handler), processed by one worker at a time.

Most handlers return at once, and then no other event of their task can come in between. So an event has a lane of its own, which
is forgotten when the event is finished; only if the handler is suspended, or the event must be retried, the lane becomes known
under its key, and collects the events of its task. Where the next event is not simply the next one of the log (`sorts`: priority,
rates, batches), all events are sorted into known lanes when they arrive.

Used in the subscriber's loop.
"""

import asyncio
import math
from collections import deque
from collections.abc import Hashable, Iterable

from .decoding import subject_of
from .gate import Gate
from .idle import IdleWorkers
from .lane import Lane, Probe
from .policies import Policies
from .status import Counters
from .window import Item


class Lanes:
    """All known lanes of a subscriber, the queues of those that are due, and the events that have arrived after these.

    `yielding`: a worker must release its lane after each event, because the next call may belong to another lane, or to none.
    """

    def __init__(
        self, order: str, policies: Policies | None, counters: Counters, loop: asyncio.AbstractEventLoop, *, sorts: bool = False
    ) -> None:
        """`sorts`: see the module; always with `policies`."""
        self._order = order
        self._sorts = sorts or policies is not None
        self._loop = loop
        self._counters = counters
        self._lanes: dict[Hashable, Lane] = {}
        self._queue: deque[Lane] = deque()
        self._arrived: deque[Item] = deque()
        self._spare: Lane | None = None
        self._urgent: deque[Lane] = deque()
        self.idle = IdleWorkers(loop)
        self._gate = Gate(loop, policies, self.idle.wake, self._put_first)
        self._shut = False
        self._probe: Probe | None = None
        self.yielding = self._gate.is_strict

    def add(self, items: Iterable[Item]) -> None:
        """Add events, in the order of their partition; wake workers."""
        if not (self._sorts or self._shut):
            self._arrived.extend(items)
            self.idle.wake()
            return
        lanes = self._lanes
        for item in items:
            key = _key_of(item, self._order)
            batch = None if item.route is None else item.route.batch
            lane = lanes.get(key)
            if lane is None:
                lane = lanes[key] = Lane(key, batch)
            lane.items.append(item)
            if item.policy is not None and item.policy.urgent:
                self._hurry(lane, item)
            if lane.place == "new" and batch is None and lane.urgent is None:  # as in `queue`
                lane.place = "queued"
                self._queue.append(lane)
                self.idle.wake()
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
        self.idle.wake()

    def _put_first(self, lane: Lane) -> None:
        lane.place = "queued"
        (self._urgent if lane.is_urgent else self._queue).appendleft(lane)
        self._refresh()
        self.idle.wake()

    def _refresh(self) -> None:
        self.yielding = self._shut or self._gate.is_strict or bool(self._urgent)

    def later(self, lane: Lane, seconds: float) -> None:
        """Release a lane that must be retried after `seconds`; infinite for one that will be queued by its outage."""
        if self._lanes.get(lane.key) is not lane:  # its session has ended
            return
        lane.place = "waiting"
        if seconds != math.inf:
            lane.timer = self._loop.call_later(seconds, self.queue, lane)

    def keep(self, lane: Lane) -> None:
        """The first event of a lane that a worker holds is not finished at once: the lane gets those that follow it."""
        if lane.place == "single":
            lane.key, lane.place = _key_of(lane.items[0], self._order), "held"
            self._lanes[lane.key] = lane
            if self._arrived:
                self.idle.wake()

    def holds(self, lane: Lane) -> bool:
        """Whether the lane belongs to the present session."""
        return self._lanes.get(lane.key) is lane

    def release(self, lane: Lane) -> None:
        """Release a lane whose events were processed."""
        if lane.place == "single":
            self._spare = lane
            return
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
        if self._arrived:
            lane, self._spare = self._spare or Lane(None, None), None
            lane.place = "single"
            if self.refill(lane):
                return lane
            self._spare = lane
        return None

    def refill(self, lane: Lane) -> bool:
        """Give the next event that has arrived to this lane, which has none and is not known. False if there is none."""
        lanes, arrived = self._lanes, self._arrived
        while arrived:
            item = arrived.popleft()
            if lanes and (known := lanes.get(_key_of(item, self._order))) is not None:
                known.items.append(item)
                continue
            lane.items.append(item)
            return True
        return False

    def _take_if_admitted(self) -> Lane | None:
        lane, limited = None, False
        if (self._urgent or self._queue) and not (self._shut and self._probe is None):
            limited = not self._gate.is_open()
            lane = None if limited else self._first_admitted()
        self._counters.rate_limited = self._gate.waiting + (len(self._urgent) + len(self._queue) if limited else 0)
        self._refresh()
        if lane is not None and (self._urgent or self._queue):
            self.idle.wake()
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
        self.idle.wake()

    # Outages of the whole subscriber

    def shut(self) -> bool:
        """No lane can be taken until `admit_probe` or `reopen`. Returns whether this has withdrawn an admitted probe."""
        self._shut = self.yielding = True
        arrived, self._arrived = self._arrived, deque()
        self.add(arrived)
        withdrawn, self._probe = self._probe is not None, None
        return withdrawn

    def admit_probe(self, probe: Probe) -> None:
        """One lane can be taken, which is then a probe of this outage."""
        self._probe = probe
        self.idle.wake()

    def reopen(self) -> None:
        """All lanes can be taken again."""
        self._shut, self._probe = False, None
        self._refresh()
        self.idle.wake_all()

    def clear(self) -> None:
        """Remove all lanes: the session has ended."""
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        self._lanes.clear()
        self._arrived.clear()
        self._queue.clear()
        self._urgent.clear()
        self._gate.clear()
        self._refresh()


def _key_of(item: Item, order: str) -> Hashable:
    """What the events of a lane have in common."""
    if item.route is not None and item.route.batch is not None:
        return item.route
    if order == "partition":
        return item.partition
    return item.key if order == "root" else subject_of(item.record)
