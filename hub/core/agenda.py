"""What is due later in an engine partition, ordered by time.

The agenda is derived from rows (each holds its own due times), so it needs no changelog of its own. Entries are not removed
when their row moves on: who takes one compares it with the row it is about, and drops it then. Those of tasks that are gone
are swept out together, when they are many.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush


class Agenda:
    """A heap of (due in microseconds, counter, kind, task id, mark): `mark` is what the row must still say."""

    __slots__ = ("_counter", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str, str, int]] = []
        self._counter = 0

    def add(self, due_us: int, kind: str, task: str, mark: int = 0) -> None:
        """Remember that `kind` is due for `task` at `due_us`."""
        self._counter += 1
        heappush(self._heap, (due_us, self._counter, kind, task, mark))

    @property
    def added(self) -> int:
        """How many entries were ever added."""
        return self._counter

    def next_due(self) -> int | None:
        """When the next entry is due; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_us: int) -> tuple[int, str, str, int] | None:
        """Take the next entry that is due at `now_us`, as (due, kind, task, mark)."""
        if not self._heap or self._heap[0][0] > now_us:
            return None
        due_us, _, kind, task, mark = heappop(self._heap)
        return due_us, kind, task, mark

    def keep(self, wanted: Callable[[str, str], bool]) -> None:
        """Drop every entry for whose (kind, task) `wanted` is false."""
        self._heap = [entry for entry in self._heap if wanted(entry[2], entry[3])]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)
