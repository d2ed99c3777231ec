"""Decides whether the handler of a lane may be called now: rates of the subscriber and of event types, and outages.

A lane whose event type is at its rate waits in the line of this rate, so that it does not delay lanes of other types.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from .lane import Lane
from .policies import Policies
from .rate_limit import RateLimit


class RateLine:
    """The lanes that wait for one rate; the first of them is released when a call is possible."""

    def __init__(self, limit: RateLimit, loop: asyncio.AbstractEventLoop, put_first: Callable[[Lane], None]) -> None:
        self.limit = limit
        self._loop = loop
        self._put_first = put_first
        self._urgent: deque[Lane] = deque()
        self._others: deque[Lane] = deque()
        self._released: Lane | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def may_pass(self, lane: Lane, now: float) -> bool:
        """Whether the lane may call its handler; lanes that wait in the line are first."""
        if lane is not self._released and (self._released is not None or len(self)):
            return False
        return self.limit.wait(now) == 0.0

    def join(self, lane: Lane) -> None:
        """Let the lane wait; one that was released and could not begin remains the first."""
        line = self._urgent if lane.is_urgent else self._others
        if lane is self._released:
            self._released = None
            line.appendleft(lane)
        else:
            line.append(lane)
        self.schedule()

    def schedule(self, begun: Lane | None = None) -> None:
        """Release the next lane when its call is possible. `begun`: a lane that has begun its call."""
        if begun is not None and begun is self._released:
            self._released = None
        if self._timer is None and self._released is None and len(self):
            self._timer = self._loop.call_later(self.limit.wait(self._loop.time()), self._release)

    def _release(self) -> None:
        self._timer = None
        if len(self):
            self._released = (self._urgent or self._others).popleft()
            self._put_first(self._released)

    def reschedule(self) -> None:
        """A call was withdrawn: the next one may be possible earlier."""
        self._stop_timer()
        self.schedule()

    def clear(self) -> None:
        """Remove all lanes."""
        self._urgent.clear()
        self._others.clear()
        self._released = None
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Gate:
    """See the module. `wake` is called when a lane may be taken again, `put_first` with a lane that need not wait any longer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        policies: Policies | None,
        wake: Callable[[], None],
        put_first: Callable[[Lane], None],
    ) -> None:
        self._loop, self._wake = loop, wake
        self._limit = None if policies is None else policies.calls_max
        limits = () if policies is None else policies.limits_of_types
        self._lines = {limit: RateLine(limit, loop, put_first) for limit in limits}
        self._timer: asyncio.TimerHandle | None = None
        self.is_strict = self._limit is not None or bool(self._lines)

    @property
    def waiting(self) -> int:
        """The number of lanes in lines."""
        return sum(map(len, self._lines.values()))

    def is_open(self) -> bool:
        """Whether the rate of the subscriber admits a call; if not, `wake` is called when it does."""
        if self._limit is None:
            return True
        wait = self._limit.wait(self._loop.time())
        if wait and self._timer is None:
            self._timer = self._loop.call_later(wait, self._open)
        return not wait

    def _open(self) -> None:
        self._timer = None
        self._wake()

    def admits(self, lane: Lane) -> bool:
        """Whether the lane may call its handler now, which is then recorded; if not, it waits in a line."""
        if not self.is_strict:
            return True
        now = self._loop.time()
        lines = [self._lines[limit] for limit in limits_of(lane)] if self._lines else []
        for line in lines:
            if not line.may_pass(lane, now):
                lane.place = "limited"
                for other in lines:
                    if other is not line:
                        other.schedule(begun=lane)  # it waits elsewhere and gives up its turn there
                line.join(lane)
                return False
        limits = [line.limit for line in lines]
        if self._limit is not None:
            limits.append(self._limit)
        for limit in limits:
            limit.note(now)
        lane.call = (now, limits)
        for line in lines:
            line.schedule(begun=lane)
        return True

    def withdraw(self, lane: Lane) -> None:
        """The lane called no handler."""
        if lane.call is not None:
            when, limits = lane.call
            for limit in limits:
                limit.withdraw(when)
                if limit in self._lines:
                    self._lines[limit].reschedule()

    def clear(self) -> None:
        """Remove all lanes from the lines."""
        for line in self._lines.values():
            line.clear()


def limits_of(lane: Lane) -> list[RateLimit]:
    """The limits of the types of the lane's next event, or of the events of its next batch."""
    found = dict.fromkeys(item.policy.limit for item in lane.next_part() if item.policy is not None)
    return [limit for limit in found if limit is not None]
