"""What is due later in an engine partition, ordered by time.

The agenda is derived from rows (each holds its own due times), so it needs no changelog of its own. Entries are never
removed early: who takes one compares it with the row it is about, and drops it where the row has moved on.
"""

from heapq import heappop, heappush


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

    def next_due(self) -> int | None:
        """When the next entry is due; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_us: int) -> tuple[int, str, str, int] | None:
        """Take the next entry that is due at `now_us`, as (due, kind, task, mark)."""
        if not self._heap or self._heap[0][0] > now_us:
            return None
        due_us, _, kind, task, mark = heappop(self._heap)
        return due_us, kind, task, mark

    def __len__(self) -> int:
        return len(self._heap)
