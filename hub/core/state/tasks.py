"""The tasks of an engine partition, by id."""

from collections.abc import Container, Iterable, Iterator

from ..rows.task import EMPTY, share_values, task_row_decoder
from .task import Task


class TaskTable:
    """The tasks in memory. A task that waits for long may be put to *rest*: only its encoded row is kept, which takes a third of
    the memory. A look-up decodes it, and `rest_unchanged` puts it to rest again unless it was changed."""

    __slots__ = ("_active", "_decoded", "_resting")

    def __init__(self) -> None:
        self._active: dict[str, Task] = {}
        self._resting: dict[str, bytes] = {}
        self._decoded: dict[str, bytes] = {}

    def add(self, task: Task) -> None:
        """Add a task, which replaces an earlier run of its id."""
        self._resting.pop(task.id, None)
        self._decoded.pop(task.id, None)
        self._active[task.id] = task

    def remove(self, task_id: str) -> None:
        """Remove a task, if it is known."""
        self._active.pop(task_id, None)
        self._resting.pop(task_id, None)

    def get(self, task_id: str) -> Task | None:
        """The task with this id, or None."""
        task = self._active.get(task_id)
        if task is None and (encoded := self._resting.get(task_id)) is not None:
            return self._decode(task_id, encoded)
        return task

    def get_active(self, task_id: str) -> Task | None:
        """The task with this id unless it is at rest, or None."""
        return self._active.get(task_id)

    def __getitem__(self, task_id: str) -> Task:
        task = self._active.get(task_id)
        return self._decode(task_id, self._resting[task_id]) if task is None else task

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._active or task_id in self._resting

    def values(self) -> Iterator[Task]:
        """All tasks; those at rest are decoded for the caller alone."""
        yield from list(self._active.values())
        for task_id, encoded in list(self._resting.items()):
            yield _task_of(task_id, encoded)

    def __len__(self) -> int:
        return len(self._active) + len(self._resting)

    def _decode(self, task_id: str, encoded: bytes) -> Task:
        del self._resting[task_id]
        self._decoded[task_id] = encoded
        task = self._active[task_id] = _task_of(task_id, encoded)
        return task

    # Tasks at rest

    @property
    def resting(self) -> int:
        """Number of tasks at rest."""
        return len(self._resting)

    def rest(self, task_id: str, encoded: bytes) -> None:
        """Keep only the encoded row of a task, which need not be in memory yet; its other attributes must follow from it."""
        self._active.pop(task_id, None)
        self._resting[task_id] = encoded

    def rest_all(self, task_ids: Iterable[str], encoded: Iterable[bytes]) -> None:
        """Add tasks that are not in memory, at rest, by their encoded rows."""
        self._resting.update(zip(task_ids, encoded, strict=True))

    def rest_unchanged(self, changed: Container[str]) -> None:
        """Put the tasks to rest again that were decoded since the last call and are not `changed`."""
        if not self._decoded:
            return
        for task_id, encoded in self._decoded.items():
            if task_id in self._active and task_id not in changed:
                self.rest(task_id, encoded)
        self._decoded = {}


def _task_of(task_id: str, encoded: bytes) -> Task:
    row = share_values(task_row_decoder.decode(encoded))
    return Task(task_id, row, row.args or EMPTY)
