"""Subscribers of the kill test: each appends a line per event to a file, in one write."""

import json
import os
from pathlib import Path

from schemas import Event
from subscribers import Delivery, Meta, Redelivery, Subscriber, SubscriberSettings, Undeliverable, on

REJECTED_EVERY = 7
"""`Rejects` rejects events whose number within their task is a multiple of this."""


class LineSettings(SubscriberSettings):
    """Where to write."""

    path: Path


class Witnesses(Subscriber[LineSettings]):
    """Accepts every event of a task."""

    name = "witnesses"
    delivery = Delivery(concurrency=4, retry=Redelivery(initial=0.1, max=1, timeout="1h"))

    @on("task.*")
    async def seen(self, event: Event, meta: Meta) -> None:
        place = f"{meta.partition}/{meta.offset}"
        line = [event.subject, event.sequence, meta.idempotency_key, place, meta.replay, os.getpid()]
        with self.settings.path.open("a") as file:
            file.write(f"\n{json.dumps(line)}\n")  # the last process may have been killed in the middle of a write


class Rejects(Witnesses):
    """Rejects some events for ever."""

    name = "rejects"

    @on("task.*")
    async def seen(self, event: Event, meta: Meta) -> None:
        if event.sequence % REJECTED_EVERY == 0:
            raise Undeliverable(f"{event.sequence} is a multiple of {REJECTED_EVERY}")
        await super().seen(event, meta)


class Pages(Witnesses):
    """Is not to be called for the past."""

    name = "pages"
    delivery = Delivery(concurrency=4, replay="skip")
