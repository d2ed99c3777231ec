"""Handles the suspects of an isolated subscriber, so that the event that ends the process can be found.

Before a handler is called, its events are written to memory that outlives the process (see `current_events`). After an abnormal
end several of them may be in question: with several handlers, with a batch, in a flush. The next process handles each of these
suspects alone: no other handler runs at the same time, a batch is divided, and a sink that buffers is flushed before and after.
"""

import asyncio
from collections.abc import Awaitable

from .calls import Slot
from .current_events import CurrentEvents, Suspect
from .failures import Failures
from .flushing import Flushing
from .handling import Handling
from .lane import Lane
from .window import Item


class CautiousHandling:
    """The steps of `Handling` for a subscriber that has suspects (`current`)."""

    def __init__(self, handling: Handling, failures: Failures, flushing: Flushing | None, current: CurrentEvents) -> None:
        self._handling, self._failures, self._flushing = handling, failures, flushing
        self._current = current
        self._running = 0
        self._one_by_one = asyncio.Lock()
        self._rested: asyncio.Future[None] | None = None

    def step(self, slot: Slot, lane: Lane) -> Awaitable[float | None]:
        """See `Handling.step`."""
        return self._step_among_suspects(slot, lane) if self._current.has_suspects else self._step(slot, lane)

    async def _step(self, slot: Slot, lane: Lane) -> float | None:
        self._running += 1
        try:
            return await self._handling.step(slot, lane)
        finally:
            self._running -= 1
            if self._rested is not None and not self._running and not self._rested.done():
                self._rested.set_result(None)

    async def _step_among_suspects(self, slot: Slot, lane: Lane) -> float | None:
        item = self._divide(lane)
        async with self._one_by_one:
            suspect = self._current.suspect(item)  # not before: it may have been acknowledged meanwhile
            if suspect is not None:
                return await self._step_alone(slot, lane, item, suspect)
        return await self._step(slot, lane)

    def _divide(self, lane: Lane) -> Item:
        """Divide the next batch of the lane so that a suspect is a batch of its own. Returns the first event of the lane."""
        part = lane.next_part()
        if len(part) > 1 and any(self._current.suspect(item) is not None for item in part):
            pieces: list[list[Item]] = [[]]
            for item in part:
                if self._current.suspect(item) is not None:
                    pieces += [[item], []]
                else:
                    pieces[-1].append(item)
            lane.parts.popleft()
            lane.parts.extendleft(piece for piece in reversed(pieces) if piece)
            part = lane.parts[0]
        return part[0]

    async def _step_alone(self, slot: Slot, lane: Lane, item: Item, suspect: Suspect) -> float | None:
        while self._running:
            self._rested = asyncio.get_running_loop().create_future()
            await self._rested
        await self._flush()
        if item.session.revoked:
            return await self._handling.step(slot, lane)  # which leaves it out
        if suspect.error is not None:
            delay = await self._give_up(lane, item, suspect, suspect.error)
        else:
            delay = await self._step(slot, lane)
            await self._flush()
        if item.done:
            self._current.acknowledge(suspect)
        return delay

    async def _give_up(self, lane: Lane, item: Item, suspect: Suspect, error: Exception) -> float | None:
        item.failures, item.wall_first_failure = suspect.ends, suspect.since
        if not await self._failures.give_up(item, error):
            return 0.0
        lane.remove_part()
        return None

    async def _flush(self) -> None:
        if self._flushing is not None:
            await self._flushing.flush()
