"""Subscribers that disturb their process, each in one way, and a witness that is not to be disturbed."""

import ctypes
import os
import time
from pathlib import Path

from schemas import Event
from subscribers import Delivery, Meta, Redelivery, Subscriber, SubscriberSettings, on, subscriber

PATIENT = Delivery(retry=Redelivery(initial=0.2, max=1, timeout="1h"))
_held: list[bytearray] = []


class WitnessSettings(SubscriberSettings):
    """Where to write."""

    path: Path


class Witness(Subscriber[WitnessSettings]):
    """Appends `task sequence` of every event about a task to a file."""

    @on("task.*")
    async def seen(self, event: Event, meta: Meta) -> None:
        with self.settings.path.open("a") as file:
            file.write(f"{event.subject} {event.sequence}\n")


@subscriber("task.*", name="spins")
async def spins(event: Event) -> None:
    """Uses the CPU without end, in the loop of its thread."""
    while True:
        pass


@subscriber("task.*", name="exits")
async def exits(event: Event) -> None:
    """Ends its process."""
    os._exit(3)


@subscriber("task.*", name="crashes")
def crashes(event: Event) -> None:
    """Reads from address 0."""
    ctypes.string_at(0)


@subscriber("task.*", name="eats")
def eats(event: Event) -> None:
    """Allocates memory without end."""
    while True:
        _held.append(bytearray(8 << 20))
        time.sleep(0.01)


@subscriber("task.*", name="raises", delivery=PATIENT)
async def raises(event: Event) -> None:
    """Fails at every event."""
    raise ValueError("no event is good enough")


@subscriber("task.*", name="sleeps", delivery=PATIENT)
def sleeps(event: Event) -> None:
    """Takes a second for every event."""
    time.sleep(1)
