"""A subscriber that writes one line per event to a file."""

import os
from typing import Any

from schemas import Event
from subscribers import Meta, Subscriber, SubscriberSettings, on


class Listener(Subscriber[SubscriberSettings]):
    """Appends `partition offset id entity sequence` of every event to the file that HUB_TEST_DELIVERED names."""

    name = "listener"

    async def open(self, ctx: Any) -> None:
        """Open the file."""
        self._file = open(os.environ["HUB_TEST_DELIVERED"], "a")  # noqa: SIM115  # a test's file, closed below

    @on("*")
    async def heard(self, event: Event, meta: Meta) -> None:
        """Write it down."""
        self._file.write(f"{meta.partition} {meta.offset} {event.id} {event.entity} {event.sequence}\n")
        self._file.flush()

    async def close(self) -> None:
        """Close the file."""
        self._file.close()
