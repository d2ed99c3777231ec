"""What an engine partition holds in memory: rows, and what is derived from them.

Durable: the rows (`Task.row`, `ended`, `worker_rows`, `engine_row`), only changed by `evolve`. Derived, rebuilt at a restore:
dependents, children, ready order, agenda, who holds what. Soft, never on the log: what workers said of themselves
(credit, time of the last report) and who waits for a reply.
"""

from collections.abc import Iterable
from heapq import heappush

from ..rows import EngineRow, WorkerRow
from ..times import us_of, us_of_seconds
from .agenda import Agenda
from .ended import EndedIndex
from .ready import ReadyQueue
from .task import Task
from .worker import Worker

#: Entries of the agenda or of the ready order that may be out of date before somebody looks.
TIDY_FROM = 10_000


#: Kinds of agenda entries that are about no task of this partition's memory.
TASKLESS = frozenset({"dispatch", "retire"})


class PartitionState:
    """Everything one engine partition knows. Mutable; dropped and restored on any doubt.

    `live` counts the tasks that have not ended; `planned` the steps that workflows have still to create."""

    def __init__(self, *, ended_entries_max: int) -> None:
        self.tasks: dict[str, Task] = {}
        self.live = 0
        self.planned = 0
        self.ended = EndedIndex(ended_entries_max)
        self.dependents: dict[str, list[str]] = {}
        self.worker_rows: dict[str, WorkerRow] = {}
        self.engine_row = EngineRow()
        self.workers: dict[str, Worker] = {}
        self.held: dict[str, set[str]] = {}
        self.ready = ReadyQueue()
        self.agenda = Agenda()
        self._agenda_max = TIDY_FROM
        self.start_deadlines: list[tuple[int, str, int]] = []
        self.pools: set[str] = set()
        self.unknown_pools: set[str] = set()
        self.retiring: dict[str, list[str]] = {}

    # What follows keeps the derived parts in step with a row that has just evolved.

    def add(self, task: Task) -> None:
        """A task was created."""
        self.tasks[task.id] = task
        self.live += 1
        if task.row.root is not None and (root := self.tasks.get(task.row.root)) is not None and root.children is not None:
            root.children.append(task.id)
        for dependency in task.row.depends_on:
            before = self.tasks.get(dependency.task)
            if before is None or not before.ended:  # One that ended counts when the task is placed, and never again.
                self.dependents.setdefault(dependency.task, []).append(task.id)
        row = task.row
        if row.expire_due_us is not None:
            self.agenda.add(row.expire_due_us, "expire", task.id)
        if row.total_due_us is not None:
            self.agenda.add(row.total_due_us, "total", task.id)

    def became_ready(self, task: Task) -> None:
        """Queue it for dispatch."""
        row = task.row
        self.ready.push(task.id, row.queue, row.name, row.priority, us_of(row.created_at))
        if row.expire_due_us is not None:
            self.agenda.add(row.expire_due_us, "expire", task.id)

    def became_held(self, task: Task) -> None:
        """A worker has it now."""
        worker = task.row.worker
        assert worker is not None, "a dispatched task names its worker"
        self.held.setdefault(worker, set()).add(task.id)

    def must_start(self, task: Task, now_us: int) -> None:
        """A command is under way: its body has the worker's lease to begin."""
        heappush(self.start_deadlines, (now_us + us_of_seconds(task.row.lease_seconds), task.id, task.row.dispatch))

    def released(self, task_id: str, worker: str) -> None:
        """Its worker no longer has it."""
        holding = self.held.get(worker)
        if holding is not None:
            holding.discard(task_id)
            if not holding and worker not in self.workers:
                del self.held[worker]

    def free_credit(self, worker: Worker) -> int:
        """How many more commands the worker would take."""
        if worker.draining:
            return 0
        holding = self.held.get(worker.incarnation)
        return worker.credit - (len(holding) if holding else 0)

    def wake_dispatch(self, now_us: int) -> None:
        """Make the next batch dispatch even if nothing else is due.

        The mark makes the entry's provenance unique: the engine's sequence rises with every owner, the count within one.
        """
        self.agenda.add(now_us, "dispatch", "", (self.engine_row.sequence << 32) + self.agenda.added)

    def tidy(self) -> None:
        """Drop what tasks left in the agenda and in the ready order when they went, once it is more than what lives."""
        if len(self.agenda) > self._agenda_max:
            self.agenda.keep(lambda kind, task: task in self.tasks or kind in TASKLESS)
            self._agenda_max = TIDY_FROM + 2 * len(self.agenda)
        if self.ready.entries > TIDY_FROM + 2 * len(self.ready):
            self.ready.rebuild()

    def forget(self, task: Task) -> None:
        """Its life is over: it leaves memory, but for its entry in the ended index."""
        self.tasks.pop(task.id, None)
        self.dependents.pop(task.id, None)

    def restored(self, tasks: Iterable[Task], now_us: int) -> None:
        """Build everything derived from the rows of `tasks`, in order of creation."""
        ordered = sorted(tasks, key=lambda task: (task.row.created_at, task.row.life, task.id))
        for task in sorted(ordered, key=lambda task: task.row.root is not None):  # Roots first: children look for them.
            self.add(task)
            if task.ended:
                self.live -= 1
        for task in ordered:
            self._restore_derived(task, now_us)

    def _restore_derived(self, task: Task, now_us: int) -> None:
        row = task.row
        if row.state == "ready":
            self.became_ready(task)
        elif row.state == "scheduled" and row.start_due_us is not None:
            self.agenda.add(row.start_due_us, "start", task.id)
        elif row.state == "retrying" and row.retry_due_us is not None:
            self.agenda.add(row.retry_due_us, "retry", task.id, row.dispatch)
        elif row.state in ("dispatched", "running") and row.worker is not None:
            self.became_held(task)
            if row.state == "dispatched":
                self.must_start(task, now_us)
            if row.attempt_due_us is not None:
                self.agenda.add(row.attempt_due_us, "attempt", task.id, row.dispatch)
        if row.state == "running" and row.nodes and row.cancelling:
            self.agenda.add(now_us, "cancel", task.id)
        if task.plan is not None and row.planned < len(task.plan.order) and not row.cancelling:
            self.agenda.add(now_us, "plan", task.id, row.planned)
            self.planned += len(task.plan.order) - row.planned
