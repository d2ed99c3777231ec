"""One engine partition as a value: `process(records, now_us) -> Batch`. No IO, no clock.

The same object runs in the engine's loop, inside the broker's process, in a simulation and in a benchmark. State is
changed in place; when the batch it gave is not committed for certain, the object is dropped and another is restored.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, Struct, ValidationError, json

from schemas import EngineAnnounced, Submission, TaskReply, header_map
from schemas import events as e
from schemas import reports as r

from ..core import limits
from ..core.admission import Duplicate, Origin, admit, identify
from ..core.attempts import Refusal, on_report
from ..core.consequences import place, reply_of, reply_of_ended, settle
from ..core.dispatch import dispatch
from ..core.due import create_nodes, request_cancel, take_due
from ..core.graph import Refused, check_plan
from ..core.limits import check_cancel
from ..core.rows import (
    EMPTY,
    META_KEY,
    EndedRow,
    MetaRow,
    ended_row_decoder,
    engine_row_decoder,
    meta_row_decoder,
    task_row_decoder,
    worker_row_decoder,
)
from ..core.state import PartitionState, Task
from ..core.times import SECOND_US
from ..core.turn import Command, Happened, Reply, Turn
from ..core.workers import (
    check_worker,
    forgive_silence,
    judge_leases,
    judge_starts,
    next_judgement,
    on_worker_lost,
    on_worker_report,
)
from ..kafka import INBOX_PARTITIONS, StoredRecord, partition_of
from .changelog import rows_of
from .reading import DECODERS, Unreadable, content_of, decode_report, reply_address, text_of_header

#: Entries of the ended index that are tombstoned in one turn, and how long expired ones may lie while nothing else happens.
EXPIRED_PER_TURN = 500
EXPIRY_SLACK_US = 60 * SECOND_US

#: Clients that one task answers at its end; the longest waiting go first, and ask again if they still wait.
WAITERS_MAX = 1_000


class EngineSettings(Struct, frozen=True, kw_only=True):
    """`retention_seconds`: how long an ended task's id stays known. `ended_entries_max`: bound of the ended index.
    `waiting_max`: live tasks per partition; beyond it submissions are refused."""

    retention_seconds: float = 3_600.0
    ended_entries_max: int = 1_000_000
    waiting_max: int = 1_000_000


class Batch(NamedTuple):
    """What one transaction writes. `rows` are changelog entries (None: tombstone); `offset` the next input to decide."""

    events: list[Happened]
    commands: list[Command]
    rows: list[tuple[bytes, bytes | None]]
    replies: list[Reply]
    forwards: list[tuple[int, StoredRecord]]
    offset: int
    epoch: int
    now_us: int

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit (heartbeats only)."""
        return not (self.events or self.commands or self.rows or self.replies or self.forwards)


class Undecidable(Exception):
    """Deciding the records from offset `first` to `last` went wrong half-way: the state is spoiled, restore the partition.

    A record that does this alone is set aside then (`EnginePartition.undecidable`): it stops the partition once, not for ever."""

    def __init__(self, first: int, last: int, reason: str) -> None:
        super().__init__(f"records {first} to {last}: {reason}")
        self.first, self.last, self.reason = first, last, reason


class EnginePartition:
    """See the module. Use: construct, `restore` the changelog's rows, `take_over`, then `process` batch after batch."""

    def __init__(self, partition: int, partitions: int, settings: EngineSettings | None = None) -> None:
        self.partition = partition
        self.partitions = partitions
        self.settings = settings or EngineSettings()
        self.state = PartitionState(ended_entries_max=self.settings.ended_entries_max)
        self.offset = 0
        self.epoch = 0
        self.now_us = 0
        self.created_us = 0
        self.events_floor = 0
        self.undecidable: dict[int, str] = {}
        self._judged = False

    # Restoring and taking over

    def restore(self, rows: Iterable[tuple[bytes, bytes]], now_us: int) -> int:
        """Build the state from the last row of every key; returns how many rows there were. Once, on a fresh object."""
        tasks: dict[str, Task] = {}
        args: dict[str, bytes] = {}
        plans: dict[str, bytes] = {}
        count = 0
        ended: list[tuple[str, EndedRow, bytes]] = []
        for key, value in rows:
            count += 1
            kind, _, name = key.decode().partition("/")
            if kind == "task":
                if value.startswith(b'{"ended"'):
                    ended.append((name, ended_row_decoder.decode(value), value))
                else:
                    tasks[name] = Task(name, task_row_decoder.decode(value), EMPTY)
            elif kind == "args":
                args[name] = value
            elif kind == "plan":
                plans[name] = value
            elif kind == "worker":
                self.state.worker_rows[name] = worker_row_decoder.decode(value)
            elif kind == "engine":
                self.state.engine_row = engine_row_decoder.decode(value)
            elif key == META_KEY:
                self._restore_meta(meta_row_decoder.decode(value))
        for entry in sorted(ended, key=lambda entry: entry[1].until_us):
            self.state.ended.put(*entry)
        for name, task in tasks.items():
            task.args_row, task.plan_row = name in args, name in plans
            task.args = Raw(args[name]) if task.args_row else task.row.args or EMPTY
            if task.plan_row:
                nodes = json.decode(plans[name], type=Submission.__annotations__["tasks"])
                plan = check_plan(nodes)
                assert not isinstance(plan, Refused), "a plan that was admitted is a plan"
                task.plan = plan
        self.now_us = max(self.now_us, now_us)
        self.state.restored(tasks.values(), self.now_us)
        self._retire_orphans(tasks)
        return count

    def _restore_meta(self, meta: MetaRow) -> None:
        assert meta.partitions == self.partitions, (
            f"partition {self.partition} was written by a hub of {meta.partitions} partitions; this one has {self.partitions}"
        )
        self.offset, self.epoch, self.now_us, self.created_us = meta.offset, meta.epoch, meta.now_us, meta.created_us

    def _retire_orphans(self, tasks: dict[str, Task]) -> None:
        """Nodes whose workflow has ended, but that had not left memory yet."""
        for name, task in tasks.items():
            root = task.row.root
            if root is not None and root not in tasks:
                self.state.retiring.setdefault(root, []).append(name)
        for root in self.state.retiring:
            self.state.agenda.add(self.now_us, "retire", root, self.epoch + 1)

    def take_over(self, now_us: int, *, rows: int, host: str, pid: int, pools: Sequence[str], snapshot: bool = False) -> Batch:
        """The first batch of a new owner: its epoch, `engine.started`, `engine.restored`, and a word to every inbox."""
        self.epoch += 1
        self.know_pools(pools)
        turn = self._turn(now_us)
        self.created_us = self.created_us or self.now_us
        turn.caused_by(f"start/{self.partition}/{self.epoch}", None)
        started = e.EngineStarted(partitions=self.partitions, input_offset=self.offset, host=host, pid=pid)
        turn.happen_engine("engine.started", started)
        turn.happen_engine("engine.restored", e.EngineRestored(rows=rows, live_tasks=self.state.live, snapshot=snapshot))
        word = EngineAnnounced(partition=self.partition, partitions=self.partitions, epoch=self.epoch)
        for pool in pools:
            turn.commands += [Command(pool, inbox, "*", "engine.announced", "", word) for inbox in range(INBOX_PARTITIONS)]
        return self._batch(turn)

    def leave(self, now_us: int) -> Batch:
        """The last batch of an owner that goes in order."""
        turn = self._turn(now_us)
        turn.caused_by(f"stop/{self.partition}/{self.epoch}", None)
        turn.happen_engine("engine.stopped", e.EngineStopped(input_offset=self.offset))
        return self._batch(turn)

    # Processing

    def process(self, records: Sequence[StoredRecord], now_us: int, *, heard_until_us: int | None) -> Batch:
        """Decide `records` (the next of the intake, in order), then what is due, then dispatch.

        `now_us` is the time of everything in the batch. `heard_until_us`: all that was said before this time has been read, so
        that silence up to then is silence; None where that is not known of any time. The batch must be committed before the
        next one's is.

        Raises Undecidable.
        """
        turn = self._turn(now_us)
        try:
            self._decide(turn, records, heard_until_us)
            return self._batch(turn)
        except Exception as error:
            if not records:
                raise
            raise Undecidable(records[0].offset, records[-1].offset, f"{type(error).__name__}: {error}") from error

    def _decide(self, turn: Turn, records: Sequence[StoredRecord], heard_until_us: int | None) -> None:
        for record in records:
            self._take(turn, record)
            self.offset = record.offset + 1
        settle(turn, retention_seconds=self.settings.retention_seconds)
        if heard_until_us is not None:
            judge_starts(turn, "agenda:start", heard_until_us)
            judge_leases(turn, "agenda:lease", heard_until_us)
            settle(turn, retention_seconds=self.settings.retention_seconds)
            self._judged = True
        take_due(turn, retention_seconds=self.settings.retention_seconds, heard_until_us=heard_until_us)
        settle(turn, retention_seconds=self.settings.retention_seconds)
        dispatch(turn)
        self._forget_expired(turn)
        self.state.tidy()

    def next_due(self) -> int | None:
        """When `process` has something to do without any record, in microseconds since the epoch; None: nothing ahead."""
        state = self.state
        times = [state.agenda.next_due(), next_judgement(state.workers)]
        if state.start_deadlines:
            times.append(state.start_deadlines[0][0])
        expiry = state.ended.next_expiry()
        if expiry is not None:
            times.append(expiry + EXPIRY_SLACK_US)
        if not self._judged and (state.held or state.worker_rows):
            times.append(self.now_us)
        return min((time for time in times if time is not None), default=None)

    def forgive(self, gap_us: int) -> None:
        """This process was itself stopped for `gap_us`: whoever was silent in that time loses nothing by it."""
        forgive_silence(self.state, gap_us)

    def know_pools(self, pools: Iterable[str]) -> None:
        """The pools that have a commands topic: a worker of another pool gets no work, since nothing could be sent to it.

        Tasks that waited for such a pool are dispatched in the next batch, which needs no record for it.
        """
        self.state.pools.update(pools)
        if self.state.unknown_pools & self.state.pools:
            self.state.wake_dispatch(self.now_us)
        self.state.unknown_pools.clear()

    @property
    def unknown_pools(self) -> set[str]:
        """Pools that workers named and `know_pools` has not heard of."""
        return self.state.unknown_pools

    def _turn(self, now_us: int) -> Turn:
        self.now_us = max(self.now_us, now_us)
        return Turn(self.state, partition=self.partition, partitions=self.partitions, now_us=self.now_us)

    def _forget_expired(self, turn: Turn) -> None:
        expiry = self.state.ended.next_expiry()
        over = len(self.state.ended) > self.settings.ended_entries_max
        if over or (expiry is not None and (turn.writes or expiry + EXPIRY_SLACK_US <= turn.now_us)):
            turn.gone += self.state.ended.take_expired(turn.now_us, EXPIRED_PER_TURN)

    # One record

    def _take(self, turn: Turn, record: StoredRecord) -> None:
        """Decide one record. Whatever is wrong with it is said on the log and harms nothing else."""
        headers = header_map(record.headers)
        mark = len(turn.events)
        event_id = headers.get("ce_id", b"")[: limits.ID_BYTES].decode(errors="replace") or None
        turn.caused_by(f"{self.partition}/{record.offset}", event_id)
        try:
            if record.offset in self.undecidable:
                raise Unreadable(f"deciding it went wrong: {self.undecidable[record.offset]}")
            report_type, value, headers = content_of(record, headers)
            if report_type == "task.created":
                self._on_submission(turn, record, headers, value)
            else:
                report = decode_report(report_type, value)
                _HANDLERS[report_type](self, turn, record, headers, report)
        except Unreadable as why:
            assert len(turn.events) == mark, "a report that cannot be read has changed nothing"
            self._set_aside(turn, record, headers, str(why))

    def _set_aside(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], reason: str) -> None:
        value = record.value or b""
        data = e.EngineReportDeadLettered(
            reason=reason,
            offset=record.offset,
            sha256=sha256(value).hexdigest(),
            size_bytes=len(value),
            report=headers.get("ce_type", b"").decode(errors="replace")[:100] or None,
            preview=value[:120].decode(errors="replace"),
        )
        turn.happen_engine("engine.report_dead_lettered", data)

    def _misplaced(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], root: str, report_type: str) -> bool:
        """Send a record on to the partition of its root: once; a second misplacement is set aside."""
        if self.partitions == 1:
            return False
        home = partition_of(root, self.partitions)
        if home == self.partition:
            return False
        if "hub-origin" in headers:
            raise Unreadable(f"forwarded from {headers['hub-origin'].decode(errors='replace')}, and misplaced again")
        turn.forwards.append((home, record))
        turn.happen_engine(
            "engine.report_forwarded", e.EngineReportForwarded(partition=home, offset=record.offset, report=report_type)
        )
        return True

    # Submissions

    def _on_submission(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], value: bytes) -> None:
        reply = reply_address(headers)
        try:
            submission = DECODERS["task.created"].decode(value)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not isinstance(error, ValidationError):
                raise Unreadable(f"the value is not JSON: {error}") from None
            turn.reject("malformed", str(error), report="task.created", task=None, reply=reply)
            return
        assert isinstance(submission, Submission)
        source, event_id = headers.get("ce_source"), headers.get("ce_id")
        if source is None or event_id is None:
            raise Unreadable("ce_source or ce_id is missing: a CloudEvent has both")
        forwarded = headers.get("hub-origin")
        origin = Origin(
            text_of_header(source, "ce_source"),
            text_of_header(event_id, "ce_id"),
            text_of_header(forwarded, "hub-origin") if forwarded is not None else None,
        )
        identity = identify(submission, origin)
        if isinstance(identity, Refused):
            turn.reject(identity.code, identity.reason, report="task.created", task=submission.id, reply=reply)
            return
        task_id, root_id = identity
        if self._misplaced(turn, record, headers, root_id, "task.created"):
            return
        admitted = admit(self.state, submission, task_id, origin, now_us=turn.now_us, log_offset=self.events_floor)
        if isinstance(admitted, Refused):
            turn.reject(admitted.code, admitted.reason, report="task.created", task=task_id, reply=reply)
            return
        if isinstance(admitted, Duplicate):
            self._on_duplicate(turn, admitted, submission.idempotency_key, reply)
            return
        if self.state.live >= self.settings.waiting_max:
            reason = f"{self.state.live} tasks are waiting on this partition; try again later"
            turn.reject("limit_exceeded", reason, report="task.created", task=task_id, reply=reply)
            return
        traceparent = headers.get("ce_traceparent") or headers.get("traceparent")
        trace = traceparent.decode(errors="replace") if traceparent is not None and len(traceparent) == 55 else None
        if admitted.root is not None:
            nodes = admitted.root.row.nodes + len(admitted.tasks)
            turn.happen(admitted.root, "workflow.expanded", e.WorkflowExpanded(added=len(admitted.tasks), nodes=nodes))
            trace = trace or admitted.root.row.traceparent
        for new in admitted.tasks:
            task = turn.create(new, life=record.offset, traceparent=trace)
            if new.plan is not None:
                create_nodes(turn, task)
            else:
                place(turn, task)
        if reply is not None and (waited := self.state.tasks.get(task_id)) is not None:
            _wait(waited, reply)

    def _on_duplicate(self, turn: Turn, known: Duplicate, key: str | None, reply: tuple[int, bytes] | None) -> None:
        if known.live is not None:
            life, state = known.live.row.life, known.live.row.state
        else:
            assert known.ended is not None
            life, state = known.ended.life, known.ended.ended
        data = e.TaskDeduplicated(task=known.task, life=life, state=state, idempotency_key=key)
        turn.happen_engine("task.deduplicated", data)
        if reply is not None:
            self._answer(turn, known.task, reply, wait=True)

    # Requests

    def _on_cancel(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], report: r.TaskCancel) -> None:
        if self._misplaced(turn, record, headers, report.root or report.id, "task.cancel"):
            return
        reply = reply_address(headers)
        if (problem := check_cancel(report)) is not None:
            turn.reject("invalid_input", problem, report="task.cancel", task=report.id[:100], reply=reply)
            return
        task = self.state.tasks.get(report.id)
        if task is None or task.ended:
            ended = task is not None or report.id in self.state.ended
            code = "already_ended" if ended else "unknown_task"
            reason = "id: the task has ended" if ended else f"id: there is no task {report.id!r} on this partition"
            turn.reject(code, reason, report="task.cancel", task=report.id, reply=reply)
        elif task.row.cancelling:
            turn.reject("already_cancelling", "id: a cancel is under way", report="task.cancel", task=report.id, reply=reply)
        else:
            if reply is not None:
                _wait(task, reply)
            request_cancel(turn, task, report.reason, report.by)

    def _on_await(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], report: r.TaskAwait) -> None:
        if self._misplaced(turn, record, headers, report.root or report.id, "task.await"):
            return
        reply = reply_address(headers)
        if reply is None:
            raise Unreadable("a task.await without a replyto header has nobody to answer")
        self._answer(turn, report.id, reply, wait=report.wait)

    def _answer(self, turn: Turn, task_id: str, reply: tuple[int, bytes], *, wait: bool) -> None:
        task = self.state.tasks.get(task_id)
        if task is not None and wait and not task.ended:
            _wait(task, reply)
            return
        if task is not None:
            data = reply_of(turn, task)
        elif (ended := self.state.ended.get(task_id)) is not None:
            data = reply_of_ended(turn, task_id, ended)
        else:
            data = TaskReply(kind="unknown", task=task_id, partition=self.partition)
        turn.replies.append(Reply(*reply, data))

    # Workers

    def _on_attempt(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], report: r.AttemptReport) -> None:
        name = headers["ce_type"].decode()
        if self._misplaced(turn, record, headers, report.root, name):
            return
        task = self.state.tasks.get(report.task)
        decision: list[tuple[str, Any]] | Refusal
        if task is None:
            ended = report.task in self.state.ended
            decision = (
                Refusal("already_ended", "the task has ended") if ended else Refusal("unknown_task", "no such task is known")
            )
        else:
            decision = on_report(task.id, task.row, report, turn.now, turn.now_us)
        if isinstance(decision, Refusal):
            data = e.AttemptReportRejected(
                code=decision.code,  # type: ignore[arg-type]  # the codes are those of the event
                reason=decision.reason,
                task=report.task,
                report=name,
                attempt=report.attempt,
                worker=report.incarnation,
            )
            turn.happen_engine("attempt.report_rejected", data)
            return
        assert task is not None
        turn.happen_all(task, decision)
        if decision[-1][0] == "attempt.granted":
            turn.grant_command(task)

    def _on_worker(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], report: r.WorkerReport) -> None:
        problem = check_worker(report)
        if problem is not None:
            raise Unreadable(problem)
        if not 0 <= report.inbox < INBOX_PARTITIONS:
            raise Unreadable(f"inbox: {report.inbox} is none; there are {INBOX_PARTITIONS}, from 0")
        home = partition_of(report.incarnation, self.partitions) == self.partition
        on_worker_report(turn, report, offset=record.offset, home=home)

    def _on_worker_lost(self, turn: Turn, record: StoredRecord, headers: dict[str, bytes], report: r.WorkerLost) -> None:
        on_worker_lost(turn, report.incarnation, report.reason)

    def checkpoint(self, now_us: int) -> Batch:
        """Nothing happened, but much was read: only the next input offset."""
        return self._batch(self._turn(now_us))._replace(rows=[self._meta()])

    # Output

    def _meta(self) -> tuple[bytes, bytes]:
        meta = MetaRow(
            offset=self.offset, epoch=self.epoch, now_us=self.now_us, partitions=self.partitions, created_us=self.created_us
        )
        return META_KEY, json.encode(meta)

    def _batch(self, turn: Turn) -> Batch:
        rows: list[tuple[bytes, bytes | None]] = []
        if turn.writes:
            rows = rows_of(turn)
            rows.append(self._meta())
        return Batch(turn.events, turn.commands, rows, turn.replies, turn.forwards, self.offset, self.epoch, self.now_us)


def _wait(task: Task, reply: tuple[int, bytes]) -> None:
    if task.waiters is None:
        task.waiters = [reply]
    elif reply not in task.waiters:
        del task.waiters[: -(WAITERS_MAX - 1)]
        task.waiters.append(reply)


_Handler = Callable[[EnginePartition, Turn, StoredRecord, dict[str, bytes], Any], None]
_HANDLERS: dict[str, _Handler] = {
    "task.cancel": EnginePartition._on_cancel,
    "task.await": EnginePartition._on_await,
    "attempt.started": EnginePartition._on_attempt,
    "attempt.progressed": EnginePartition._on_attempt,
    "attempt.completed": EnginePartition._on_attempt,
    "attempt.failed": EnginePartition._on_attempt,
    "attempt.cancelled": EnginePartition._on_attempt,
    "attempt.released": EnginePartition._on_attempt,
    "worker.registered": EnginePartition._on_worker,
    "worker.heartbeat": EnginePartition._on_worker,
    "worker.draining": EnginePartition._on_worker,
    "worker.stopped": EnginePartition._on_worker,
    "worker.lost": EnginePartition._on_worker_lost,
}
