"""Collects the changes of one batch in order.

They are the content of one transaction: events (numbered, with provenance), commands, replies, forwarded reports, and the keys
of the changed rows. `apply` is the only way to emit an event: it evolves the row, updates the indexes derived from it, and
records the consequences (ended tasks, leases) for `settle`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from schemas import CancelAttempt, GrantAttempt, TaskReply, check_id
from schemas import events as e
from schemas.tasks import TERMINAL_STATES

from .bounds import REASON_MAX, cut
from .conditions import CoreSettings, Known
from .emitted import Command, EmittedEvent, Reply
from .evolve import created, evolve_definition, evolve_engine, evolve_observed, evolve_task, evolve_worker
from .graph import Plan
from .indexes import MOVES, add
from .rows import DefinitionRow, ObservedRow, WorkerRow
from .rows.task import EMPTY
from .state import LiveWorker, PartitionState, Task
from .times import text_of
from .transitions import NEW

_NO_CAUSE = "no cause was set: call `caused_by` before the first event of a batch"


class NewTask(Struct, frozen=True, gc=False):
    """A task to create. `root` is None if the task is its own root."""

    id: str
    root: str | None
    namespace: str
    correlation: str
    data: e.TaskCreated
    plan: Plan | None = None


class Changes:
    """The changes of one batch. `home_of` maps the id of a root or a worker to its partition."""

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
        self.touched_observed: dict[str, None] = {}
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
        """Set the cause of the next events: their provenance is `prefix`/0, /1, ... Never use a prefix in two batches."""
        if prefix != self._prefix:
            self._used[self._prefix] = self._index
            self._prefix, self._index = prefix, self._used.get(prefix, 0)
        self._cause = cause

    @property
    def provenance(self) -> tuple[str, str | None]:
        """The arguments of the last `caused_by`."""
        return self._prefix, self._cause

    def next_src(self) -> str:
        """The provenance of the next event. Raises AssertionError if no cause was set, which is a bug."""
        assert self._prefix, _NO_CAUSE
        return f"{self._prefix}/{self._index}"

    # Events

    def create(self, new: NewTask, *, run: int, traceparent: str | None) -> Task:
        """Create a task with its first event, `task.created`."""
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
        """Apply `event` to `task`. Raises AssertionError if the table of transitions does not allow it."""
        row, state, now_us = task.row, self.state, self.now_us
        move = MOVES[type(event)].get(row.state)
        assert move is not None, f"{type(event).__name__} on {task.id} in state {row.state!r}"
        before, after, leaving, entering = move
        if row.lease is not None and row.lease.trace_period and hasattr(event, "trace_period"):
            event.trace_period = row.lease.trace_period
        for leave in leaving:
            leave(state, task, now_us)
        evolve_task(row, event, self.now, now_us)
        self._emit(task, event, before, after)
        for enter in entering:
            enter(state, task, now_us)
        if after in TERMINAL_STATES:
            task.args = EMPTY
            self.ended.append(task)

    def apply_all(self, task: Task, events: Iterable[Struct]) -> None:
        """Apply several events in order."""
        for event in events:
            self.apply(task, event)

    def _emit(self, task: Task, data: Struct, before: str | None, after: str | None) -> None:
        row, prefix = task.row, self._prefix
        assert prefix, _NO_CAUSE
        self.touched[task.id] = task
        self.events.append(
            EmittedEvent(
                data,
                "task",
                task.id,
                row.sequence,
                row.run,
                f"{prefix}/{self._index}",
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
        """Emit an event of the engine partition: rejections, dead-lettered input, take-overs."""
        row = self.state.engine_row
        before = row.state
        evolve_engine(row, event, self.now)
        self.engine_touched = True
        self._emit_other(event, "engine", str(self.partition), row.sequence, 0, before, row.state)

    def apply_to_worker(self, incarnation: str, event: Struct, *, run: int = 0) -> None:
        """Emit an event of a worker, on its home partition. `run` is set if the event starts a run."""
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

    def apply_to_observed(self, kind: str, name: str, event: Struct, *, run: int) -> None:
        """An event of an entity that another process observes, on its home partition. `run` is set if the event starts a run."""
        rows, entity = self.state.observed_rows, f"{kind}/{name}"
        row = rows.get(entity)
        if row is None:
            row = rows[entity] = ObservedRow(run=run)
        before = row.state
        evolve_observed(row, event)
        self.touched_observed[entity] = None
        self._emit_other(event, kind, name, row.sequence, row.run, before, row.state)
        if row.state in ("stopped", "resolved"):
            del rows[entity]

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
        """Reject a submission or a request with `task.rejected` and, if `reply` is set, a reply.

        `task` is omitted if it is not a valid id; the reason then contains it."""
        reason = cut(reason, REASON_MAX)
        task = task if task is not None and check_id(task, "") is None else None
        self.apply_to_engine(e.TaskRejected(code=code, reason=reason, task=task, report=report))
        if reply is not None:
            data = TaskReply(kind="rejected", task=task or "", partition=self.partition, code=code, reason=reason)
            self.replies.append(Reply(*reply, data))

    # Commands

    def command(self, worker: LiveWorker, key: str, data: Struct) -> None:
        """Send a command to the inbox of `worker`."""
        self.commands.append(Command(worker.pool, worker.inbox, worker.incarnation, key, data))

    def grant_command(self, task: Task) -> None:
        """Allow the worker of an at-most-once attempt to run its body."""
        lease = task.row.lease
        assert lease is not None, "an attempt that has started has a lease"
        data = GrantAttempt(task=task.id, attempt=task.row.attempt, token=lease.token)
        self.commands.append(Command(lease.pool, lease.inbox, lease.worker, task.id, data))

    def cancel_command(self, task: Task, reason: str) -> None:
        """Request the worker of the task's current attempt, if any, to stop it."""
        lease = task.row.lease
        if lease is None:
            return
        data = CancelAttempt(task=task.id, attempt=task.row.attempt, token=lease.token, reason=reason)
        self.commands.append(Command(lease.pool, lease.inbox, lease.worker, task.id, data))

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.events or self.commands or self.replies or self.forwards or self.gone or self.retired)
