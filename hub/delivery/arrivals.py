"""Passes records from the thread of the feed to the loop of the subscriber."""

import asyncio
from collections import deque

from .admission import Admission
from .lanes import Lanes
from .window import Item


class Arrivals:
    """The records that are on their way to the lanes. `admission` is None if every event is delivered."""

    def __init__(self, lanes: Lanes, admission: Admission | None, loop: asyncio.AbstractEventLoop) -> None:
        self._lanes, self._admission, self._loop = lanes, admission, loop
        self._waiting: deque[list[Item]] = deque()
        self._woken = False

    def put(self, items: list[Item]) -> None:
        """Add records of one session, in the order of their partition. Callable from any thread."""
        self._waiting.append(items)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._unpack)

    def _unpack(self) -> None:
        self._woken = False
        while self._waiting:
            items = self._waiting.popleft()
            if not items[0].session.revoked:
                self._lanes.add(items if self._admission is None else self._admission.admit(items))
