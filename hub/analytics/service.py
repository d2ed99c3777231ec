"""The service: rebuilds the view, follows the log, decides, and reports what it decided.

1. Take over: a transactional session fences other processes, so that nothing of them arrives at `hub.intake` any more.
2. Restore the snapshot, if there is one, and read the log up to its end. Reports in the intake that the engine has not decided
   yet are waited for, not repeated.
3. Follow the log with Faust. Rules are evaluated only when all events up to a moment were taken, and at that moment; reports of a
   round are one transaction, so that an alert fires together with its actions, once.

Several processes may run: each knows all alerts, and only the one that took over last can report. One that is fenced takes over
again, and reads first what the other one reported.
"""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

from msgspec import MsgspecError

from ..errors import Unreachable
from ..kafka import (
    EVENTS,
    Cluster,
    OffsetOutOfRange,
    SessionFailed,
    SessionFenced,
    StoredRecord,
    TransactionalSession,
    describe_partitions,
    open_session,
)
from ..logs import Logger
from ..service import ServiceTasks
from . import snapshots
from .actions import records_of, reports_of
from .deciding import AlertTransition, decide
from .feed import FaustFeed
from .history import lead_seconds
from .moments import SECOND, micros
from .reading import read_into, take_record, undecided_alerts
from .view import Shape, View

log = Logger(__name__)

TRANSACTIONAL_ID = "hub.analytics"
TRANSACTION_TIMEOUT_MS = 3_000
"""How long a crash in the middle of a report may keep the engine from reading one partition of the intake."""
GRACE_SECONDS = 2.0
"""Events get their time before they are committed: rules are evaluated this long before the time up to which all were taken."""
TICK_SECONDS = 0.5
TRANSITIONS_MAX = 200
"""Most alerts that are reported in one transaction."""


class AnalyticsSettings(NamedTuple):
    """`shape`: rules, and what the view keeps. `data_dir`: folder of the snapshot (None: none), which is written every
    `snapshot_seconds`."""

    shape: Shape
    data_dir: Path | None = None
    snapshot_seconds: float = 30.0


class AnalyticsService:
    """See the module."""

    def __init__(self, cluster: Cluster, settings: AnalyticsSettings) -> None:
        self._cluster = cluster.named("analytics")
        self._settings = settings
        self._digest = snapshots.digest_of(settings.shape, str(cluster))
        self.view = View(settings.shape)
        self.waiting: dict[str, str] = {}
        self.decided_until: int | None = None
        self._partitions = 0
        self._feed: FaustFeed | None = None
        self._session: TransactionalSession | None = None
        self._tasks = ServiceTasks("the analytics")

    async def start(self) -> None:
        """Begin, in the background: a long log must not keep the process from being ready. Raises HubError."""
        self._partitions = await describe_partitions(self._cluster, EVENTS)
        self._tasks.keep(self._run(), "analytics")

    async def _run(self) -> None:
        """Take over, rebuild the view, follow the log, and decide. Raises HubError."""
        self._session = await self._open_session()  # before the log is read, which then ends with what an earlier process did
        self._restore()
        shape = self._settings.shape
        horizon = max(lead_seconds(shape.rules), shape.keep_seconds)
        await read_into(self.view, self._cluster, _now_ms() - round(horizon * 1_000))
        self.waiting = await self._undecided()
        self._settle()
        feed = FaustFeed(self._cluster, self._partitions, self._take)
        await feed.start({partition: self.view.position(partition).next for partition in range(self._partitions)})
        self._feed = feed
        log.info("analytics follow the log", action="analytics_started", events=self.view.events, alerts=self.firing)
        if self._settings.data_dir is not None:
            self._tasks.keep(self._save_regularly(), "analytics-snapshots")
        await self._decide_regularly(feed)

    @property
    def firing(self) -> int:
        """Number of alerts that fire."""
        return sum(alert.is_firing for alert in self.view.book.alerts.values())

    @property
    def age_seconds(self) -> float | None:
        """How long ago the moment was for which rules were evaluated; None: they were not evaluated yet."""
        return None if self.decided_until is None else _now_ms() / 1_000 - self.decided_until / SECOND

    async def watch(self) -> None:
        """Raises the error that ends the service."""
        await self._tasks.watch()

    async def stop(self) -> None:
        """Stop, and save the view."""
        await self._tasks.cancel()
        if self._feed is not None:
            await self._feed.stop()
            self._save()
        if self._session is not None:
            await self._session.close()

    # Reading

    def _take(self, partition: int, offset: int, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
        if offset < self.view.position(partition).next:
            return
        take_record(self.view, partition, StoredRecord(offset, 0, None, value, headers))
        self._settle()

    def _settle(self) -> None:
        """Forget the transitions that are on the log."""
        for name, event in list(self.waiting.items()):
            alert = self.view.book.alerts.get(name)
            if (alert is not None and alert.is_firing) == (event == "alert.fired"):
                del self.waiting[name]

    # Deciding

    async def _decide_regularly(self, feed: FaustFeed) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            feed.check()
            if self._session is None and not await self._take_over():
                continue
            taken = {partition: position.next for partition, position in self.view.positions.items()}
            until_ms = feed.complete_until_ms(taken)
            if until_ms is not None:
                await self._decide(int(until_ms * 1000) - micros(GRACE_SECONDS))

    async def _decide(self, now: int) -> None:
        if self.decided_until is not None and now <= self.decided_until:
            return
        self.decided_until = now
        transitions = decide(self.view.evaluation(now, self.waiting.keys()))
        if transitions:
            await self._report(transitions[:TRANSITIONS_MAX])  # the rest with the next evaluation

    async def _report(self, transitions: list[AlertTransition]) -> None:
        reports = [report for transition in transitions for report in reports_of(transition)]
        for transition in transitions:
            self.waiting[transition.alert.name] = "alert.fired" if transition.finding is not None else "alert.resolved"
        assert self._session is not None
        try:
            await self._session.commit(records_of(reports, self._partitions, _now_ms()))
        except (SessionFenced, SessionFailed) as error:  # also after a restart of the broker
            log.warning("alerts were not reported", action="alerts_not_reported", reason=str(error))
            await self._session.close()
            self._session = None
            return
        for transition in transitions:
            fires = transition.finding is not None
            log.info(
                "alert fires" if fires else "alert is resolved",
                action="alert_reported",
                rule=transition.alert.rule,
                key=transition.alert.key,
            )

    async def _take_over(self) -> bool:
        """Open a session, and learn what of the reports of the last one was stored; False if that fails."""
        try:
            session = await self._open_session()
        except (Unreachable, SessionFenced, SessionFailed) as error:
            log.info("no session", action="analytics_no_session", reason=str(error))
            return False
        try:
            self.waiting = await self._undecided()
        except (Unreachable, OffsetOutOfRange) as error:
            log.info("the intake cannot be read", action="analytics_no_session", reason=str(error))
            await session.close()
            return False
        self._settle()
        self._session = session
        return True

    async def _undecided(self) -> dict[str, str]:
        """The transitions that were reported and are not on the log yet."""
        decided = {partition: position.decided for partition, position in self.view.positions.items()}
        return await undecided_alerts(self._cluster, decided)

    async def _open_session(self) -> TransactionalSession:
        return await open_session(self._cluster, TRANSACTIONAL_ID, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS)

    # The snapshot

    def _restore(self) -> None:
        folder = self._settings.data_dir
        contents = None if folder is None else snapshots.read(folder, self._digest)
        if contents is None:
            return
        try:
            self.view.restore(contents)
        except (MsgspecError, KeyError) as error:
            log.warning("the snapshot cannot be used", action="analytics_snapshot_unusable", reason=str(error))
            self.view = View(self._settings.shape)

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._settings.snapshot_seconds)
            self._save()

    def _save(self) -> None:
        if self._settings.data_dir is None:
            return
        try:
            snapshots.write(self._settings.data_dir, self._digest, self.view.contents())
        except OSError as error:  # the next start reads more of the log
            log.warning("the snapshot was not written", action="analytics_snapshot_not_written", reason=str(error))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
