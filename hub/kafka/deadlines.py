"""One timer of the event loop for many deadlines, most of which are met: meeting one does not cancel the timer, which would cost
more than to let it run out."""

import asyncio
import math
from collections.abc import Callable


class DeadlineTimer:
    """Calls `on_due` with the present time of the event loop when the earliest deadline has come. It returns the next deadline,
    `math.inf` if there is none. Use it on one event loop."""

    __slots__ = ("_at", "_handle", "_on_due")

    def __init__(self, on_due: Callable[[float], float]) -> None:
        self._on_due = on_due
        self._handle: asyncio.TimerHandle | None = None
        self._at = math.inf

    def add(self, deadline: float) -> None:
        """Call `on_due` at `deadline`, a time of the event loop, or before."""
        if deadline < self._at:
            if self._handle is not None:
                self._handle.cancel()
            self._handle, self._at = asyncio.get_running_loop().call_at(deadline, self._due), deadline

    def _due(self) -> None:
        self._handle, self._at = None, math.inf
        self.add(self._on_due(asyncio.get_running_loop().time()))

    def cancel(self) -> None:
        """Forget all deadlines."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._at = None, math.inf
