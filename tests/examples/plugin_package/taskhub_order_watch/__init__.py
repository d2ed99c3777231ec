"""The subscriber order-watch: writes a line about each workflow that has ended."""

import os
from pathlib import Path

from schemas import Event
from subscribers import Meta, Subscriber, SubscriberSettings, on, timing_of


class OrderWatchSettings(SubscriberSettings):
    """`path`: the file, to which lines are appended."""

    path: Path


class OrderWatch(Subscriber[OrderWatchSettings]):
    """One line per workflow: its id, its result, its duration, the process that wrote it, and the key of the event."""

    name = "order-watch"

    @on("workflow.completed", "workflow.failed", "workflow.cancelled")
    async def ended(self, event: Event, meta: Meta) -> None:
        """Append the line."""
        seconds = timing_of(event).total_seconds
        result = event.type.removeprefix("workflow.")
        line = f"{event.subject} {result} {seconds or 0:.3f} {os.getpid()} {meta.idempotency_key}\n"
        with self.settings.path.open("a") as file:
            file.write(line)
