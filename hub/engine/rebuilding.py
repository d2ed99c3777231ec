"""Builds the state of a partition from the rows of its changelog."""

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from msgspec import Raw

from schemas import StepSpec

from ..core import (
    EMPTY,
    DefinitionRow,
    EndedRow,
    EngineRow,
    Entry,
    MetaRow,
    ObservedRow,
    PartitionState,
    Rejection,
    Task,
    TaskCategory,
    TaskRow,
    TimedRows,
    WorkerRow,
    check_plan,
    decode_row,
    divide_rows,
    restore,
    restore_at_rest,
    restore_timed,
    root_of,
    share_values,
    task_in_memory,
    task_row_decoder,
)

#: So many rows are divided at once, while they are in the caches of the processor.
TAKEN_ROWS = 1_000


class RestoredRows:
    """The rows of a partition by kind, for the empty `state`. `count`: number of rows; `tasks`: number of tasks in memory by
    category; `meta`: position of the previous owner, if any. Tasks that wait for a time are added to the state at once, at rest,
    so that only the others are in memory as objects; those in `timed` without decoding their rows.

    Raises the errors of the decoders for a row that no engine can have written."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]], timed: Iterable[TimedRows], state: PartitionState) -> None:
        self._state = state
        self.count = 0
        self.tasks: Counter[TaskCategory] = Counter()
        self.meta: MetaRow | None = None
        self._tasks: dict[str, Task] = {}
        self._ready: list[tuple[Task, bytes]] = []
        self._ended: list[tuple[str, EndedRow, bytes]] = []
        self._args: dict[str, Raw] = {}
        self._plans: dict[str, Mapping[str, StepSpec]] = {}
        self._workers: dict[str, WorkerRow] = {}
        self._observed: dict[str, ObservedRow] = {}
        self._definitions: list[DefinitionRow] = []
        self._engine: EngineRow | None = None
        for block in timed:
            self._take_timed(block)
        left = iter(rows)
        while some := list(islice(left, TAKEN_ROWS)):
            block, others = divide_rows(some)
            self._take_timed(block)
            self._take(others.items())

    def _take_timed(self, timed: TimedRows) -> None:
        restore_timed(self._state, timed)
        self.count += len(timed)
        for place, tasks in Counter(timed.places).items():
            self.tasks[timed.categories[place]] += tasks

    def _take(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        categories = self.tasks
        for key, value in rows:
            self.count += 1
            if (task_id := task_in_memory(key, value)) is None:
                if (entry := decode_row(key, value)) is not None:
                    self._take_other(entry, value)
                continue
            row = task_row_decoder.decode(value)
            category = (row.namespace, row.name, row.state, row.queue)
            categories[category] = categories.get(category, 0) + 1
            if not restore_at_rest(self._state, task_id, row, value):
                self._take_task(task_id, row, value)

    def _take_other(self, entry: Entry, value: bytes) -> None:
        match entry.row:
            case EndedRow() as row:
                self._ended.append((entry.id, row, value))
            case Raw() as row:
                self._args[entry.id] = row
            case dict() as row:
                self._plans[entry.id] = row
            case WorkerRow() as row:
                self._workers[entry.id] = row
            case ObservedRow() as row:
                self._observed[f"{entry.kind}/{entry.id}"] = row
            case DefinitionRow() as row:
                self._definitions.append(row)
            case EngineRow() as row:
                self._engine = row
            case MetaRow() as row:
                self.meta = row

    def _take_task(self, task_id: str, row: TaskRow, encoded: bytes) -> None:
        task = self._tasks[task_id] = Task(task_id, share_values(row), row.args or EMPTY)
        if row.state == "ready":
            self._ready.append((task, encoded))

    def build(self, now_us: int, *, epoch: int) -> None:
        """Fill the state at time `now_us`; `epoch` is that of the new owner."""
        state = self._state
        for one in sorted(self._ended, key=lambda one: one[1].until_us):
            state.ended.put(*one)
        state.worker_rows.update(self._workers)
        state.observed_rows.update(self._observed)
        for definition in self._definitions:
            state.definitions.put(definition)
        state.engine_row = self._engine or state.engine_row
        self._complete_tasks()
        restore(state, self._tasks.values(), now_us)
        for task, encoded in self._ready:
            state.rest(task, encoded, now_us)
        self._retire_orphans(state, now_us, epoch)
        state.mark_tidy()

    def _complete_tasks(self) -> None:
        """Add the separate rows of tasks: arguments and plans."""
        for task_id, args in self._args.items():
            if (task := self._active_task(task_id)) is not None:
                task.args, task.args_row = args, True
        for task_id, steps in self._plans.items():
            if (task := self._active_task(task_id)) is not None:
                plan = check_plan(steps)
                assert not isinstance(plan, Rejection), "an admitted plan must be valid"
                task.plan, task.plan_row = plan, True

    def _active_task(self, task_id: str) -> Task | None:
        """The task that a separate row belongs to; it does not rest from now on."""
        task = self._tasks.get(task_id)
        if task is None and (task := self._state.tasks.get(task_id)) is not None:
            self._state.tasks.add(task)
        return task

    def _retire_orphans(self, state: PartitionState, now_us: int, epoch: int) -> None:
        """Schedule the removal of steps whose workflow has ended; its id can be in use again."""
        for task_id, task in self._tasks.items():
            root = task.row.root
            if root is not None and root_of(state, task.row) is None:
                state.retiring.setdefault(root, []).append(task_id)
        for root in state.retiring:
            state.agenda.add(now_us, "retire", root, epoch)


@contextmanager
def no_collections() -> Iterator[None]:
    """Pause the garbage collector: restored tasks are no garbage, and their number makes it scan all of them repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
