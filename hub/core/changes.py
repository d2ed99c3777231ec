"""The changes of one batch, collected in order.

They are everything that one transaction will hold: events (numbered, with provenance), commands, replies, forwards and
the keys of the rows that were touched. `apply` is the only way to an event: it evolves the row, keeps what is derived from
it in step, and notes the consequences (who ended, who holds what) for `settle`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from msgspec import Struct

from schemas import CancelAttempt, GrantAttempt, TaskReply, check_id
from schemas import events as e
from schemas.tasks import TERMINAL_STATES

from .bounds import REASON_MAX, cut
from .conditions import CoreSettings, Known
from .emitted import Command, EmittedEvent, Reply
from .evolve import created, evolve_definition, evolve_engine, evolve_task, evolve_worker
from .graph import Plan
from .indexes import MOVES, add
from .rows import DefinitionRow, WorkerRow
from .rows.task import EMPTY
from .state import LiveWorker, PartitionState, Task
from .times import text_of
from .transitions import NEW


class NewTask(NamedTuple):
    """A task to be created. `root` is None where it is its own."""

    id: str
    root: str | None
    namespace: str
    correlation: str
    data: e.TaskCreated
    plan: Plan | None = None


class Changes:
    """See the module. `home_of`: the partition of a root's id, or of a worker's."""

    def __init__(
        self,
        state: PartitionState,
        *,
        partition: int,
        partitions: int,
        home_of: Callable[[str], int],
        now_us: int,
        known: Known,
        settings: CoreSettings,
    ) -> None:
        self.state = state
        self.partition = partition
        self.partitions = partitions
        self.home_of = home_of
        self.known = known
        self.settings = settings
        self.now_us = now_us
        self.now = text_of(now_us)
        self.events: list[EmittedEvent] = []
        self.commands: list[Command] = []
        self.replies: list[Reply] = []
        self.forwards: list[tuple[int, Any]] = []
        self.unknown_pools: set[str] = set()
        self.touched: dict[str, Task] = {}
        self.touched_workers: dict[str, None] = {}
        self.touched_definitions: dict[str, None] = {}
        self.engine_touched = False
        self.retired: dict[str, tuple[Task, bytes]] = {}
        self.gone: list[str] = []
        self.ended: list[Task] = []
        self.met: dict[str, list[str]] = {}
        self.counted: dict[str, dict[str, int]] = {}
        self.steps_ready: dict[str, list[str]] = {}
        self._prefix = ""
        self._used: dict[str, int] = {}
        self._index = 0
        self._cause: str | None = None

    def caused_by(self, prefix: str, cause: str | None) -> None:
        """What follows has the provenance `prefix`/0, /1, ...; the same prefix must never be used in two batches."""
        if prefix != self._prefix:
            self._used[self._prefix] = self._index
            self._prefix, self._index = prefix, self._used.get(prefix, 0)
        self._cause = cause

    @property
    def provenance(self) -> tuple[str, str | None]:
        """What `caused_by` set last."""
        return self._prefix, self._cause

    def next_src(self) -> str:
        """The provenance that the next event will have. An event without a cause is a bug: AssertionError."""
        assert self._prefix, "nothing caused this: call `caused_by` before the first event of a batch"
        return f"{self._prefix}/{self._index}"

    # Events

    def create(self, new: NewTask, *, run: int, traceparent: str | None) -> Task:
        """`task.created`: a new task, with its first event."""
        row = created(
            new.data,
            run=run,
            namespace=new.namespace,
            root=new.root,
            correlation=None if new.correlation == (new.root or new.id) else new.correlation,
            traceparent=traceparent,
            time=self.now,
            time_us=self.now_us,
        )
        task = Task(new.id, row, new.data.args if bytes(new.data.args) != b"{}" else EMPTY)
        task.plan = new.plan
        self.state.ended.discard(new.id)
        add(self.state, task)
        _, after, _, entering = MOVES[e.TaskCreated][NEW]
        self._emit(task, new.data, None, after)
        for enter in entering:
            enter(self.state, task, self.now_us)
        return task

    def apply(self, task: Task, event: Struct) -> None:
        """Apply `event` to `task`. Raises AssertionError where the table of transitions does not allow it."""
        move = MOVES[type(event)].get(task.row.state)
        assert move is not None, f"{type(event).__name__} on {task.id} in state {task.row.state!r}"
        before, after, leaving, entering = move
        state, now_us = self.state, self.now_us
        for leave in leaving:
            leave(state, task, now_us)
        evolve_task(task.row, event, self.now, now_us)
        self._emit(task, event, before, after)
        for enter in entering:
            enter(state, task, now_us)
        if after in TERMINAL_STATES:
            self.ended.append(task)

    def apply_all(self, task: Task, events: Iterable[Struct]) -> None:
        """Several events in order."""
        for event in events:
            self.apply(task, event)

    def _emit(self, task: Task, data: Struct, before: str | None, after: str | None) -> None:
        row = task.row
        self.touched[task.id] = task
        self.events.append(
            EmittedEvent(
                data,
                "task",
                task.id,
                row.sequence,
                row.run,
                self.next_src(),
                before,
                after,
                self._cause,
                row.namespace,
                row.name,
                row.root or task.id,
                row.correlation,
                row.traceparent,
            )
        )
        self._index += 1

    def apply_to_engine(self, event: Struct) -> None:
        """An event of the partition's own entity: rejections, dead-lettered input, take-overs."""
        row = self.state.engine_row
        before = row.state
        evolve_engine(row, event, self.now)
        self.engine_touched = True
        self._emit_other(event, "engine", str(self.partition), row.sequence, 0, before, row.state)

    def apply_to_worker(self, incarnation: str, event: Struct, *, run: int = 0) -> None:
        """An event of a worker, on its home partition. `run` is given where its run begins."""
        rows = self.state.worker_rows
        row = rows.get(incarnation)
        if row is None:
            row = rows[incarnation] = WorkerRow(run=run)
        before = row.state
        evolve_worker(row, event, self.now)
        self.touched_workers[incarnation] = None
        self._emit_other(event, "worker", incarnation, row.sequence, row.run, before, row.state)
        if row.state in ("lost", "stopped"):
            del rows[incarnation]

    def apply_to_definition(self, identifier: str, event: e.DefinitionRegistered | e.DefinitionDeprecated) -> None:
        """An event of a definition as this partition knows it; the first one must be a registration."""
        known = self.state.definitions.get(identifier)
        if known is not None:
            row = known.row
        else:
            assert isinstance(event, e.DefinitionRegistered), f"{identifier} is not registered"
            row = DefinitionRow(definition=event.definition)
        before = row.state
        evolve_definition(row, event, self.now)
        self.state.definitions.put(row)
        self.touched_definitions[identifier] = None
        subject = f"{self.partition}/{identifier}"
        self._emit_other(event, "definition", subject, row.sequence, 0, before, row.state)

    def _emit_other(self, data: Struct, kind: str, subject: str, sequence: int, run: int, before: str, after: str) -> None:
        moved = before != after
        self.events.append(
            EmittedEvent(
                data,
                kind,
                subject,
                sequence,
                run,
                self.next_src(),
                before if moved else None,
                after if moved else None,
                self._cause,
                None,
                None,
                None,
                None,
                None,
            )
        )
        self._index += 1

    # Rejections

    def reject(self, code: Any, reason: str, *, report: str, task: str | None, reply: tuple[int, bytes] | None) -> None:
        """`task.rejected`: a submission or a request that changes nothing, reported on the log and to whoever waits.

        `task` is left out where it is not an id: then the reason shows it."""
        reason = cut(reason, REASON_MAX)
        task = task if task is not None and check_id(task, "") is None else None
        self.apply_to_engine(e.TaskRejected(code=code, reason=reason, task=task, report=report))
        if reply is not None:
            data = TaskReply(kind="rejected", task=task or "", partition=self.partition, code=code, reason=reason)
            self.replies.append(Reply(*reply, data))

    # Commands

    def command(self, worker: LiveWorker, key: str, data: Struct) -> None:
        """Put a command into the inbox of `worker`."""
        self.commands.append(Command(worker.pool, worker.inbox, worker.incarnation, key, data))

    def grant_command(self, task: Task) -> None:
        """At most once: the worker that has the attempt may run its body."""
        lease = task.row.lease
        assert lease is not None, "an attempt that has started has a lease"
        data = GrantAttempt(task=task.id, attempt=task.row.attempt, token=lease.token)
        self.commands.append(Command(lease.pool, lease.inbox, lease.worker, task.id, data))

    def cancel_command(self, task: Task, reason: str) -> None:
        """Tell the worker that has the task's attempt, if any, to stop; it follows the command it refers to."""
        lease = task.row.lease
        if lease is None:
            return
        data = CancelAttempt(task=task.id, attempt=task.row.attempt, token=lease.token, reason=reason)
        self.commands.append(Command(lease.pool, lease.inbox, lease.worker, task.id, data))

    @property
    def writes(self) -> bool:
        """Whether anything has to be committed."""
        return bool(self.events or self.commands or self.replies or self.forwards or self.gone or self.retired)
