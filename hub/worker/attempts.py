"""An attempt that the worker has in hand."""

import asyncio

from schemas import RunAttempt

from .context import Context

#: The number of the report that a body has begun. All others count on from it, whether it was sent or not: it may come from
#: the heartbeat thread, and must never overtake what the loop says later.
STARTED_NUMBER = 1


class Attempt:
    """A command that was accepted, until its end was reported."""

    __slots__ = ("announced", "arrived_at", "began_at", "body", "context", "granted", "number", "on_loop", "over", "run")

    def __init__(self, run: RunAttempt, arrived_at: float) -> None:
        self.run = run
        self.arrived_at = arrived_at
        self.number = STARTED_NUMBER
        self.began_at = 0.0
        self.announced = False
        self.over = False
        self.on_loop = True
        self.granted = asyncio.Event()
        self.body: asyncio.Task[None] | None = None
        self.context: Context | None = None

    def cancel(self, reason: str) -> None:
        """Tell the code to stop: the context says so, and an async body is cancelled (a thread can only look)."""
        if self.context is not None and not self.context.cancelled:
            self.context.cancel()
            if self.body is not None and self.on_loop:
                self.body.cancel(reason)
