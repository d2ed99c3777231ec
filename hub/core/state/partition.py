"""The state of an engine partition in memory: rows, and indexes derived from them.

Durable: the rows (`Task.row`, `ended`, `worker_rows`, `definitions`, `engine_row`), only changed by `evolve`. Derived, rebuilt at
a restore: dependents, children, ready order, agenda, who holds what. Soft, never on the log: what workers reported of themselves
(credit, time of the last report) and who waits for a reply.
"""

from collections.abc import Set

from schemas import Dependency

from ..rows import TIMER_OF, EngineRow, ObservedRow, WorkerRow
from ..times import SECOND_US
from .agenda import Agenda
from .definitions import Definitions
from .ended import EndedIndex
from .ready import ReadyQueue
from .task import Task
from .tasks import TaskTable
from .waiters import WaitingClients
from .worker import LiveWorker

#: Outdated entries of the agenda or the ready order that are tolerated before a sweep.
TIDY_FROM = 10_000


#: A task that waits for a time at least this far ahead (microseconds) is put to rest; decoding its row again takes a few of them.
REST_US = 10 * SECOND_US

#: Ready tasks beyond this number are put to rest: they wait until those before them are dispatched.
READY_ACTIVE_MAX = 10_000

#: States in which a task waits only for a time.
TIMED = frozenset(TIMER_OF)

#: States in which a task may be put to rest. A blocked one is used whenever one of its dependencies ends.
RESTING = TIMED | {"ready"}


#: Kinds of timers that do not refer to a task in memory.
TASKLESS = frozenset({"dispatch", "retire"})


class PartitionState:
    """The complete state of one engine partition. Mutable; discarded and restored after any failure.

    `live`: number of tasks that have not ended; `planned`: number of steps of workflows not yet created."""

    def __init__(self, *, ended_entries_max: int) -> None:
        self.tasks = TaskTable()
        self.waiters = WaitingClients()
        self.live = 0
        self.planned = 0
        self.ended = EndedIndex(ended_entries_max)
        self.dependents: dict[str, list[tuple[str, Dependency]]] = {}
        """By the id of a task that has not ended: the ids of the tasks that depend on it, and how. One may do so twice."""
        self.worker_rows: dict[str, WorkerRow] = {}
        self.observed_rows: dict[str, ObservedRow] = {}
        """Of subscribers and alerts whose home is this partition, by entity."""
        self.definitions = Definitions()
        self.engine_row = EngineRow()
        self.workers: dict[str, LiveWorker] = {}
        self.held: dict[str, set[str]] = {}
        self.ready = ReadyQueue()
        self.agenda = Agenda()
        self._agenda_max = TIDY_FROM
        self.start_deadlines: list[tuple[int, str, str]] = []
        """(time in microseconds, task id, token of the lease), a heap."""
        self.pools: Set[str] = frozenset()
        self.retiring: dict[str, list[str]] = {}

    def free_credit(self, worker: LiveWorker) -> int:
        """Number of further commands that the worker accepts."""
        if worker.draining:
            return 0
        holding = self.held.get(worker.incarnation)
        return worker.credit - (len(holding) if holding else 0)

    def wake_dispatch(self, now_us: int) -> None:
        """Trigger a dispatch at this time, or in the next batch if the time has come, even if nothing else is due. Each call adds
        an entry to the agenda.

        The mark makes the provenance of the entry unique: the engine's sequence increases with each owner, the count within an
        owner.
        """
        self.agenda.add(now_us, "dispatch", "", (self.engine_row.sequence << 32) + self.agenda.added)

    def know_pools(self, pools: Set[str], now_us: int) -> None:
        """Set the pools that have a commands topic. If one is new, tasks waiting for its workers are dispatched in this batch."""
        if pools == self.pools:
            return
        added, self.pools = pools - self.pools, pools
        if any(worker.pool in added for worker in self.workers.values()):
            self.wake_dispatch(now_us)

    def rest(self, task: Task, encoded: bytes, now_us: int) -> None:
        """Put a task in one of the states `RESTING` to rest if it waits for long, and if its row, `encoded`, is all of it."""
        row = task.row
        if row.state == "ready":
            waits = len(self.ready) > READY_ACTIVE_MAX
        else:
            due_us = row.timers.start if row.state == "scheduled" else row.timers.retry
            waits = due_us is not None and due_us - now_us > REST_US
        if waits and task.children is None and not task.args_row:
            self.tasks.rest(task.id, encoded)

    def next_timer(self) -> int | None:
        """When the next timer is due, in microseconds, or None. Timers of removed tasks before it are dropped: otherwise each of
        them would be a time at which there seems to be something to do. Those of tasks in memory count, even if their row has
        changed since; and so do those of later intervals, see `Agenda`."""
        self.agenda.drop_first(self._has_timer)
        return self.agenda.next_due()

    def _has_timer(self, kind: str, task_id: str) -> bool:
        return task_id in self.tasks or kind in TASKLESS

    def tidy(self) -> None:
        """Sweep entries of removed tasks from the agenda and the ready order when they outnumber the live ones."""
        if len(self.agenda) > self._agenda_max:
            self.agenda.keep(self._has_timer)
            self.mark_tidy()
        if self.ready.entries > TIDY_FROM + 2 * len(self.ready):
            self.ready.rebuild()

    def mark_tidy(self) -> None:
        """The agenda has no entries of removed tasks: after a sweep, or a restore."""
        self._agenda_max = TIDY_FROM + 2 * len(self.agenda)

    def forget(self, task: Task) -> None:
        """Remove an ended task from memory; its entry in the ended index stays."""
        self.tasks.remove(task.id)
        self.dependents.pop(task.id, None)
