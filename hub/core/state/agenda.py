"""What is due later in an engine partition, ordered by time.

The agenda is derived from rows (each holds its own due times), so it needs no changelog of its own. Entries are not removed
when their row moves on: who takes one compares it with the row it is about, and drops it then. Those of tasks that are gone
are swept out together, when they are many.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain

#: Timeouts: what they end may have ended well, in a report that lies unread.
TIMEOUTS = frozenset({"attempt", "total", "expire"})


_Entry = tuple[int, int, str, str, int]


class Agenda:
    """Two heaps of (due in microseconds, counter, kind, task id, mark), timeouts and all else: `mark` is what the row must still
    say. Apart, because timeouts wait for unread reports, and what waits must not be looked at each time."""

    __slots__ = ("_counter", "_others", "_timeouts")

    def __init__(self) -> None:
        self._timeouts: list[_Entry] = []
        self._others: list[_Entry] = []
        self._counter = 0

    def add(self, due_us: int, kind: str, task: str, mark: int = 0) -> None:
        """Remember that `kind` is due for `task` at `due_us`."""
        self._counter += 1
        heappush(self._timeouts if kind in TIMEOUTS else self._others, (due_us, self._counter, kind, task, mark))

    @property
    def added(self) -> int:
        """How many entries were ever added."""
        return self._counter

    def next_due(self) -> int | None:
        """When the next entry is due; None when there is none."""
        return min((heap[0][0] for heap in (self._timeouts, self._others) if heap), default=None)

    def pop_due(self, now_us: int, time_watermark_us: int | None) -> tuple[int, str, str, int] | None:
        """Take the next entry that is due at `now_us`, as (due, kind, task, mark); of the timeouts only those that were due at
        `time_watermark_us`: every report up to that time has been read (None: not known of any time)."""
        due = [self._others] if self._others and self._others[0][0] <= now_us else []
        timeouts = self._timeouts
        if time_watermark_us is not None and timeouts and timeouts[0][0] <= min(now_us, time_watermark_us):
            due.append(timeouts)
        if not due:
            return None
        due_us, _, kind, task, mark = heappop(min(due, key=lambda heap: heap[0]))
        return due_us, kind, task, mark

    def keep(self, wanted: Callable[[str, str], bool]) -> None:
        """Drop every entry for whose (kind, task) `wanted` is false."""
        for heap in (self._timeouts, self._others):
            heap[:] = [entry for entry in heap if wanted(entry[2], entry[3])]
            heapify(heap)

    def entries(self) -> Iterator[tuple[int, str, str, int]]:
        """Everything that is due later, as (due, kind, task, mark), in no order."""
        for due_us, _, kind, task, mark in chain(self._timeouts, self._others):
            yield due_us, kind, task, mark

    def __len__(self) -> int:
        return len(self._timeouts) + len(self._others)
