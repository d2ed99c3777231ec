"""Builds the state of a partition from the rows of its changelog."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from msgspec import Raw

from schemas import StepSpec

from ..core import (
    EMPTY,
    DefinitionRow,
    EndedRow,
    EngineRow,
    MetaRow,
    ObservedRow,
    PartitionState,
    Rejection,
    Task,
    TaskRow,
    WorkerRow,
    check_plan,
    decode_row,
    restore,
    share_values,
)


class RestoredRows:
    """The rows of a partition by kind. `count`: number of rows; `meta`: position of the previous owner, if any.

    Raises the errors of the decoders for a row that no engine can have written."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self.count = 0
        self.meta: MetaRow | None = None
        self._tasks: dict[str, Task] = {}
        self._ended: list[tuple[str, EndedRow, bytes]] = []
        self._args: dict[str, Raw] = {}
        self._plans: dict[str, Mapping[str, StepSpec]] = {}
        self._workers: dict[str, WorkerRow] = {}
        self._observed: dict[str, ObservedRow] = {}
        self._definitions: list[DefinitionRow] = []
        self._engine: EngineRow | None = None
        for key, value in rows:
            self.count += 1
            self._take(key, value)

    def _take(self, key: bytes, value: bytes) -> None:
        entry = decode_row(key, value)
        if entry is None:
            return
        match entry.row:
            case TaskRow() as row:
                self._tasks[entry.id] = Task(entry.id, share_values(row), EMPTY)
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

    def build(self, state: PartitionState, now_us: int, *, epoch: int) -> None:
        """Fill the empty `state` at time `now_us`; `epoch` is that of the new owner."""
        for one in sorted(self._ended, key=lambda one: one[1].until_us):
            state.ended.put(*one)
        state.worker_rows.update(self._workers)
        state.observed_rows.update(self._observed)
        for definition in self._definitions:
            state.definitions.put(definition)
        state.engine_row = self._engine or state.engine_row
        for name, task in self._tasks.items():
            self._complete(name, task)
        restore(state, self._tasks.values(), now_us)
        self._retire_orphans(state, now_us, epoch)

    def _complete(self, name: str, task: Task) -> None:
        """Add the separate rows of a task: arguments and plan."""
        task.args_row, task.plan_row = name in self._args, name in self._plans
        task.args = self._args[name] if task.args_row else task.row.args or EMPTY
        if task.plan_row:
            plan = check_plan(self._plans[name])
            assert not isinstance(plan, Rejection), "an admitted plan must be valid"
            task.plan = plan

    def _retire_orphans(self, state: PartitionState, now_us: int, epoch: int) -> None:
        """Schedule the removal of steps whose workflow has ended."""
        for name, task in self._tasks.items():
            root = task.row.root
            if root is not None and root not in self._tasks:
                state.retiring.setdefault(root, []).append(name)
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
