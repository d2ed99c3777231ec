"""The timers of an engine partition, ordered by due time.

The agenda is derived from rows, which have their due times, so it needs no changelog. Entries are not removed when the row
changes; an entry is compared with the row when it is due, and dropped if it is outdated. Entries of removed tasks are dropped
when they are the first of an interval that has begun, and swept when there are many.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain

from ..times import SECOND_US, earliest

#: Timeouts: a report that the attempt has ended may be still unread.
TIMEOUTS = frozenset({"attempt", "total", "expire"})

#: Timers that are due in a later interval of this length are kept unordered, in a fifth of the memory of ordered ones. The timers
#: of an interval are ordered when it begins: 100,000 in about 0.1 s.
INTERVAL_US = 600 * SECOND_US

#: Number of outdated entries that are dropped at once when the next due time is asked for, about 2 ms.
DROPPED_AT_ONCE = 1_000

#: The last interval that may be kept so: its times fit into 64 bits.
LAST_INTERVAL = 2**62 // INTERVAL_US

Timer = tuple[int, str, str, int]
"""Due time in microseconds, kind, task id, mark."""

_Entry = tuple[int, int, str, str, int]


class _LaterTimers:
    """The timers of a later interval as columns, in the order of their addition, and the earliest due time."""

    __slots__ = ("_due_us", "_kinds", "_marks", "_tasks", "first_us")

    def __init__(self, timers: Iterable[Timer] = ()) -> None:
        self._due_us = array("q")
        self._kinds: list[str] = []
        self._tasks: list[str] = []
        self._marks: list[int] = []
        self.first_us = 2**63
        for timer in timers:
            self.add(*timer)

    def add(self, due_us: int, kind: str, task: str, mark: int) -> None:
        self._due_us.append(due_us)
        self._kinds.append(kind)
        self._tasks.append(task)
        self._marks.append(mark)
        if due_us < self.first_us:
            self.first_us = due_us

    def extend(self, due_us: Sequence[int], kinds: Iterable[str], tasks: Iterable[str], marks: Iterable[int]) -> None:
        self._due_us.extend(due_us)
        self._kinds.extend(kinds)
        self._tasks.extend(tasks)
        self._marks.extend(marks)
        self.first_us = min(self.first_us, *due_us)

    def __iter__(self) -> Iterator[Timer]:
        return zip(self._due_us, self._kinds, self._tasks, self._marks, strict=True)

    def __len__(self) -> int:
        return len(self._tasks)


class Agenda:
    """Two heaps of (due time in microseconds, counter, kind, task id, mark) for the intervals that have begun, one of them for
    timeouts, and the timers of later intervals. `mark` is compared with the row to detect outdated entries. The heaps are
    separate because timeouts also wait for unread reports, and waiting entries must not be checked each time."""

    __slots__ = ("_begun", "_counter", "_first", "_later", "_later_length", "_others", "_timeouts")

    def __init__(self) -> None:
        self._timeouts: list[_Entry] = []
        self._others: list[_Entry] = []
        self._later: dict[int, _LaterTimers] = {}
        self._first: int | None = None
        """The first of the later intervals."""
        self._later_length = 0
        self._begun = -1
        """The last interval that has begun."""
        self._counter = 0

    def add(self, due_us: int, kind: str, task: str, mark: int = 0) -> None:
        """Add a timer of `kind` for `task`, due at `due_us`."""
        self._counter += 1
        number = due_us // INTERVAL_US
        if self._begun < number <= LAST_INTERVAL:
            timers = self._later.get(number)
            if timers is None:
                timers = self._later_interval(number)
            timers.add(due_us, kind, task, mark)
            self._later_length += 1
        else:
            heappush(self._timeouts if kind in TIMEOUTS else self._others, (due_us, self._counter, kind, task, mark))

    def add_all(self, due_us: Sequence[int], kinds: Iterable[str], tasks: Iterable[str], marks: Iterable[int]) -> None:
        """Add timers in this order, given as columns. It is quick if all are due in the same later interval."""
        first, last = min(due_us, default=0) // INTERVAL_US, max(due_us, default=0) // INTERVAL_US
        if due_us and self._begun < first == last <= LAST_INTERVAL:
            timers = self._later[first] if first in self._later else self._later_interval(first)
            timers.extend(due_us, kinds, tasks, marks)
            self._counter += len(due_us)
            self._later_length += len(due_us)
        else:
            for timer in zip(due_us, kinds, tasks, marks, strict=True):
                self.add(*timer)

    def _later_interval(self, number: int) -> _LaterTimers:
        timers = self._later[number] = _LaterTimers()
        self._first = number if self._first is None else min(self._first, number)
        return timers

    def _begin_intervals(self, last: int) -> None:
        """Order the timers of all intervals up to `last`. Their counters are less than those of the timers that are added to an
        interval later, and timers of different intervals never have equal due times."""
        self._begun = last
        for number in [number for number in self._later if number <= last]:
            timers = self._later.pop(number)
            self._later_length -= len(timers)
            for counter, (due_us, kind, task, mark) in enumerate(timers):
                (self._timeouts if kind in TIMEOUTS else self._others).append((due_us, counter, kind, task, mark))
        heapify(self._timeouts)
        heapify(self._others)
        self._first = min(self._later, default=None)

    @property
    def added(self) -> int:
        """Number of entries added so far, including removed ones."""
        return self._counter

    def next_due(self) -> int | None:
        """Due time of the next entry, or None."""
        timeouts, others = self._timeouts[0][0] if self._timeouts else None, self._others[0][0] if self._others else None
        later = None if self._first is None else self._later[self._first].first_us
        return earliest(earliest(timeouts, others), later)

    def pop_due(self, now_us: int, time_watermark_us: int | None) -> Timer | None:
        """Take the next entry that is due at `now_us`. Timeouts must also be due at `time_watermark_us`, up to which all reports
        have been read (None: unknown)."""
        if self._first is not None and self._first * INTERVAL_US <= now_us:
            self._begin_intervals(now_us // INTERVAL_US)
        due = [self._others] if self._others and self._others[0][0] <= now_us else []
        timeouts = self._timeouts
        if time_watermark_us is not None and timeouts and timeouts[0][0] <= min(now_us, time_watermark_us):
            due.append(timeouts)
        if not due:
            return None
        due_us, _, kind, task, mark = heappop(min(due, key=lambda heap: heap[0]))
        return due_us, kind, task, mark

    def drop_first(self, wanted: Callable[[str, str], bool]) -> None:
        """Remove the first entries for which `wanted(kind, task)` is false, up to one that is wanted or in a later interval; at
        most DROPPED_AT_ONCE, so that the event loop is not blocked."""
        left = DROPPED_AT_ONCE
        for heap in (self._timeouts, self._others):
            while heap and left and not wanted(heap[0][2], heap[0][3]):
                heappop(heap)
                left -= 1

    def keep(self, wanted: Callable[[str, str], bool]) -> None:
        """Remove all entries for which `wanted(kind, task)` is false."""
        for heap in (self._timeouts, self._others):
            heap[:] = [entry for entry in heap if wanted(entry[2], entry[3])]
            heapify(heap)
        kept = {number: _LaterTimers(timer for timer in timers if wanted(*timer[1:3])) for number, timers in self._later.items()}
        self._later = {number: timers for number, timers in kept.items() if timers}
        self._later_length = sum(map(len, self._later.values()))
        self._first = min(self._later, default=None)

    def entries(self) -> Iterator[Timer]:
        """All entries, unordered."""
        for due_us, _, kind, task, mark in chain(self._timeouts, self._others):
            yield due_us, kind, task, mark
        yield from chain.from_iterable(self._later.values())

    def __len__(self) -> int:
        return len(self._timeouts) + len(self._others) + self._later_length
