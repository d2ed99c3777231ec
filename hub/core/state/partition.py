"""What an engine partition holds in memory: rows, and what is derived from them.

Durable: the rows (`Task.row`, `ended`, `worker_rows`, `definitions`, `engine_row`), only changed by `evolve`. Derived, rebuilt at
a restore: dependents, children, ready order, agenda, who holds what. Soft, never on the log: what workers reported of themselves
(credit, time of the last report) and who waits for a reply.
"""

from collections.abc import Set

from ..rows import EngineRow, WorkerRow
from .agenda import Agenda
from .definitions import Definitions
from .ended import EndedIndex
from .ready import ReadyQueue
from .task import Task
from .worker import LiveWorker

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
        self.definitions = Definitions()
        self.engine_row = EngineRow()
        self.workers: dict[str, LiveWorker] = {}
        self.held: dict[str, set[str]] = {}
        self.ready = ReadyQueue()
        self.agenda = Agenda()
        self._agenda_max = TIDY_FROM
        self.start_deadlines: list[tuple[int, str, int]] = []
        self.pools: Set[str] = frozenset()
        self.retiring: dict[str, list[str]] = {}

    def free_credit(self, worker: LiveWorker) -> int:
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

    def know_pools(self, pools: Set[str], now_us: int) -> None:
        """Tasks that waited for a worker whose pool has just got its topic are dispatched in this batch, without any record."""
        if pools == self.pools:
            return
        added, self.pools = pools - self.pools, pools
        if any(worker.pool in added for worker in self.workers.values()):
            self.wake_dispatch(now_us)

    def tidy(self) -> None:
        """Drop what tasks left in the agenda and in the ready order when they went, once it is more than what lives."""
        if len(self.agenda) > self._agenda_max:
            self.agenda.keep(lambda kind, task: task in self.tasks or kind in TASKLESS)
            self._agenda_max = TIDY_FROM + 2 * len(self.agenda)
        if self.ready.entries > TIDY_FROM + 2 * len(self.ready):
            self.ready.rebuild()

    def forget(self, task: Task) -> None:
        """Its run is over: it leaves memory, but for its entry in the ended index."""
        self.tasks.pop(task.id, None)
        self.dependents.pop(task.id, None)
