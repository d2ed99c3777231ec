"""The worker: takes commands from its inbox, runs handlers in slots, reports what became of them, holds leases, drains.

Data flows one way: inbox → attempt → outcome → report on `hub.intake`. The engine alone decides what an attempt is worth.
"""

import asyncio
import os
import signal
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import structlog
import uuid_utils
from msgspec import MsgspecError, Raw, Struct, json

from schemas import COMMANDS, CancelAttempt, EngineAnnounced, GrantAttempt, RunAttempt, TaskError, WorkWanted, header_map
from schemas import reports as r

from ..errors import ConfigurationError, HubError
from ..kafka import (
    INTAKE,
    Outgoing,
    PartitionReader,
    Sender,
    StoredRecord,
    commands_topic,
    describe_partitions,
    ensure_pool,
    inbox_of,
)
from .attempts import STARTED_NUMBER, Attempt
from .context import Context
from .executor import run_attempt
from .heartbeats import Heartbeats
from .outcome import Cancelled, Failed, Outcome, Succeeded
from .registry import TaskRegistry

log = structlog.get_logger(__name__)

#: A body that is over within this time is not announced: its end says that it began (seconds).
STARTED_LINGER_SECONDS = 0.005

#: A start that is unannounced for so long was not announced because the loop is blocked (seconds).
BLOCKED_SECONDS = 0.2

#: With several engine partitions: a command that found no free slot is handed back after this time (seconds).
HOLD_SECONDS = 0.1

READ_RECORDS = 2_000
CHECK_SECONDS = 5.0
RECONNECT_SECONDS = 0.2

_DECODERS = {kind: json.Decoder(struct) for kind, struct in COMMANDS.items()}
_encoder = json.Encoder()


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """`slots`: bodies that run at once. `lease_seconds`: how long silence is not yet death. `grace_seconds`: for a drain."""

    pool: str = "default"
    queues: tuple[str, ...] = ("default",)
    slots: int = 64
    lease_seconds: float = 10.0
    grace_seconds: float = 30.0


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
        self._threads = ThreadPoolExecutor(self.settings.slots, thread_name_prefix="task")
        self._attempts: dict[str, Attempt] = {}
        self._waiting: deque[Attempt] = deque()
        self._unannounced: deque[Attempt] = deque()
        self._announcing: asyncio.TimerHandle | None = None
        self._running = 0
        self._credit: list[int] = []
        self._held: list[set[str]] = []
        self._event_ids = count(1)  # one step of the interpreter: the heartbeat thread counts here too
        self._draining = False
        self._stopped = False
        self._stop_asked = asyncio.Event()
        self._services: list[asyncio.Task[None]] = []
        self._bodies: set[asyncio.Task[None]] = set()
        self._heartbeats: Heartbeats | None = None
        self._reader: PartitionReader | None = None
        self._position = 0
        self.done = self.failed = self.cancelled = self.released = 0

    # Life

    async def run(self, *, handle_signals: bool = True) -> None:
        """Start, work until `stop` is asked for (by SIGTERM or SIGINT too), drain. A second signal ends the process at once."""
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
        await self.start()
        try:
            await self._stop_asked.wait()
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
        self._credit = shares(self.settings.slots, self.partitions)
        self._held = [set() for _ in range(self.partitions)]
        await self._sender.start()
        self._reader = await self._open_reader(None)
        self._heartbeats = Heartbeats(
            self._bootstrap,
            client_id=self._client_id,
            partitions=self.partitions,
            lease_seconds=self.settings.lease_seconds,
            beat=self._beat,
            before=self._unannounced_by_a_blocked_loop,
            on_lease_lost=partial(loop.call_soon_threadsafe, self._lease_lost),
        )
        await asyncio.to_thread(self._heartbeats.start)
        for partition in range(self.partitions):
            await self._sender.send(self._outgoing("worker.registered", self._about(r.WorkerRegistered, partition), partition))
        self._services = [loop.create_task(self._read_inbox(), name="worker-inbox")]
        if self.partitions > 1:
            self._services.append(loop.create_task(self._release_late(), name="worker-hold"))
        log.info("worker started", action="worker_started", incarnation=self.incarnation, tasks=self._registry.names)

    async def stop(self) -> None:
        """Drain: take nothing new, hand back what waits, finish what runs (within the grace time), say goodbye."""
        if self._stopped:
            return
        self._draining = self._stopped = True
        if self._heartbeats is None:
            await self._sender.stop()
            return
        await self._tell_all("worker.draining", r.WorkerDraining)
        while self._waiting:
            await self._release(self._waiting.popleft(), "drain")
        if self._bodies:
            await asyncio.wait(self._bodies, timeout=self.settings.grace_seconds)
        for attempt in list(self._attempts.values()):
            attempt.cancel("the worker stops")
        if self._bodies:
            await asyncio.wait(self._bodies, timeout=5)
        for service in self._services:
            service.cancel()
        await asyncio.wait(self._services)
        await self._sender.flush(timeout_seconds=5)
        await asyncio.to_thread(self._heartbeats.stop)
        await self._tell_all("worker.stopped", r.WorkerStopped)
        await self._close_reader()
        await self._sender.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        log.info("worker stopped", action="worker_stopped", incarnation=self.incarnation, done=self.done, failed=self.failed)

    async def _tell_all(self, kind: str, report: type[r.WorkerReport]) -> None:
        for partition in range(self.partitions):
            try:
                await self._sender.send(self._outgoing(kind, self._about(report, partition), partition), timeout_seconds=5)
            except HubError as error:
                log.warning("not told", action="worker_report_failed", report=kind, reason=str(error))
                return

    # The inbox

    async def _open_reader(self, position: int | None) -> PartitionReader:
        reader = PartitionReader(self._bootstrap, client_id=self._client_id)
        try:
            await reader.open(commands_topic(self.settings.pool), self.inbox, position or 0)
            if position is None:
                self._position = await reader.end_offset()
                reader.seek(self._position)
        except BaseException:
            await reader.close()
            raise
        return reader

    async def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _read_inbox(self) -> None:
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            try:
                if self._reader is None:
                    self._reader = await self._open_reader(self._position)
                records = await self._reader.read(READ_RECORDS, 500)
                if records:
                    heard_at = loop.time()
                elif loop.time() - heard_at > CHECK_SECONDS:
                    heard_at = loop.time()
                    await self._reader.ensure_moving()
            except (HubError, TimeoutError, OSError) as error:
                log.warning("inbox interrupted", action="worker_inbox_retry", reason=str(error) or repr(error))
                await self._close_reader()
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            for record in records:
                self._position = record.offset + 1
                await self._take(record)

    async def _take(self, record: StoredRecord) -> None:
        headers = header_map(record.headers)
        worker = headers.get("worker", b"").decode(errors="replace")
        if worker not in (self.incarnation, "*"):
            return
        try:
            command = _DECODERS[headers["ce_type"].decode()].decode(record.value or b"")
        except (KeyError, MsgspecError, UnicodeDecodeError) as error:
            log.warning("command unreadable", action="worker_command_unreadable", offset=record.offset, reason=repr(error))
            return
        match command:
            case RunAttempt():
                await self._accept(command)
            case CancelAttempt():
                await self._cancel(command)
            case GrantAttempt():
                if (attempt := self._attempts.get(command.token)) is not None:
                    attempt.granted.set()
            case EngineAnnounced() if self._heartbeats is not None:
                self._heartbeats.soon([command.partition])
            case WorkWanted():
                self._move_credit(command.partition)

    async def _accept(self, run: RunAttempt) -> None:
        if run.token in self._attempts:
            return
        attempt = Attempt(run, self._loop.time())
        self._attempts[run.token] = attempt
        self._held[run.partition].add(run.token)
        if self._draining:
            await self._release(attempt, "drain")
        elif self._running < self.settings.slots:
            self._begin(attempt)
        else:
            self._waiting.append(attempt)

    async def _cancel(self, command: CancelAttempt) -> None:
        attempt = self._attempts.get(command.token)
        if attempt is None:
            return
        if attempt.body is None:
            self._waiting.remove(attempt)
            await self._report(attempt, "attempt.cancelled", r.AttemptCancelled)
            self._forget(attempt)
            self.cancelled += 1
        else:
            attempt.cancel(command.reason)

    # Bodies

    def _begin(self, attempt: Attempt) -> None:
        self._running += 1
        attempt.began_at = time.monotonic()
        body = self._loop.create_task(self._body(attempt))
        attempt.body = body
        self._bodies.add(body)
        body.add_done_callback(self._bodies.discard)

    async def _body(self, attempt: Attempt) -> None:
        run = attempt.run
        try:
            definition = self._registry.get(run.name)
            context = attempt.context = Context(run, _Progress(self, attempt, self._loop))
            if run.delivery == "at_most_once" and not await self._granted(attempt):
                await self._report(attempt, "attempt.cancelled", r.AttemptCancelled)
                return
            if run.delivery != "at_most_once":
                self._announce_later(attempt)
            if definition is None:
                known = ", ".join(self._registry.names)
                error = TaskError(type="UnknownTask", message=f"this worker has no task {run.name!r}; it has {known}")
                outcome: Outcome = Failed(error, 0.0)
            else:
                attempt.on_loop = definition.is_async
                outcome = await run_attempt(
                    definition, context, bytes(run.args), threads=self._threads, timeout_seconds=run.timeout_seconds
                )
            await self._conclude(attempt, outcome)
        except asyncio.CancelledError:
            await self._conclude(attempt, Cancelled(0.0))
        finally:
            self._forget(attempt)
            self._running -= 1
            if self._waiting and not self._draining and self._running < self.settings.slots:
                self._begin(self._waiting.popleft())

    async def _granted(self, attempt: Attempt) -> bool:
        await self._announce(attempt)
        try:
            async with asyncio.timeout(attempt.run.start_seconds):
                await attempt.granted.wait()
        except TimeoutError:
            log.warning("no grant came", action="worker_not_granted", task=attempt.run.task)
            return False
        return True

    async def _conclude(self, attempt: Attempt, outcome: Outcome) -> None:
        match outcome:
            case Succeeded(result, ran_seconds):
                self.done += 1
                await self._report(attempt, "attempt.completed", r.AttemptCompleted, result=Raw(result), ran_seconds=ran_seconds)
            case Failed(error, ran_seconds, retry_after, timed_out):
                self.failed += 1
                await self._report(
                    attempt,
                    "attempt.failed",
                    r.AttemptFailed,
                    error=error,
                    retry_after=retry_after,
                    timed_out=timed_out,
                    ran_seconds=ran_seconds,
                )
            case Cancelled():
                self.cancelled += 1
                await self._report(attempt, "attempt.cancelled", r.AttemptCancelled)

    def _forget(self, attempt: Attempt) -> None:
        attempt.over = True
        attempt.context = None  # It knows the attempt in turn: left so, only the garbage collector could take the two apart.
        self._attempts.pop(attempt.run.token, None)
        self._held[attempt.run.partition].discard(attempt.run.token)

    async def _release(self, attempt: Attempt, reason: str) -> None:
        await self._report(attempt, "attempt.released", r.AttemptReleased, reason=reason)
        self._forget(attempt)
        self.released += 1

    async def _release_late(self) -> None:
        """Several partitions give credit on their own: together they may hand out more than there are slots."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HOLD_SECONDS / 2)
            while self._waiting and loop.time() - self._waiting[0].arrived_at > HOLD_SECONDS:
                await self._release(self._waiting.popleft(), "no free slot")

    # Reports

    def _announce_later(self, attempt: Attempt) -> None:
        self._unannounced.append(attempt)
        if self._announcing is None:
            self._announcing = self._loop.call_later(STARTED_LINGER_SECONDS, self._announce_due)

    def _announce_due(self) -> None:
        """One timer for all: announce the bodies that are still running after the linger."""
        self._announcing = None
        due = [attempt for attempt in self._unannounced if not attempt.over and not attempt.announced]
        self._unannounced.clear()
        if due:
            task = self._loop.create_task(self._announce_all(due))
            self._bodies.add(task)
            task.add_done_callback(self._bodies.discard)

    async def _announce_all(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            if not attempt.over and not attempt.announced:
                await self._announce(attempt)

    async def _announce(self, attempt: Attempt) -> None:
        attempt.announced = True
        await self._report(attempt, "attempt.started", r.AttemptStarted)

    async def _report(self, attempt: Attempt, kind: str, report: type[r.AttemptReport], **fields: object) -> None:
        await self._sender.post(self._report_of(attempt, kind, report, **fields))

    def _report_of(self, attempt: Attempt, kind: str, report: type[r.AttemptReport], **fields: object) -> Outgoing:
        run = attempt.run
        if report is not r.AttemptStarted:
            attempt.number += 1
        value = report(
            task=run.task,
            root=run.root,
            attempt=run.attempt,
            dispatch=run.dispatch,
            token=run.token,
            incarnation=self.incarnation,
            number=STARTED_NUMBER if report is r.AttemptStarted else attempt.number,
            **fields,
        )
        return self._outgoing(kind, value, run.partition, key=run.root)

    def _unannounced_by_a_blocked_loop(self) -> list[Outgoing]:
        """From the heartbeat thread: the starts of bodies that run, and that the loop could not announce because one of them
        blocks it. Otherwise they would look like commands that nobody started."""
        overdue = []
        for attempt in list(self._unannounced):
            blocked = time.monotonic() - attempt.began_at > BLOCKED_SECONDS
            if blocked and not attempt.over and not attempt.announced:
                attempt.announced = True
                overdue.append(self._report_of(attempt, "attempt.started", r.AttemptStarted))
        if overdue:
            log.warning("a handler blocks the worker's event loop", action="worker_loop_blocked", attempts=len(overdue))
        return overdue

    def _outgoing(self, kind: str, value: Struct, partition: int, *, key: str | None = None) -> Outgoing:
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_type", kind.encode()),
            ("ce_source", f"/worker/{self.incarnation}".encode()),
            ("ce_id", b"%d" % next(self._event_ids)),
            ("content-type", b"application/json"),
        )
        return Outgoing(INTAKE, partition, (key or self.incarnation).encode(), _encoder.encode(value), list(headers))

    # Leases and credit

    def _about(self, report: type[r.WorkerReport], partition: int, **more: object) -> r.WorkerReport:
        settings = self.settings
        return report(
            incarnation=self.incarnation,
            pool=settings.pool,
            inbox=self.inbox,
            queues=sorted(settings.queues),
            names=self._registry.names,
            slots=settings.slots,
            credit=0 if self._draining else self._credit[partition],
            lease_seconds=settings.lease_seconds,
            host=socket.gethostname(),
            pid=os.getpid(),
            **more,
        )

    def _beat(self, partition: int) -> Outgoing:
        """From the heartbeat thread."""
        holding = sorted(self._held[partition].copy())
        report = r.WorkerDraining if self._draining else r.WorkerHeartbeat
        more = {} if self._draining else {"holding": holding}
        kind = "worker.draining" if self._draining else "worker.heartbeat"
        return self._outgoing(kind, self._about(report, partition, **more), partition)

    def _lease_lost(self) -> None:
        """No heartbeat was acknowledged for most of a lease: stop what cannot be renewed, before somebody else runs it."""
        log.error("leases lost", action="worker_leases_lost", incarnation=self.incarnation, attempts=len(self._attempts))
        for attempt in list(self._attempts.values()):
            attempt.cancel("the lease was lost")

    def _move_credit(self, partition: int) -> None:
        """`partition` has work and no credit: give it what lies idle elsewhere, in one step each."""
        if self._draining:
            return
        idle = [self._credit[other] - len(self._held[other]) for other in range(self.partitions)]
        idle[partition] = 0
        giver = max(range(self.partitions), key=lambda other: idle[other])
        amount = min((idle[giver] + 1) // 2, self._credit[giver] - 1)
        if amount <= 0 or self._heartbeats is None:
            return
        self._credit[giver] -= amount
        self._credit[partition] += amount
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
        }


class _Progress:
    """`ctx.progress`, callable from the handler's thread."""

    __slots__ = ("_attempt", "_loop", "_worker")

    def __init__(self, worker: Worker, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
        self._worker, self._attempt, self._loop = worker, attempt, loop

    def __call__(self, percent: float | None, message: str) -> None:
        self._loop.call_soon_threadsafe(self._start, percent, message)

    def _start(self, percent: float | None, message: str) -> None:
        task = self._loop.create_task(self._send(percent, message))
        self._worker._bodies.add(task)
        task.add_done_callback(self._worker._bodies.discard)

    async def _send(self, percent: float | None, message: str) -> None:
        attempt = self._attempt
        if attempt.over:
            return
        if not attempt.announced:
            await self._worker._announce(attempt)
        await self._worker._report(attempt, "attempt.progressed", r.AttemptProgressed, percent=percent, message=message)


def shares(slots: int, partitions: int) -> list[int]:
    """Credit per partition: the slots shared out, at least one each."""
    return [max(1, slots // partitions + (1 if index < slots % partitions else 0)) for index in range(partitions)]
