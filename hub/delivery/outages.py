"""Outages of destinations: a handler or `flush` has raised `Unavailable`. A circuit breaker per endpoint.

    open:  endpoint "": no lane is taken. Other endpoints: the lanes whose handler raised for this endpoint wait.
    probe: after a delay one lane may call its handler; `flush` is its own probe.
    end:   the probe's handler returned, or the destination has rejected the event (`Undeliverable`).

Whatever else a probe's handler raises does not say whether the destination is available: the next lane is the probe.
"""

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Iterable

from subscribers import Unavailable

from ..logs import Logger, OutageLog
from ..telemetry import masked
from .lane import Lane
from .lanes import Lanes
from .status import Counters, OutageStatus
from .times import utc_now
from .window import Item

DELAY_INITIAL_SECONDS = 1.0
DELAY_MAX_SECONDS = 60.0
JITTER = 0.1


class Outage:
    """The outage of one endpoint. `waiting`: its lanes, each with the time when it began to wait."""

    def __init__(self, endpoint: str, now: float, log: OutageLog) -> None:
        self.endpoint = endpoint
        self.log = log
        self.reason = ""
        self.since = utc_now()
        self.began = now
        self.attempts = 0
        self.probe_at = now
        self.probing = False
        self.by_flush = False
        self.waiting: deque[tuple[Lane, float]] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def note(self, error: Unavailable, now: float, *, counts: bool) -> None:
        """Take over the reason and the delay of an error; `counts`: it doubles the delay."""
        self.reason = masked(error.reason)
        delay = 0.0
        if counts:
            self.attempts += 1
            delay = min(DELAY_MAX_SECONDS, DELAY_INITIAL_SECONDS * 2.0 ** min(self.attempts - 1, 60))
            delay *= 1 + JITTER * random.random()
        self.probe_at = max(self.probe_at, now + max(delay, error.retry_after_seconds or 0.0))

    def stop_timer(self) -> None:
        """No probe at the set time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def as_status(self) -> OutageStatus:
        """The outage as an entry of the status."""
        return OutageStatus(endpoint=self.endpoint, reason=self.reason, since=self.since, attempts=self.attempts)


class Outages:
    """The present outages of one subscriber."""

    def __init__(self, lanes: Lanes, counters: Counters, logger: logging.Logger) -> None:
        self._lanes, self._counters = lanes, counters
        self._loop = asyncio.get_running_loop()
        self._by_endpoint: dict[str, Outage] = {}
        self._log = Logger(logger.name)
        self._shut_seconds = 0.0

    def working_time(self) -> float:
        """The loop's time without the outages of the whole subscriber: the clock for `retry.timeout`."""
        whole, now = self._by_endpoint.get(""), self._loop.time()
        return now - self._shut_seconds - (0.0 if whole is None else now - whole.began)

    def count(self, part: list[Item], delay: float) -> None:
        """Count the delay of a retry also if `working_time` does not advance meanwhile: an event whose handler raises other
        errors whenever it is the probe is retried until the timeout, too."""
        if "" in self._by_endpoint:
            for item in part:
                item.first_failure_at -= delay

    # What the handlers' results mean

    def note(self, lane: Lane, error: Unavailable) -> float:
        """A handler raised `error`. Returns the delay for its lane: 0.0, or infinite if the lane is queued at the end of the
        outage or as a probe."""
        outage = self._outage_of(error)
        was_probe = outage in lane.probes
        lane.probes = tuple(one for one in lane.probes if one is not outage)
        outage.note(error, self._loop.time(), counts=was_probe or not outage.attempts)
        outage.probing = outage.probing and not was_probe
        if outage.endpoint == "":
            outage.probing = not self._lanes.shut() and outage.probing
        elif self._lanes.holds(lane):
            outage.waiting.append((lane, self.working_time()))
        self._set_timer(outage)
        self._report(outage, error)
        return 0.0 if outage.endpoint == "" else math.inf

    def end(self, lane: Lane) -> None:
        """The handler of a probe returned, or the destination has rejected its event."""
        for outage in self._probed_by(lane):
            outage.probing = False
            if not outage.by_flush:
                self._end(outage)

    def leave_open(self, lane: Lane) -> None:
        """The handler of a probe was not called, or its result does not say whether the destination is available."""
        for outage in self._probed_by(lane):
            outage.probing = False
            self._set_timer(outage)

    def _probed_by(self, lane: Lane) -> Iterable[Outage]:
        probes, lane.probes = lane.probes, ()
        return [one for one in self._by_endpoint.values() if one in probes]

    # What `flush` raises

    def note_flush(self, error: Unavailable) -> float:
        """`flush` raised `error`. Returns the delay before the next call, in seconds."""
        outage, now = self._outage_of(error), self._loop.time()
        outage.by_flush = True
        outage.note(error, now, counts=True)
        outage.stop_timer()
        if outage.endpoint == "":
            outage.probing = not self._lanes.shut() and outage.probing
        self._report(outage, error)
        return max(0.0, outage.probe_at - now)

    def end_flush(self) -> None:
        """`flush` has returned."""
        for outage in [one for one in self._by_endpoint.values() if one.by_flush]:
            self._end(outage)

    # Outages

    def _outage_of(self, error: Unavailable) -> Outage:
        outage = self._by_endpoint.get(error.endpoint)
        if outage is None:
            log = OutageLog(self._log, action="destination_unavailable", over="destination_available", clock=self._loop.time)
            outage = self._by_endpoint[error.endpoint] = Outage(error.endpoint, self._loop.time(), log)
        return outage

    def _set_timer(self, outage: Outage) -> None:
        outage.stop_timer()
        if not outage.probing and not outage.by_flush:
            outage.timer = self._loop.call_at(outage.probe_at, self._probe, outage)

    def _probe(self, outage: Outage) -> None:
        outage.timer = None
        if outage.endpoint == "":
            outage.probing = True
            self._lanes.admit_probe(outage)
        elif outage.waiting:
            outage.probing = True
            lane = self._queue_first(outage)
            lane.probes += (outage,)
        else:  # the lanes that waited have ended: the next event of this endpoint will show whether it is available
            self._forget(outage)

    def _queue_first(self, outage: Outage) -> Lane:
        lane, waited_from = outage.waiting.popleft()
        waited = self.working_time() - waited_from
        for item in lane.next_part():
            item.first_failure_at += waited
        self._lanes.queue(lane)
        return lane

    def _end(self, outage: Outage) -> None:
        self._forget(outage)
        outage.log.works(outage.endpoint)
        while outage.waiting:
            self._queue_first(outage)

    def _forget(self, outage: Outage) -> None:
        outage.stop_timer()
        del self._by_endpoint[outage.endpoint]
        if outage.endpoint == "":
            self._shut_seconds += self._loop.time() - outage.began
            self._lanes.reopen()
        self._publish()

    def _report(self, outage: Outage, error: Unavailable) -> None:
        self._publish()
        about = {"endpoint": outage.endpoint} if outage.endpoint else {}
        outage.log.failed(outage.endpoint, outage.endpoint, "the destination is unavailable", reason=error.reason, **about)

    def _publish(self) -> None:
        self._counters.outages = tuple(one.as_status() for one in self._by_endpoint.values())

    def clear(self) -> None:
        """The session has ended, and its lanes with it: events of the next one will show which endpoints are unavailable."""
        for outage in [one for one in self._by_endpoint.values() if one.endpoint and not one.by_flush]:
            self._forget(outage)

    def close(self) -> None:
        """The subscriber is closed: no more probes."""
        for outage in self._by_endpoint.values():
            outage.stop_timer()
        self._by_endpoint.clear()
        self._publish()
