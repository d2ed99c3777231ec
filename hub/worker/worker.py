"""The worker: takes commands from its inbox, runs handlers in slots, reports what became of them, holds leases, drains.

Data flows one way: inbox → attempt → outcome → report on `hub.intake`. The engine alone decides what an attempt is worth.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any

import structlog
import uuid_utils
from msgspec import Raw

from schemas import CancelAttempt, EngineAnnounced, GrantAttempt, RunAttempt, TaskError, WorkWanted, quoted
from schemas import reports as r

from ..errors import ConfigurationError, HubError
from ..kafka import (
    Outgoing,
    Sender,
    StoredRecord,
    commands_topic,
    describe_partitions,
    ensure_pool,
    inbox_of,
)
from .announcements import Announcements
from .attempts import Attempt
from .commands import CommandReader
from .context import Context
from .executor import run_attempt
from .heartbeats import Heartbeats
from .holdings import Holdings
from .inbox import Inbox
from .outcome import Cancelled, Failed, Outcome, Succeeded, error_of, in_short
from .recent import RecentTokens
from .registry import TaskRegistry
from .settings import WorkerFailed, WorkerSettings
from .threads import DaemonThreads
from .turns import Turns
from .words import Words

log = structlog.get_logger(__name__)

#: A body that is over within this time is not announced: its end says that it began (seconds).
STARTED_LINGER_SECONDS = 0.005

#: A start that is unannounced for so long was not announced because the loop is blocked (seconds).
BLOCKED_SECONDS = 0.2

#: Characters of a progress message that are sent.
MESSAGE_MAX = 1_000

#: With several engine partitions: a command that found no free slot is handed back after this time (seconds).
HOLD_SECONDS = 0.1


class Worker:
    """One incarnation of a worker. `await worker.run()` until it is drained, or `start` and `stop`."""

    def __init__(self, bootstrap: str, registry: TaskRegistry, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        if not registry.names:
            raise ConfigurationError("The registry has no tasks: register some with @tasks.task(...) before the worker starts.")
        if self.settings.slots < 1:
            raise ConfigurationError("slots must be at least 1.")
        self.incarnation = str(uuid_utils.uuid7())
        self.inbox = inbox_of(self.incarnation)
        self.partitions = 0
        self._bootstrap = bootstrap
        self._registry = registry
        self._client_id = f"hub-worker-{os.getpid()}"
        self._sender = Sender(bootstrap, client_id=self._client_id)
        self._threads = DaemonThreads(self.settings.slots, name="task")
        self._commands = CommandReader(self.incarnation)
        self._attempts: dict[str, Attempt] = {}
        self._ended = RecentTokens()
        self._waiting: deque[Attempt] = deque()
        self._starts = Announcements()
        self._announcing: asyncio.TimerHandle | None = None
        self._running = 0
        self._hung = 0
        self._exhausted: asyncio.TimerHandle | None = None
        self._busy_threads: set[Future[Any]] = set()
        self._turns = Turns()
        self._failure: BaseException | None = None
        self._holdings = Holdings(self.settings.slots)
        self._words = Words(self.incarnation)
        self._registered = False
        self._draining = False
        self._stopped = False
        self._stop_asked = asyncio.Event()
        self._services: list[asyncio.Task[None]] = []
        self._bodies: set[asyncio.Task[None]] = set()
        self._heartbeats: Heartbeats | None = None
        self._inbox = Inbox(bootstrap, commands_topic(self.settings.pool), self.inbox, client_id=self._client_id)
        self.done = self.failed = self.cancelled = self.released = 0

    # Life

    async def run(self, *, handle_signals: bool = True) -> None:
        """Start, work until `stop` is asked for (by SIGTERM or SIGINT too), drain. A second signal ends the process at once.

        Raises WorkerFailed when it cannot continue."""
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
        try:
            await self.start()
            await self.watch()
        finally:
            await self.stop()

    def _on_signal(self) -> None:
        if self._stop_asked.is_set():
            os._exit(1)
        self._stop_asked.set()

    async def start(self) -> None:
        """Connect, find the end of the inbox, then register with every engine partition. Raises HubError."""
        loop = self._loop = asyncio.get_running_loop()
        self.partitions = await describe_partitions(self._bootstrap)
        await ensure_pool(self._bootstrap, self.settings.pool)
        self._holdings.open(self.partitions)
        self._commands.partitions = self.partitions
        await self._sender.start()
        await self._inbox.open()
        self._heartbeats = Heartbeats(
            self._bootstrap,
            client_id=self._client_id,
            partitions=self.partitions,
            lease_seconds=self.settings.lease_seconds,
            beat=self._beat,
            before=self._unannounced_by_a_blocked_loop,
            on_lease_lost=lambda partition: loop.call_soon_threadsafe(self._lease_lost, partition),
            on_failed=lambda error: loop.call_soon_threadsafe(self._fail, error),
        )
        await asyncio.to_thread(self._heartbeats.start)
        self._registered = True
        for partition in range(self.partitions):
            await self._sender.send(
                self._words.outgoing("worker.registered", self._about(r.WorkerRegistered, partition), partition)
            )
        self._service(self._inbox.read(self._take), "the inbox")
        if self.partitions > 1:
            self._service(self._release_late(), "the handing back of what finds no slot")
        log.info("worker started", action="worker_started", incarnation=self.incarnation, tasks=self._registry.names)

    async def stop(self) -> None:
        """Drain: take nothing new, hand back what waits, finish what runs (within the grace time), say goodbye, disconnect. Also
        after a `start` that failed, wherever it did."""
        if self._stopped:
            return
        self._draining = self._stopped = True
        try:
            if self._registered:
                await self._drain()
        finally:
            await self._disconnect()
        log.info("worker stopped", action="worker_stopped", incarnation=self.incarnation, done=self.done, failed=self.failed)

    async def _drain(self) -> None:
        await self._tell_all("worker.draining", r.WorkerDraining)
        while self._waiting:
            await self._release(self._waiting.popleft(), "drain")
        if self._bodies:
            await asyncio.wait(self._bodies, timeout=self.settings.grace_seconds)
        for attempt in list(self._attempts.values()):
            attempt.cancel("the worker stops")
        if self._bodies:
            await asyncio.wait(self._bodies, timeout=5)
        await self._end_services()
        await self._sender.flush(timeout_seconds=5)
        await self._end_heartbeats()
        await self._tell_all("worker.stopped", r.WorkerStopped)

    async def _disconnect(self) -> None:
        await self._end_services()
        await self._end_heartbeats()
        await self._inbox.close()
        await self._sender.stop()
        self._threads.shutdown(wait=False)

    async def _end_services(self) -> None:
        for service in self._services:
            service.cancel()
        if self._services:
            await asyncio.wait(self._services)

    async def _end_heartbeats(self) -> None:
        if self._heartbeats is not None:
            await asyncio.to_thread(self._heartbeats.stop)

    async def _tell_all(self, kind: str, report: type[r.WorkerReport]) -> None:
        for partition in range(self.partitions):
            try:
                await self._sender.send(self._words.outgoing(kind, self._about(report, partition), partition), timeout_seconds=5)
            except HubError as error:
                log.warning("report not stored", action="worker_report_failed", report=kind, reason=str(error))
                return

    # The inbox

    async def _take(self, record: StoredRecord) -> None:
        match self._commands.read(record):
            case RunAttempt() as command:
                await self._accept(command)
            case CancelAttempt() as command:
                await self._cancel(command)
            case GrantAttempt() as command:
                if (attempt := self._attempts.get(command.token)) is not None:
                    attempt.granted.set()
            case EngineAnnounced() as command if self._heartbeats is not None:
                self._heartbeats.soon([command.partition])
            case WorkWanted() as command:
                self._move_credit(command.partition)

    async def _accept(self, run: RunAttempt) -> None:
        if run.token in self._attempts or run.token in self._ended:
            return  # A command that is there twice runs once.
        attempt = Attempt(run, self._loop.time())
        attempt.context = Context(run, partial(self._progress, attempt))
        self._attempts[run.token] = attempt
        self._holdings.accept(run.partition, run.token)
        if self._draining:
            await self._release(attempt, "drain")
        elif self._may_begin(attempt):
            self._begin(attempt)
        else:
            self._waiting.append(attempt)

    async def _cancel(self, command: CancelAttempt) -> None:
        attempt = self._attempts.get(command.token)
        if attempt is None:
            return
        if attempt in self._waiting:
            self._waiting.remove(attempt)
            await self._end(attempt, "attempt.cancelled", r.AttemptCancelled)
            self.cancelled += 1
        else:
            attempt.cancel(command.reason)

    # Bodies

    def _may_begin(self, attempt: Attempt) -> bool:
        return self._turns.may_begin(attempt.run.partition, self.settings.slots - self._running, self._loop.time())

    def _begin(self, attempt: Attempt) -> None:
        self._running += 1
        self._turns.begin(attempt.run.partition)
        attempt.began_at = time.monotonic()
        body = self._loop.create_task(self._body(attempt))
        attempt.body = body
        self._bodies.add(body)
        body.add_done_callback(self._bodies.discard)

    async def _body(self, attempt: Attempt) -> None:
        run, context = attempt.run, attempt.context
        assert context is not None
        definition = self._registry.get(run.name)
        try:
            attempt.interruptible = True
            if context.cancelled:  # Together with the command, or while it waited for a slot.
                outcome: Outcome = Cancelled(0.0)
            elif run.delivery == "at_most_once" and not await self._granted(attempt):
                outcome = Cancelled(0.0)
            elif definition is None:
                known = ", ".join(self._registry.names)
                error = TaskError(type="UnknownTask", message=f"this worker has no task {quoted(run.name)}; it has {known}")
                outcome = Failed(error, 0.0)
            else:
                if run.delivery != "at_most_once":
                    self._announce_later(attempt)
                attempt.interruptible = definition.is_async
                outcome = await run_attempt(
                    definition,
                    context,
                    bytes(run.args),
                    threads=self._threads,
                    timeout_seconds=run.timeout_seconds,
                    on_thread=partial(self._in_thread, attempt),
                )
        except asyncio.CancelledError:
            outcome = Cancelled(0.0)
        except GeneratorExit:
            raise  # The loop is being thrown away.
        except BaseException as error:
            log.exception("a body broke the worker's own code", action="worker_body_failed", task=run.task, name=run.name)
            outcome = Failed(error_of(error), 0.0)
        attempt.concluding = True
        try:
            await self._conclude_somehow(attempt, outcome)
        finally:
            self._forget(attempt)
            self._free_slot(attempt)

    def _in_thread(self, attempt: Attempt, future: "Future[Any]") -> None:
        attempt.thread = future
        self._busy_threads.add(future)
        future.add_done_callback(self._busy_threads.discard)

    @property
    def busy_threads(self) -> int:
        """Plain functions that run, also those whose attempt is over."""
        return len(self._busy_threads)

    def _free_slot(self, attempt: Attempt) -> None:
        """Its place is free for another, once a thread that it left behind has come to its end, too."""
        thread = attempt.thread
        if thread is not None and not thread.done():
            attempt.thread = None
            self._hung += 1
            log.warning(
                "a function continues after its attempt is over, and keeps its slot",
                action="worker_function_hangs",
                task=attempt.run.task,
                name=attempt.run.name,
                hung=self._hung,
                slots=self.settings.slots,
            )
            thread.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._came_back, attempt))
            self._credit_changed()
            if self._hung >= self.settings.slots:
                self._exhausted = self._loop.call_later(self.settings.grace_seconds, self._give_up)
            return
        self._running -= 1
        self._fill()

    def _fill(self) -> None:
        """Free slots go to what waits, first come, first served; else they are offered to partitions that were refused."""
        free = self.settings.slots - self._running
        if self._draining or free <= 0:
            return
        told = self._turns.keep(self._loop.time())
        while (attempt := next(filter(self._may_begin, self._waiting), None)) is not None:
            self._waiting.remove(attempt)
            self._begin(attempt)
        free = self.settings.slots - self._running
        if free > 0 and not self._waiting:
            told += self._turns.offer(free, self._loop.time())
        if told and self._heartbeats is not None:
            self._heartbeats.soon(told)

    def _came_back(self, attempt: Attempt) -> None:
        self._hung -= 1
        if self._exhausted is not None:
            self._exhausted.cancel()
            self._exhausted = None
        self._free_slot(attempt)
        self._credit_changed()

    def _give_up(self) -> None:
        slots, grace = self.settings.slots, self.settings.grace_seconds
        log.error("no slot is free, and none will be", action="worker_exhausted", slots=slots, grace_seconds=grace)
        self._fail(
            WorkerFailed(
                f"Every one of {slots} slots is held by a function that did not end after its timeout. "
                "The worker ends, since threads cannot be ended; let such functions look at ctx.cancelled."
            )
        )

    def _credit_changed(self) -> None:
        if self._heartbeats is not None:
            self._heartbeats.soon(range(self.partitions))

    def _fail(self, error: BaseException) -> None:
        """This worker cannot continue: `run` and `watch` raise `error`."""
        if self._failure is None and not self._stopped:
            log.error("the worker cannot continue", action="worker_failed", reason=str(error) or repr(error))
            self._failure = error
        self._stop_asked.set()

    def _service(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        task.add_done_callback(self._service_over)
        self._services.append(task)

    def _service_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._fail(task.exception() or WorkerFailed(f"{task.get_name()} has ended"))

    async def watch(self) -> None:
        """Until `stop` is asked for; raises what keeps the worker from continuing."""
        await self._stop_asked.wait()
        if self._failure is not None:
            raise WorkerFailed(str(self._failure) or repr(self._failure)) from self._failure

    async def _granted(self, attempt: Attempt) -> bool:
        await self._announce(attempt)
        try:
            async with asyncio.timeout(attempt.run.start_seconds):
                await attempt.granted.wait()
        except TimeoutError:
            log.warning("no grant came", action="worker_not_granted", task=attempt.run.task)
            return False
        return True

    async def _conclude_somehow(self, attempt: Attempt, outcome: Outcome) -> None:
        """Its end, else in short that it could not be reported; else the engine is to miss it."""
        run = attempt.run
        try:
            await self._conclude(attempt, outcome)
        except Exception as error:
            log.exception("an end cannot be sent", action="worker_end_unsendable", task=run.task, name=run.name)
            try:
                await self._conclude(attempt, in_short(outcome, error))
            except Exception:
                log.exception("the end of an attempt was not reported", action="worker_end_untold", task=run.task, name=run.name)
                self._holdings.settle(run.partition, run.token)

    async def _conclude(self, attempt: Attempt, outcome: Outcome) -> None:
        match outcome:
            case Succeeded(result, ran_seconds):
                await self._end(attempt, "attempt.completed", r.AttemptCompleted, result=Raw(result), ran_seconds=ran_seconds)
                self.done += 1
            case Failed(error, ran_seconds, retry_after, timed_out):
                await self._end(
                    attempt,
                    "attempt.failed",
                    r.AttemptFailed,
                    error=error,
                    retry_after=retry_after,
                    timed_out=timed_out,
                    ran_seconds=ran_seconds,
                )
                self.failed += 1
            case Cancelled():
                await self._end(attempt, "attempt.cancelled", r.AttemptCancelled)
                self.cancelled += 1

    async def _end(self, attempt: Attempt, kind: str, report: type[r.AttemptReport], **fields: object) -> None:
        """The end of an attempt. It counts as held until that is stored: the engine misses what is no longer held."""
        run = attempt.run
        self._forget(attempt)
        outgoing = self._words.of_attempt(attempt, kind, report, **fields)
        await self._sender.post(outgoing, partial(self._holdings.settle, run.partition, run.token))

    def _forget(self, attempt: Attempt) -> None:
        self._starts.end(attempt)
        attempt.context = None  # It knows the attempt in turn: left so, only the garbage collector could take the two apart.
        if self._attempts.pop(attempt.run.token, None) is not None:
            self._holdings.put_down(attempt.run.partition)
            self._ended.add(attempt.run.token)

    async def _release(self, attempt: Attempt, reason: str) -> None:
        await self._end(attempt, "attempt.released", r.AttemptReleased, reason=reason)
        self.released += 1

    async def _release_late(self) -> None:
        """Several partitions give credit on their own: together they may hand out more than there are slots. What waits too long
        goes back, with word that its partition gets no more here until a slot is free."""
        while True:
            await asyncio.sleep(HOLD_SECONDS / 2)
            while self._waiting and self._loop.time() - self._waiting[0].arrived_at > HOLD_SECONDS:
                await self._hand_back(self._waiting.popleft())
            self._fill()

    async def _hand_back(self, attempt: Attempt) -> None:
        partition = attempt.run.partition
        self._turns.refuse(partition, self._loop.time())
        self._forget(attempt)
        report = self._about(r.WorkerHeartbeat, partition, holding=self._holdings.held(partition))
        await self._sender.post(self._words.outgoing("worker.heartbeat", report, partition))
        await self._release(attempt, "no free slot")

    # Reports

    def _announce_later(self, attempt: Attempt) -> None:
        self._starts.add(attempt)
        if self._announcing is None:
            self._announcing = self._loop.call_later(STARTED_LINGER_SECONDS, self._announce_due)

    def _announce_due(self) -> None:
        """One timer for all: announce the bodies that are still running after the linger."""
        self._announcing = None
        due = self._starts.claim_all()
        if due:
            task = self._loop.create_task(self._report_starts(due))
            self._bodies.add(task)
            task.add_done_callback(self._bodies.discard)

    async def _report_starts(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            if not attempt.over:
                await self._report(attempt, "attempt.started", r.AttemptStarted)

    async def _announce(self, attempt: Attempt) -> None:
        if self._starts.claim(attempt):
            await self._report(attempt, "attempt.started", r.AttemptStarted)

    def _progress(self, attempt: Attempt, percent: float | None, message: str) -> None:
        """`ctx.progress`, from the handler's thread."""
        self._loop.call_soon_threadsafe(self._begin_progress, attempt, percent, message[:MESSAGE_MAX])

    def _begin_progress(self, attempt: Attempt, percent: float | None, message: str) -> None:
        task = self._loop.create_task(self._send_progress(attempt, percent, message))
        self._bodies.add(task)
        task.add_done_callback(self._bodies.discard)

    async def _send_progress(self, attempt: Attempt, percent: float | None, message: str) -> None:
        if attempt.over:
            return
        await self._announce(attempt)
        await self._report(attempt, "attempt.progressed", r.AttemptProgressed, percent=percent, message=message)

    async def _report(self, attempt: Attempt, kind: str, report: type[r.AttemptReport], **fields: object) -> None:
        await self._sender.post(self._words.of_attempt(attempt, kind, report, **fields))

    def _unannounced_by_a_blocked_loop(self) -> list[Outgoing]:
        """From the heartbeat thread: the starts of bodies that run, and that the loop could not announce because one of them
        blocks it. Otherwise they would look like commands that nobody started."""
        blocked = self._starts.claim_older(time.monotonic() - BLOCKED_SECONDS)
        overdue = [self._words.of_attempt(attempt, "attempt.started", r.AttemptStarted) for attempt in blocked]
        if overdue:
            log.warning("a handler blocks the worker's event loop", action="worker_loop_blocked", attempts=len(overdue))
        return overdue

    # Leases and credit

    def _about(self, report: type[r.WorkerReport], partition: int, **more: object) -> r.WorkerReport:
        settings = self.settings
        return report(
            incarnation=self.incarnation,
            pool=settings.pool,
            inbox=self.inbox,
            queues=sorted(settings.queues),
            names=self._registry.names,
            options=self._registry.options,
            slots=settings.slots,
            credit=0 if self._draining else self._credit_of(partition),
            lease_seconds=settings.lease_seconds,
            host=socket.gethostname(),
            pid=os.getpid(),
            **more,
        )

    def _credit_of(self, partition: int) -> int:
        """How much this partition may have here. From any thread."""
        return self._holdings.credit(partition, hung=self._hung, refused=self._turns.is_refused(partition))

    def _beat(self, partition: int) -> Outgoing:
        """From the heartbeat thread."""
        report = r.WorkerDraining if self._draining else r.WorkerHeartbeat
        more = {} if self._draining else {"holding": self._holdings.held(partition)}
        kind = "worker.draining" if self._draining else "worker.heartbeat"
        return self._words.outgoing(kind, self._about(report, partition, **more), partition)

    def _lease_lost(self, partition: int) -> None:
        """No heartbeat was acknowledged for most of a lease: stop what cannot be renewed, before somebody else runs it."""
        ours = [attempt for attempt in self._attempts.values() if attempt.run.partition == partition]
        log.log(
            logging.ERROR if ours else logging.DEBUG,  # nothing was running there: nothing is lost
            "leases lost",
            action="worker_leases_lost",
            incarnation=self.incarnation,
            partition=partition,
            attempts=len(ours),
        )
        for attempt in ours:
            if attempt in self._waiting:
                self._waiting.remove(attempt)
                self._forget(attempt)
                self._holdings.settle(partition, attempt.run.token)
            else:
                attempt.cancel("the lease was lost")

    def _move_credit(self, partition: int) -> None:
        """`partition` has work and no credit: give it what lies idle elsewhere, in one step each."""
        if self._draining or self._heartbeats is None:
            return
        giver = self._holdings.move_credit(partition)
        if giver is not None:
            self._heartbeats.soon([giver, partition])

    def stats(self) -> dict[str, int]:
        """What this incarnation has in hand, and has done."""
        return {
            "slots": self.settings.slots,
            "running": self._running,
            "waiting": len(self._waiting),
            "done": self.done,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "released": self.released,
            "malformed": self._commands.malformed,
        }
