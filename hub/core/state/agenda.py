"""The timers of an engine partition, ordered by due time.

The agenda is derived from rows, which have their due times, so it needs no changelog. Entries are not removed when the row
changes; an entry is compared with the row when it is due, and dropped if it is outdated. Entries of removed tasks are swept
when there are many.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain

#: Timeouts: a report that the attempt has ended may be still unread.
TIMEOUTS = frozenset({"attempt", "total", "expire"})


_Entry = tuple[int, int, str, str, int]


class Agenda:
    """Two heaps of (due time in microseconds, counter, kind, task id, mark), one of them for timeouts. `mark` is compared with
    the row to detect outdated entries. The heaps are separate because timeouts also wait for unread reports, and waiting
    entries must not be checked each time."""

    __slots__ = ("_counter", "_others", "_timeouts")

    def __init__(self) -> None:
        self._timeouts: list[_Entry] = []
        self._others: list[_Entry] = []
        self._counter = 0

    def add(self, due_us: int, kind: str, task: str, mark: int = 0) -> None:
        """Add a timer of `kind` for `task`, due at `due_us`."""
        self._counter += 1
        heappush(self._timeouts if kind in TIMEOUTS else self._others, (due_us, self._counter, kind, task, mark))

    @property
    def added(self) -> int:
        """Number of entries added so far, including removed ones."""
        return self._counter

    def next_due(self) -> int | None:
        """Due time of the next entry, or None."""
        return min((heap[0][0] for heap in (self._timeouts, self._others) if heap), default=None)

    def pop_due(self, now_us: int, time_watermark_us: int | None) -> tuple[int, str, str, int] | None:
        """Take the next entry that is due at `now_us`, as (due, kind, task, mark). Timeouts must also be due at
        `time_watermark_us`, up to which all reports have been read (None: unknown)."""
        due = [self._others] if self._others and self._others[0][0] <= now_us else []
        timeouts = self._timeouts
        if time_watermark_us is not None and timeouts and timeouts[0][0] <= min(now_us, time_watermark_us):
            due.append(timeouts)
        if not due:
            return None
        due_us, _, kind, task, mark = heappop(min(due, key=lambda heap: heap[0]))
        return due_us, kind, task, mark

    def keep(self, wanted: Callable[[str, str], bool]) -> None:
        """Remove all entries for which `wanted(kind, task)` is false."""
        for heap in (self._timeouts, self._others):
            heap[:] = [entry for entry in heap if wanted(entry[2], entry[3])]
            heapify(heap)

    def entries(self) -> Iterator[tuple[int, str, str, int]]:
        """All entries, as (due, kind, task, mark), unordered."""
        for due_us, _, kind, task, mark in chain(self._timeouts, self._others):
            yield due_us, kind, task, mark

    def __len__(self) -> int:
        return len(self._timeouts) + len(self._others)
