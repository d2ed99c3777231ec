"""An attempt that the worker has in hand."""

import asyncio
from concurrent.futures import Future
from typing import Any

from schemas import RunAttempt

from .context import Context

#: The number of the report that a body has begun. All others count on from it, whether it was sent or not: it may come from
#: the heartbeat thread, and must never overtake what the loop says later.
STARTED_NUMBER = 1


class Attempt:
    """A command that was accepted, until its end was reported."""

    __slots__ = (
        "announced",
        "arrived_at",
        "began_at",
        "body",
        "concluding",
        "context",
        "granted",
        "interruptible",
        "number",
        "over",
        "run",
        "thread",
    )

    def __init__(self, run: RunAttempt, arrived_at: float) -> None:
        self.run = run
        self.arrived_at = arrived_at
        self.number = STARTED_NUMBER
        self.began_at = 0.0
        self.announced = False
        self.over = False
        self.interruptible = False
        self.concluding = False
        self.granted = asyncio.Event()
        self.body: asyncio.Task[None] | None = None
        self.thread: Future[Any] | None = None
        self.context: Context | None = None

    def cancel(self, reason: str) -> None:
        """Tell the code to stop: the context says so, and an async body is cancelled (a thread can only look). One that has not
        begun yet looks first; one that is over says how it ended."""
        if self.context is not None and not self.context.cancelled and not self.concluding:
            self.context.cancel()
            if self.body is not None and self.interruptible:
                self.body.cancel(reason)
