"""Rows of tasks that wait only for a time, as columns: a restart takes them over without decoding each.

Snapshot files keep these columns. If their meaning changes, change the magic in `engine/snapshots.py`, so that older files are
ignored.
"""

from collections.abc import Iterable, Iterator, Set
from itertools import compress
from typing import Any

from msgspec import MsgspecError, Struct

from .keys import TASK
from .task import TaskRow, task_row_decoder

TIMER_OF = {"scheduled": "start", "retrying": "retry"}
"""The states in which a task waits only for a time, and the timer that ends them."""

NUMBER_MAX = 2**62
"""A row with a larger due time or mark is not kept in columns: MessagePack has no such integers."""

TaskCategory = tuple[str, str, str, str]
"""Namespace, name, state and queue of tasks."""

_SCHEDULED, _RETRYING = b'"state":"scheduled"', b'"state":"retrying"'


class TimedRows(Struct, array_like=True):
    """Rows of tasks that are their own roots and wait for one timer, as columns of equal length: keys, encoded rows, places of
    categories in `categories`, due times in microseconds, marks of the timers. A key is in it once."""

    categories: list[TaskCategory] = []
    keys: list[bytes] = []
    rows: list[bytes] = []
    places: list[int] = []
    due_us: list[int] = []
    marks: list[int] = []

    def __len__(self) -> int:
        return len(self.keys)

    def extend(self, other: "TimedRows") -> None:
        """Add the rows of `other`, which has none of these keys, with those of its categories that have rows."""
        known = {category: place for place, category in enumerate(self.categories)}
        places = {used: known.setdefault(other.categories[used], len(known)) for used in dict.fromkeys(other.places)}
        self.categories = list(known)
        self.places += map(places.__getitem__, other.places)
        self.keys += other.keys
        self.rows += other.rows
        self.due_us += other.due_us
        self.marks += other.marks

    def without(self, keys: Set[bytes]) -> "TimedRows":
        """The rows of other keys than these; this object if that is all of them."""
        if keys.isdisjoint(self.keys):
            return self
        stays = [key not in keys for key in self.keys]
        columns: tuple[list[Any], ...] = (self.keys, self.rows, self.places, self.due_us, self.marks)
        return TimedRows(self.categories, *(list(compress(column, stays)) for column in columns))

    def ids(self) -> list[str]:
        """The ids of the tasks, a column."""
        return [key[len(TASK) :].decode() for key in self.keys]

    def kinds(self) -> Iterator[str]:
        """The kinds of the timers, a column."""
        kinds = [TIMER_OF[state] for _, _, state, _ in self.categories]
        return map(kinds.__getitem__, self.places)


def divide_rows(rows: Iterable[tuple[bytes, bytes]]) -> tuple[TimedRows, dict[bytes, bytes]]:
    """Divide records of `hub.state` into those of tasks that only wait for one timer, and others. Also among the others are rows
    that cannot be decoded: a restart reports them."""
    timed, others = TimedRows(), dict[bytes, bytes]()
    places: dict[TaskCategory, int] = {}
    for key, value in rows:
        row = _timed_row(key, value)
        due_us = None if row is None else _due_us(row)
        if row is None or due_us is None:
            others[key] = value
            continue
        category = (row.namespace, row.name, row.state, row.queue)
        timed.places.append(places.setdefault(category, len(places)))
        timed.keys.append(key)
        timed.rows.append(value)
        timed.due_us.append(due_us)
        timed.marks.append(row.dispatch if row.state == "retrying" else 0)
    timed.categories = list(places)
    return timed, others


def _timed_row(key: bytes, value: bytes) -> TaskRow | None:
    """The row of a task in one of the states of `TIMER_OF`; None, or some other row, for other records, of which few are
    decoded. None also for keys that are not ASCII, which may not be UTF-8, and for values that no engine can have written."""
    if not (key.startswith(TASK) and (_SCHEDULED in value or _RETRYING in value) and key.isascii()):
        return None
    try:
        return task_row_decoder.decode(value)
    except (MsgspecError, ValueError, RecursionError):
        return None


def _due_us(row: TaskRow) -> int | None:
    """When the only timer of a task that waits for nothing else is due; None for any other task."""
    timers = row.timers
    if row.state not in TIMER_OF or row.root is not None or row.steps.total:
        return None
    if timers.expire is not None or timers.total is not None:
        return None
    due_us = timers.start if row.state == "scheduled" else timers.retry
    if due_us is None or not (0 <= due_us <= NUMBER_MAX and 0 <= row.dispatch <= NUMBER_MAX):
        return None
    return due_us
