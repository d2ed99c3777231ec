"""Reports of attempts: starts, after a short linger, progress, and ends."""

import asyncio
from functools import partial

from schemas import reports as r

from ..errors import HubError
from ..kafka import Outgoing
from ..logs import Logger
from ..service import ServiceTasks
from .attempts import Attempt
from .effects import Standing
from .outcome import Cancelled, Failed, Outcome, Succeeded, in_short
from .reports import ReportBuilder, Reports
from .shared import Locked, LoopCalls
from .slots import Slots

log = Logger(__name__)

#: The start of a body that ends within this time (seconds) is not reported separately: its end implies the start.
STARTED_LINGER_SECONDS = 0.005

#: Maximum length of a progress message (characters); longer ones are truncated.
MESSAGE_MAX = 1_000

#: Timeout of a report that the worker drains or has stopped (seconds).
WORKER_REPORT_SECONDS = 5.0


class Reporting:
    """Sends the reports of one desk and counts the outcomes. Use from its event loop; only `progress` may be called from any
    thread."""

    def __init__(
        self,
        reports: Reports,
        builder: ReportBuilder,
        desk: Locked[Slots],
        tasks: ServiceTasks,
        calls: LoopCalls,
        linger_seconds: float = STARTED_LINGER_SECONDS,
    ) -> None:
        self._reports = reports
        self._builder = builder
        self._desk = desk
        self._tasks = tasks
        self._calls = calls
        self._linger_seconds = linger_seconds
        self._linger: asyncio.Handle | None = None
        self._starting: asyncio.Task[None] | None = None
        self.done = self.failed = self.cancelled = self.released = 0

    # Starts

    def begun(self, attempt: Attempt, now: float) -> None:
        """Report after the linger that a body began at `now`, unless it has ended by then."""
        with self._desk as desk:
            desk.starts.add(attempt, now)
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_soon(self._begin_linger)

    def _begin_linger(self) -> None:
        """No timer for bodies that have ended in the turn of the event loop in which they began."""
        with self._desk as desk:
            pending = desk.starts.any_pending
        if not pending:
            self._linger = None
        elif self._linger_seconds:
            self._linger = asyncio.get_running_loop().call_later(self._linger_seconds, self._linger_over)
        else:
            self._linger_over()

    def _linger_over(self) -> None:
        """One timer for all pending starts."""
        self._linger = None
        with self._desk as desk:
            due = desk.starts.claim_all()
        if due:
            self._starting = self._tasks.start(self._report_starts(due))

    async def _report_starts(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            if not self._is_over(attempt):
                await self._reports.post(self._builder.started(attempt))

    async def start(self, attempt: Attempt) -> None:
        """Report now that the body has begun, or requests its grant, unless this is already reported. Returns after a report of
        several starts that is on its way."""
        with self._desk as desk:
            ours = desk.starts.claim(attempt)
        if ours:
            await self._reports.post(self._builder.started(attempt))
        elif self._starting is not None and not self._starting.done():
            await asyncio.wait({self._starting})

    def _is_over(self, attempt: Attempt) -> bool:
        with self._desk:
            return attempt.over

    # Progress

    def progress(self, attempt: Attempt, percent: float | None, message: str) -> None:
        """`ctx.progress`, from the thread of the handler."""
        self._calls.call(self._begin_progress, attempt, percent, message[:MESSAGE_MAX])

    def _begin_progress(self, attempt: Attempt, percent: float | None, message: str) -> None:
        self._tasks.start(self._send_progress(attempt, percent, message))

    async def _send_progress(self, attempt: Attempt, percent: float | None, message: str) -> None:
        if self._is_over(attempt):
            return
        await self.start(attempt)
        if self._is_over(attempt):
            return
        await self._reports.post(self._builder.of_attempt(attempt, r.AttemptProgressed, percent=percent, message=message))

    # Ends

    async def conclude(self, attempt: Attempt, outcome: Outcome) -> None:
        """Report the outcome of a body; if it cannot be sent, a shortened one. If that fails too, the next heartbeats no longer
        name the attempt, and the engine treats it as lost."""
        try:
            await self._end(attempt, self._builder.ended(attempt, outcome))
        except Exception as error:
            about = {"task": attempt.command.task, "name": attempt.command.name}
            log.exception("could not send the outcome of an attempt", action="worker_end_unsendable", **about)
            try:
                await self._end(attempt, self._builder.ended(attempt, outcome := in_short(outcome, error)))
            except Exception:
                log.exception("outcome not reported; the engine will treat it as lost", action="worker_end_unreported", **about)
                self._settle(attempt)
                return
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        match outcome:
            case Succeeded():
                self.done += 1
            case Failed():
                self.failed += 1
            case Cancelled():
                self.cancelled += 1

    async def cancel(self, attempt: Attempt) -> None:
        """Report that an attempt was cancelled."""
        await self._end(attempt, self._builder.of_attempt(attempt, r.AttemptCancelled))
        self.cancelled += 1

    async def release(self, attempt: Attempt, reason: str) -> None:
        """Report that an attempt is released without a start."""
        await self._end(attempt, self._builder.of_attempt(attempt, r.AttemptReleased, reason=reason))
        self.released += 1

    async def _end(self, attempt: Attempt, report: Outgoing) -> None:
        """Report the end of an attempt. Its lease is held until the report is stored: the engine treats an attempt whose lease
        is no longer held as lost."""
        with self._desk as desk:
            desk.over(attempt)
        await self._reports.post(report, partial(self._settle, attempt))

    def _settle(self, attempt: Attempt) -> None:
        with self._desk as desk:
            desk.settle(attempt)

    # The worker itself

    async def heartbeat(self, partition: int, standing: Standing) -> None:
        """Post a heartbeat in order with the other reports."""
        await self._reports.post(self._builder.heartbeat(partition, standing))

    async def register(self, partitions: int) -> None:
        """Register the worker and its definitions with each engine partition. Raises HubError."""
        for partition in range(partitions):
            await self._reports.send(self._of_worker(r.WorkerRegistered, partition))

    async def leave(self, report: type[r.WorkerReport], partitions: int) -> None:
        """Report to each engine partition that the worker drains or has stopped. A failure is logged; the engine then detects the
        end of the worker by its leases."""
        for partition in range(partitions):
            try:
                await self._reports.send(self._of_worker(report, partition), timeout_seconds=WORKER_REPORT_SECONDS)
            except HubError as error:
                about = {"report": report.__name__, "reason": str(error)}
                log.warning("worker status report not delivered", action="worker_report_failed", **about)
                return

    def _of_worker(self, report: type[r.WorkerReport], partition: int) -> Outgoing:
        with self._desk as desk:
            standing = desk.standing(partition, describe=report is r.WorkerRegistered)
        return self._builder.of_worker(report, partition, standing)
