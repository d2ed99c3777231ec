"""The events that the handlers of an isolated subscriber are processing, in memory that outlives its process.

After an abnormal end the process of delivery reads which events were being handled: one of them may have ended the process. The
memory is a file without a name, mapped by the process of the subscriber; whoever has its descriptor can read it. All numbers are
64 bits, in the byte order of the machine:

    0      the layout: the numbers of handlers, of events per handler and of events per flush, and that of suspects
    4      the number of commits after which at least one event was delivered
    5      for each suspect, in the order in which they were given: 1 when it was acknowledged
    ...    for each handler, and then for `flush`: the number of events, and partition, offset and timestamp of each

The number of events is written after the events and set to 0 before others are written, so that whatever is read was handled.
"""

import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import HubError
from .window import Item

ENDS_MAX = 3
"""After so many ends of its process an event is not handled again. One end may have any cause, and at the first one several
events may be in question; from the second on, a suspect is handled alone."""
KILLS_MAX = 10
"""The same if the process was killed from outside: by an operator, which says nothing about the event, or by the kernel because
memory ran out, which may have other causes."""
_WORD = 8
_HEAD = 5
_EVENT_WORDS = 3
_HANDLERS_MAX, _EVENTS_MAX = 1024, 1 << 24
"""Larger numbers were not written by this module: the code of a plugin can write to any memory of its process."""


class ProcessEnded(HubError):
    """The process of a subscriber ended, or had to be ended."""


class ProcessKilled(ProcessEnded):
    """The process of a subscriber was killed from outside."""


class EventPlace(NamedTuple):
    """Where an event is on the log. The timestamp (milliseconds) distinguishes it from another event with the same offset,
    after the topic was deleted and created again."""

    partition: int
    offset: int
    timestamp_ms: int


class Suspect(NamedTuple):
    """An event that was being handled when its process ended: so far `ends` times, `kills` of them from outside, first at `since`
    (RFC 3339, UTC); `cause`: how the process ended the last time."""

    place: EventPlace
    ends: int
    kills: int
    since: str
    cause: str

    @property
    def error(self) -> ProcessEnded | None:
        """Why this event must not be handled again; None if it may be."""
        if self.ends - self.kills < ENDS_MAX and self.ends < KILLS_MAX:
            return None
        return ProcessEnded(f"the process of the subscriber ended {self.ends} times while it handled this event; {self.cause}")


def shared_file() -> int:
    """The descriptor of a new file without a name, which the caller closes."""
    if sys.platform == "linux":
        return os.memfd_create("hub-current-events")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class CurrentEvents:
    """The writing side, in the process of the subscriber. `open` is called before anything else is written. `suspects`: the
    events that must be handled alone. Used in the loop of the subscriber, except `note_commit`."""

    def __init__(self, descriptor: int, suspects: Sequence[Suspect]) -> None:
        self._descriptor = descriptor
        self._suspects = {one.place: (number, one) for number, one in enumerate(suspects)}
        self._count = len(suspects)
        self._is_mapped = False
        self._words = memoryview(bytearray(_HEAD * _WORD)).cast("q")
        self._first = self._step = self._flush_at = 0

    @property
    def has_suspects(self) -> bool:
        """Whether there are suspects that were not acknowledged yet."""
        return bool(self._suspects)

    def open(self, handlers: int, events_max: int, flushed_max: int) -> None:
        """Lay out the memory for this number of handlers, each with at most `events_max` events at once, and a flush of
        `flushed_max`. For the restart of a subscriber within its process: no event is being handled, and the suspects remain."""
        self._first, self._step = _HEAD + self._count, 1 + _EVENT_WORDS * events_max
        self._flush_at = self._first + handlers * self._step
        size = (self._flush_at + 1 + _EVENT_WORDS * flushed_max) * _WORD
        if not self._is_mapped:
            os.ftruncate(self._descriptor, size)
            self._words, self._is_mapped = memoryview(mmap.mmap(self._descriptor, size)).cast("q"), True
        for number in range(handlers):
            self.end(number)
        self.end_flush()
        self._words[0], self._words[1], self._words[2], self._words[3] = handlers, events_max, flushed_max, self._count

    def begin(self, handler: int, events: Sequence[Item]) -> None:
        """The handler with this number is about to be called with these events."""
        self._write(self._first + handler * self._step, events)

    def end(self, handler: int) -> None:
        """The call has ended."""
        self._words[self._first + handler * self._step] = 0

    def begin_flush(self, events: Sequence[Item]) -> None:
        """`flush` is about to be called, after these events were handled."""
        self._write(self._flush_at, events[: self._words[2]])

    def end_flush(self) -> None:
        """`flush` has ended."""
        self._words[self._flush_at] = 0

    def _write(self, at: int, events: Sequence[Item]) -> None:
        words, to = self._words, at
        for event in events:
            words[to + 1], words[to + 2], words[to + 3] = event.partition, event.offset, event.timestamp_ms
            to += _EVENT_WORDS
        words[at] = len(events)

    def suspect(self, item: Item) -> Suspect | None:
        """The suspect that this event is."""
        found = self._suspects.get(_place_of(item))
        return None if found is None else found[1]

    def acknowledge(self, suspect: Suspect) -> None:
        """The event was acknowledged: it is no longer a suspect."""
        number, _ = self._suspects.pop(suspect.place)
        self._words[_HEAD + number] = 1

    def note_commit(self) -> None:
        """Offsets were committed, after events were delivered."""
        self._words[4] += 1


def _place_of(item: Item) -> EventPlace:
    return EventPlace(item.partition, item.offset, item.timestamp_ms)


class Remains(NamedTuple):
    """What the memory of an ended process says: the events that were being handled, whether events were delivered and committed,
    and the numbers of the suspects that were acknowledged."""

    events: tuple[EventPlace, ...] = ()
    has_progress: bool = False
    acknowledged: tuple[int, ...] = ()


def remains_of(descriptor: int) -> Remains:
    """Read the memory of a process that has ended. What cannot have been written by `CurrentEvents` is left out."""
    head = _words(descriptor, 0, _HEAD)
    if len(head) < _HEAD or not 0 <= head[0] <= _HANDLERS_MAX or not all(0 <= size <= _EVENTS_MAX for size in head[1:4]):
        return Remains()
    handlers, events_max, flushed_max, suspects, commits = head
    acknowledged = tuple(number for number, flag in enumerate(_words(descriptor, _HEAD, suspects)) if flag == 1)
    first, step = _HEAD + suspects, 1 + _EVENT_WORDS * events_max
    regions = [(first + number * step, events_max) for number in range(handlers)]
    regions.append((first + handlers * step, flushed_max))
    events = dict.fromkeys(place for at, most in regions for place in _events_at(descriptor, at, most))
    return Remains(tuple(events), commits > 0, acknowledged)


def _events_at(descriptor: int, at: int, most: int) -> Iterator[EventPlace]:
    count = next(iter(_words(descriptor, at, 1)), 0)
    if 0 < count <= most:
        words = _words(descriptor, at + 1, count * _EVENT_WORDS)
        yield from (EventPlace(*place) for place in zip(*[iter(words)] * _EVENT_WORDS, strict=False))


def _words(descriptor: int, at: int, count: int) -> Sequence[int]:
    """The numbers from this one on; fewer at the end of the file."""
    left = os.fstat(descriptor).st_size - at * _WORD
    data = os.pread(descriptor, min(count * _WORD, max(0, left)), at * _WORD)
    return struct.unpack(f"={len(data) // _WORD}q", data[: len(data) // _WORD * _WORD])
