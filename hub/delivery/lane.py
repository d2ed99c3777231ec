"""One lane: the events of a task (or root, partition, batch handler) that are in flight."""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Protocol

from subscribers import Batch

from .rate_limit import RateLimit
from .window import Item

_NO_PARTS: deque[list[Item]] = deque(maxlen=0)


class Probe(Protocol):
    """An outage whose end is determined by the next call of a handler (see `outages`)."""

    endpoint: str


class Lane:
    """Events that must be handled one after the other; with a batch handler, several at once.

    It is in exactly one state (`place`): queued, held by a worker, waiting for a retry or for the end of an outage, limited by
    the rate of an event type, or gathering a batch; or it has a single event and is not known to others (see `lanes`). `urgent`:
    the last of its events with priority. `probes`: outages that end if its handler returns. `call`: when its call was admitted,
    and by which limits.
    """

    __slots__ = ("batch", "call", "items", "key", "parts", "place", "probes", "timer", "urgent")

    def __init__(self, key: Hashable, batch: Batch | None) -> None:
        self.key = key
        self.batch = batch
        self.items: deque[Item] = deque()
        self.parts: deque[list[Item]] = _NO_PARTS if batch is None else deque()
        self.place = "new"
        self.timer: asyncio.TimerHandle | None = None
        self.urgent: Item | None = None
        self.probes: tuple[Probe, ...] = ()
        self.call: tuple[float, list[RateLimit]] | None = None

    @property
    def is_urgent(self) -> bool:
        """Whether an event with priority is in the lane: those before it must be handled first."""
        return self.urgent is not None and not self.urgent.done

    def next_part(self) -> list[Item]:
        """The events that the next call of the handler gets."""
        if self.batch is None:
            return [self.items[0]]
        if not self.parts:
            self.parts.append([self.items.popleft() for _ in range(min(self.batch.max, len(self.items)))])
        return self.parts[0]

    def remove_part(self) -> None:
        """Remove what `next_part` returns: it is finished."""
        if self.batch is not None:
            part = self.parts.popleft()
            if self.urgent in part:
                self.urgent = None
        elif self.items.popleft() is self.urgent:
            self.urgent = None
