"""Counts how often the process of a subscriber ended while it handled an event."""

from collections.abc import Callable

from ..current_events import EventPlace, ProcessEnded, ProcessKilled, Remains, Suspect
from ..times import utc_now

SUSPECTS_MAX = 10_000
"""Most suspects; beyond it the oldest are forgotten: one that ends the process is soon a suspect again."""


class Suspicion:
    """The suspects of one subscriber, in the memory of the process of delivery, whose restart sets all counts to 0."""

    def __init__(self, now: Callable[[], str] = utc_now) -> None:
        self._now = now
        self._suspects: dict[EventPlace, Suspect] = {}

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """The events that were being handled when a process ended, and were not acknowledged since. The next process is given
        them, in this order."""
        return tuple(self._suspects.values())

    def note_end(self, remains: Remains, error: ProcessEnded) -> None:
        """A process ended with this error; `remains` is what its memory says, and the present suspects are those it was given.

        The first end counts for all events that were being handled, a further one only for an event that was handled alone."""
        given = tuple(self._suspects)
        for number in remains.acknowledged:
            if number < len(given):
                self._suspects.pop(given[number], None)
        for place in remains.events:
            known = self._suspects.pop(place, None) or Suspect(place, 0, 0, self._now(), "")
            counted = not known.ends or len(remains.events) == 1
            kills = known.kills + (counted and isinstance(error, ProcessKilled))
            self._suspects[place] = known._replace(ends=known.ends + counted, kills=kills, cause=str(error))
        for place in list(self._suspects)[:-SUSPECTS_MAX]:
            del self._suspects[place]
