"""Puts the lifecycle of subscribers on the log: changes of their states become events `subscriber.*`, through `hub.intake`.

Rules: nothing waits for these events; while the broker is unreachable they wait in a bounded queue. Dead letters are counted and
reported at most every DEAD_LETTERS_SECONDS: otherwise each dead letter of a subscriber of all events would cause another.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Raw, json

from schemas import TYPE_OF_DATA
from schemas import events as e
from schemas import reports as r

from ..kafka import INTAKE, Cluster, Outgoing, Sender, describe_partitions, partition_of
from ..logs import Logger
from ..service import ServiceTasks, set_within
from ..telemetry import masked
from .status import SubscriberStatus

log = Logger(__name__)

DEAD_LETTERS_SECONDS = 10.0
WAITING_MAX = 1_000
SEND_SECONDS = 5.0
CANCEL_AGAIN_SECONDS = 1.0
ERROR_MAX = 500

Phase = Literal["running", "failing", "unavailable", "paused", "stopped"]

_PHASES: dict[str, Phase] = {
    "running": "running",
    "failed": "failing",
    "unavailable": "unavailable",
    "paused": "paused",
    "stopped": "stopped",
}
"""The states of a subscriber that its events distinguish; in all other states the previous phase continues."""
TROUBLED = frozenset({"failing", "unavailable"})


class Observation(NamedTuple):
    """An event about a subscriber."""

    subscriber: str
    data: e.EventData


class Observed:
    """What is known of one subscriber: its phase, since when, and its dead letters that are already reported."""

    def __init__(self) -> None:
        self.phase: Phase | None = None
        self.since = 0.0
        self.dead_letters = self.dead_letters_reported = 0
        self.reported_at = float("-inf")

    def events_of(self, status: SubscriberStatus, now: float) -> list[e.EventData]:
        """The events of a change to this status; `now` in seconds of a monotonic clock."""
        phase = _PHASES.get(status.state, self.phase)
        events = [*self._of_phase(status, phase, now), *self._of_dead_letters(status, now)]
        if phase != self.phase:
            if not (self.phase in TROUBLED and phase in TROUBLED):
                self.since = now
            self.phase = phase
        return events

    def _of_phase(self, status: SubscriberStatus, phase: Phase | None, now: float) -> list[e.EventData]:
        if phase == self.phase or phase is None:
            return []
        error = masked(status.error or "")[:ERROR_MAX]
        match phase:
            case "failing":
                return [e.SubscriberFailing(error=error, **_process())]
            case "unavailable":
                return [e.SubscriberUnavailable(reason=error, **_process())]
            case "paused":
                return [e.SubscriberPaused(reason=error, **_process())]
            case "stopped":
                return [e.SubscriberStopped(reason=error, **_process())]
        if self.phase in TROUBLED:
            return [e.SubscriberRecovered(failing_seconds=round(now - self.since, 3), **_process())]
        if self.phase == "paused":
            return [e.SubscriberResumed(**_process())]
        return [e.SubscriberStarted(use=status.use, **_process())]

    def _of_dead_letters(self, status: SubscriberStatus, now: float) -> list[e.EventData]:
        count = status.dead_lettered
        if count < self.dead_letters:  # another process of the subscriber: it counts from 0
            self.dead_letters_reported -= self.dead_letters
        self.dead_letters = count
        new = count - self.dead_letters_reported
        if new <= 0 or now - self.reported_at < DEAD_LETTERS_SECONDS:
            return []
        self.dead_letters_reported, self.reported_at = count, now
        return [e.SubscriberDeadLettered(count=new, error=masked(status.error or "")[:ERROR_MAX], **_process())]


def _process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


class SubscriberObserver:
    """Watches the statuses of all subscribers of a process. `put` stores observations in order; if it raises, they
    are sent with the next ones."""

    def __init__(
        self, statuses: Callable[[], Sequence[SubscriberStatus]], put: Callable[[Sequence[Observation]], Awaitable[None]]
    ) -> None:
        self._statuses, self._put = statuses, put
        self._known: dict[str, Observed] = {}
        self._waiting: deque[Observation] = deque(maxlen=WAITING_MAX)
        self._changed = asyncio.Event()
        self._stopping = False
        self._tasks = ServiceTasks("the observer of subscribers")

    def wake(self) -> None:
        """The state of a subscriber has changed."""
        self._note()
        self._changed.set()

    def start(self) -> None:
        """Begin to send."""
        self._tasks.start(self._keep(), "observations")

    async def stop(self) -> None:
        """Send what is left, for at most twice SEND_SECONDS. A client that is sending may end first: one that is cancelled while
        it connects leaves its connection open."""
        self._stopping = True
        self._changed.set()
        await self._tasks.wait(SEND_SECONDS)
        await self._tasks.cancel(again_seconds=CANCEL_AGAIN_SECONDS)  # a client may ignore the first
        self._note()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await self._send()

    def _note(self) -> None:
        """Take down the events of all changes since the last call."""
        now = asyncio.get_running_loop().time()
        for status in self._statuses():
            known = self._known.setdefault(status.id, Observed())
            self._waiting.extend(Observation(status.id, event) for event in known.events_of(status, now))

    async def _keep(self) -> None:
        while not self._stopping:
            await set_within(self._changed, DEAD_LETTERS_SECONDS)
            self._changed.clear()
            self._note()
            await self._send()

    async def _send(self) -> None:
        waiting = list(self._waiting)
        if not waiting:
            return
        try:
            await self._put(waiting)
        except Exception as error:  # they are sent with the next ones
            log.warning("could not report about subscribers", action="observations_not_sent", reason=repr(error))
            return
        for sent in waiting:
            if self._waiting and self._waiting[0] is sent:
                self._waiting.popleft()


class IntakeObservations:
    """Sends observations to `hub.intake`. They are rare: each time a connection is opened and closed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster.named("delivery")
        self._number = 0

    async def put(self, observations: Sequence[Observation]) -> None:
        """Send observations and wait until they are acknowledged. Raises HubError."""
        partitions = await describe_partitions(self._cluster)
        sender = Sender(self._cluster)
        await sender.start()
        try:
            records = [self._record(one, partition_of(one.subscriber, partitions)) for one in observations]
            await sender.send_many(records, timeout_seconds=SEND_SECONDS)
        finally:
            await sender.stop()

    def _record(self, observation: Observation, partition: int) -> Outgoing:
        self._number += 1
        about = r.EventObserved(
            entity=f"subscriber/{observation.subscriber}",
            event=TYPE_OF_DATA[type(observation.data)].type,
            data=Raw(json.encode(observation.data)),
        )
        source = f"/delivery/{socket.gethostname()}/{os.getpid()}"
        headers = r.report_headers("event.observed", source, str(self._number))
        return Outgoing(INTAKE, partition, observation.subscriber.encode(), json.encode(about), headers)
