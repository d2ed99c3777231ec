"""`HubInMemory`: a complete hub in the event loop of the test, with a manual clock."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import Event, TaskReply
from subscribers import Filter, Subscriber

from ..client import Hub, TaskHandle
from ..client.hub import ANSWER_SECONDS
from ..delivery import parse_configs
from ..delivery.config import plan
from ..engine import EngineSettings
from ..errors import ConfigurationError, HubError
from ..verify import LocalSource, VerificationReport, verify_source
from ..worker import TaskRegistry, WorkerSettings
from .manual_time import ManualTime
from .services import Services, WorkerInMemory
from .subscription import Subscription

FINDINGS_SHOWN_MAX = 20

#: How long stopping may take in addition to the worker's grace period, in the hub's time (seconds).
STOP_SECONDS = 60.0


class VerificationError(HubError):
    """The checker has findings on the log; `report` has them."""

    def __init__(self, report: VerificationReport) -> None:
        findings = "\n".join(map(str, report.findings[:FINDINGS_SHOWN_MAX]))
        super().__init__(f"The checker has {sum(report.counts.values())} findings on the log:\n{findings}")
        self.report = report


class HubInMemory(Hub):
    """A hub in memory: broker, engine, a worker for `tasks`, and this client with all methods of `hub.Hub`. No sockets, no
    files, and no threads except those of plain functions. Create it in a coroutine.

    >>> async with HubInMemory(tasks) as hub:
    ...     task = await hub.submit("charge", {"order": 7}, start_after=60)
    ...     await hub.advance(seconds=60)
    ...     assert await task.result() == {"paid": 7}

    Only `advance` moves the time of the hub, and that of `asyncio.sleep` and `asyncio.timeout` in handlers and in the test. A
    caller that waits for something impossible gets a StalledError. At the end the log is checked as `hub verify` does."""

    def __init__(
        self,
        tasks: TaskRegistry | None = None,
        *,
        partitions: int = 1,
        worker: WorkerSettings | None = None,
        engine: EngineSettings | None = None,
        start: datetime | None = None,
        verify: bool = True,
        thread_seconds: float = 5.0,
        stall_seconds: float = 5.0,
    ) -> None:
        """`tasks`: the registry of the worker; without one there is no worker. `partitions`: number of engine partitions.
        `worker`, `engine`: their settings. `start`: initial time (default: now). `verify`: check the log at the end.

        `thread_seconds`: how long `settle` waits for plain functions, in real time. `stall_seconds`: how long a running body may
        wait for something outside, in real time, before callers that wait for its task get a StalledError."""
        self._clock = ManualTime(asyncio.get_running_loop(), start)
        self._services = Services(self._clock, partitions, engine or EngineSettings(), thread_seconds, stall_seconds)
        self._driver = self._services.driver
        self._settings = worker or WorkerSettings()
        self._tasks = tasks or TaskRegistry()
        self._worker: WorkerInMemory | None = None
        self._verify = verify
        super().__init__(source="/test", transport=self._services.transport())

    # Start and stop

    async def start(self) -> None:
        """Start topics, engine, worker and client; returns when the worker is registered. Called by `async with`."""
        self._clock.install()
        await self._services.start(self._settings.pool)
        if self._tasks.names:
            self._worker = await self._services.start_worker(self._tasks, self._settings)
        await super().start()
        await self.settle()

    async def stop(self) -> None:
        """Stop, in the hub's time: the worker drains, the engine stops, subscribers finish their events. Called by `async
        with`."""
        if not self._clock.installed:
            return
        try:
            await self._driver.finish(self._services.stop(), self._settings.grace_seconds + STOP_SECONDS)
            await self._driver.finish(self._services.stop_subscriptions(), STOP_SECONDS)
            await super().stop()
        finally:
            self._services.close()
            self._clock.uninstall()

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()
        if raised[0] is None:  # the error of the test is more useful than its consequences
            self._driver.raise_failure()
            if self._verify:
                await self.verify()

    async def verify(self) -> VerificationReport:
        """The checker's report on the current log. Raises VerificationError if it has findings."""
        report = await verify_source(LocalSource(self._services.local), settle_seconds=0.0)
        if not report.ok:
            raise VerificationError(report)
        return report

    # Time

    @property
    def now(self) -> datetime:
        """The current time of the hub, in UTC."""
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self._clock.now_us())

    async def settle(self) -> None:
        """Run everything that can be decided, executed or delivered at the current time, including plain functions. Raises the
        error of a failed part of the hub."""
        await self._driver.settle()

    async def advance(
        self, duration: timedelta = timedelta(), *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0
    ) -> None:
        """Advance the time, and run everything that becomes due, at its due time. Returns when there is no more work at the
        new time. Raises ValueError for a time in the past, and as `settle` does."""
        wanted = duration + timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        if wanted < timedelta():
            raise ValueError(f"advance: the time cannot be moved back, by {wanted}")
        await self._driver.advance(wanted.total_seconds())

    # Waiting: an error instead of an infinite wait

    async def outcome_of(self, handle: TaskHandle, *, timeout_seconds: float | None = None) -> TaskReply:
        """See TaskHandle.outcome. Raises StalledError."""
        return await self._driver.guard(super().outcome_of(handle, timeout_seconds=timeout_seconds))

    async def get(self, task: str, *, root: str | None = None, timeout_seconds: float = ANSWER_SECONDS) -> TaskReply:
        """See Hub.get. Raises StalledError."""
        return await self._driver.guard(super().get(task, root=root, timeout_seconds=timeout_seconds))

    async def _events_of(self, task: str, root: str, offset: int) -> AsyncGenerator[Event, None]:
        events = super()._events_of(task, root, offset)
        try:
            while (event := await self._driver.guard(_next(events))) is not None:
                yield event
        finally:
            await events.aclose()

    async def wait_for(self, pattern: str, task: TaskHandle | str | None = None, *, count: int = 1) -> Event:
        """Wait for the `count`-th event of this type (with `*` for any text), of one task or of all. Raises StalledError if it
        is not possible at the current time."""
        about = task.id if isinstance(task, TaskHandle) else task
        return await self._driver.guard(self._services.log.wait(pattern, about, count))

    # The log

    @property
    def events(self) -> list[Event]:
        """All events on the log so far, in order."""
        return list(self._services.log.events)

    def events_of(self, task: TaskHandle | str, pattern: str = "*") -> list[Event]:
        """The events of one task so far, in order; for a workflow without those of its steps. `pattern`: an event type, in which
        `*` matches any text."""
        return list(self._services.log.find(pattern, task.id if isinstance(task, TaskHandle) else task))

    # Subscribers, and a disconnected worker

    async def attach(
        self,
        subscriber: type[Subscriber[Any]],
        *,
        id: str = "",
        settings: Mapping[str, Any] | None = None,
        filter: Filter | Mapping[str, Any] | None = None,
        delivery: Mapping[str, Any] | None = None,
        types: Mapping[str, Mapping[str, Any]] | None = None,
        start_from: str = "latest",
    ) -> Subscription:
        """Deliver events to a subscriber, like an entry of `[[subscribers]]` with the same fields. Its code runs on this event
        loop. Raises ConfigurationError if a field is invalid, and what its `open` raises."""
        (config,) = parse_configs(
            [
                {
                    "use": id or subscriber.name or subscriber.__qualname__,
                    "settings": dict(settings or {}),
                    "filter": filter.to_json() if isinstance(filter, Filter) else filter,
                    "delivery": dict(delivery or {}),
                    "types": {pattern: dict(fields) for pattern, fields in (types or {}).items()},
                    "start_from": start_from,
                }
            ]
        )
        subscription = Subscription(plan(config, subscriber), self._clock.now_ms, self._driver.fail)
        await self._driver.guard(self._services.subscribe(subscription))
        return subscription

    def cut_worker(self) -> None:
        """Disconnect the worker: it exchanges no records with the engine until `restore_worker`. Raises ConfigurationError if
        there is no worker."""
        self._the_worker().transport.cut()

    def restore_worker(self) -> None:
        """Reconnect the worker; reports that it sent meanwhile arrive. Raises ConfigurationError if there is no worker."""
        self._the_worker().transport.restore()

    def _the_worker(self) -> WorkerInMemory:
        if self._worker is None:
            raise ConfigurationError("This hub has no worker: create it with a registry, HubInMemory(tasks).")
        return self._worker


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(events, None)
