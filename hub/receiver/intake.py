"""Carries out what a notification causes: `AlertIntake`."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..client import Hub
from ..errors import HubError
from ..logs import Logger, OutageLog
from .notification import Notification
from .planning import CREATED_BY, AlertOutcome, AlertTasks, PlannedAlert, plan_alerts

log = Logger(__name__)

REMEMBERED_MAX = 10_000
"""Most tasks of which the service remembers that it submitted them."""
STORE_SECONDS = 10.0
"""How long a notification may take, until all of it is on the log."""

RESOLVED_REASON = "the alert is resolved"

CountAlerts = Callable[[AlertOutcome, int], object]
"""Called with an outcome and the number of alerts."""


class AlertsNotStored(Exception):
    """The hub did not store what a notification causes, so that the sender has to repeat it; the message is the reason."""


class AlertSummary(NamedTuple):
    """What was done with the alerts of a notification: their number by outcome, and why some were rejected."""

    counts: dict[str, int]
    problems: list[str]


class AlertIntake:
    """Submits and cancels tasks for the alerts of notifications, one notification at a time.

    The task of an alert that was already submitted is not submitted again: the engine would find that it is a duplicate, but
    reject it if an annotation has changed. `count`: is called with the alerts by outcome. `store_seconds`: how long the hub may
    take for a notification."""

    def __init__(self, hub: Hub, tasks: AlertTasks, count: CountAlerts, *, store_seconds: float = STORE_SECONDS) -> None:
        self._hub = hub
        self._tasks = tasks
        self._count = count
        self._store_seconds = store_seconds
        self._submitted: OrderedDict[str, None] = OrderedDict()
        self._turn = asyncio.Lock()
        self._outages = OutageLog(log, action="alerts_not_stored", over="alerts_stored_again")

    async def accept(self, notification: Notification) -> AlertSummary:
        """Do what a notification causes. Returns when all submissions are acknowledged. Raises AlertsNotStored."""
        if notification.truncated_alerts:
            about = {"truncated": notification.truncated_alerts, "receiver": notification.receiver}
            log.warning("a notification lacks alerts of its group", action="alerts_truncated", **about)
        planned = plan_alerts(notification, self._tasks)
        try:
            async with asyncio.timeout(self._store_seconds), self._turn:
                outcomes = await self._carry_out(planned)
        except TimeoutError as error:
            raise self._not_stored(planned, str(error) or f"no broker responded within {self._store_seconds:g} s") from error
        except HubError as error:
            raise self._not_stored(planned, str(error)) from error
        self._outages.works("the hub")
        counts = self._counted(outcomes)
        problems = [one.problem for one in planned if one.problem]
        for problem in problems:
            log.warning("an alert was rejected", action="alert_rejected", reason=problem, receiver=notification.receiver)
        return AlertSummary(counts, problems)

    async def _carry_out(self, planned: Sequence[PlannedAlert]) -> list[AlertOutcome]:
        new: dict[str, PlannedAlert] = {}
        outcomes = []
        for one in planned:
            if one.outcome is AlertOutcome.SUBMITTED and not self._is_repeated(one, new):
                new[one.task] = one
                outcomes.append(AlertOutcome.SUBMITTED)
            elif one.outcome is AlertOutcome.SUBMITTED:
                outcomes.append(AlertOutcome.REPEATED)
            else:
                outcomes.append(await self._cancel(one) if one.outcome is AlertOutcome.CANCELLED else one.outcome)
        if new:
            await self._submit(list(new.values()))
        return outcomes

    def _is_repeated(self, alert: PlannedAlert, new: Mapping[str, PlannedAlert]) -> bool:
        if alert.task in self._submitted:
            self._submitted.move_to_end(alert.task)
            return True
        return alert.task in new

    async def _submit(self, planned: Sequence[PlannedAlert]) -> None:
        await self._hub.submit_many([one.submission for one in planned], reply=False)
        for one in planned:
            self._submitted[one.task] = None
            log.info("an alert created a task", action="alert_submitted", task=one.task, name=one.submission["name"])
        while len(self._submitted) > REMEMBERED_MAX:
            self._submitted.popitem(last=False)

    async def _cancel(self, alert: PlannedAlert) -> AlertOutcome:
        """Request the cancellation of the task if it is live: for others the engine would reject the request."""
        if (await self._hub.get(alert.task, timeout_seconds=self._store_seconds)).kind != "state":
            return AlertOutcome.RESOLVED
        await self._hub.cancel(alert.task, reason=RESOLVED_REASON, by=CREATED_BY)
        log.info("an alert was resolved: its task is cancelled", action="alert_cancelled", task=alert.task)
        return AlertOutcome.CANCELLED

    def _counted(self, outcomes: Iterable[AlertOutcome]) -> dict[str, int]:
        counts = Counter(outcomes)
        for outcome, number in counts.items():
            self._count(outcome, number)
        return {outcome.value: number for outcome, number in counts.items()}

    def _not_stored(self, planned: Sequence[PlannedAlert], reason: str) -> AlertsNotStored:
        """Alerts that need the hub have failed; the others are counted when the notification is repeated."""
        number = sum(one.outcome in (AlertOutcome.SUBMITTED, AlertOutcome.CANCELLED) for one in planned)
        self._count(AlertOutcome.FAILED, number)
        self._outages.failed("the hub", reason, "a notification was not stored", alerts=number, reason=reason)
        return AlertsNotStored(reason)
