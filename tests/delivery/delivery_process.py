"""A delivery process for crash tests: `python -m tests.delivery.delivery_process <bootstrap> <topic> <id> <file>`.

Its subscriber appends what it sees to the file, one line per event: `<task> <sequence> <source> <id>`.
"""

import asyncio
import sys
from pathlib import Path
from typing import TextIO

from hub.delivery import DeliveryService, SubscriberConfig
from hub.kafka import Cluster
from schemas import Event
from subscribers import Delivery, Meta, Subscriber, SubscriberContext, SubscriberSettings, on


class FileSettings(SubscriberSettings):
    """Where to write."""

    path: Path


class FileWriter(Subscriber[FileSettings]):
    """One line per event, in one write each."""

    name = "file"
    delivery = Delivery(concurrency=4)

    async def open(self, ctx: SubscriberContext) -> None:
        self.out: TextIO = self.settings.path.open("a", buffering=1)

    @on("*")
    async def line(self, event: Event, meta: Meta) -> None:
        await asyncio.sleep(0)
        self.out.write(f"{event.subject} {event.sequence} {event.source} {event.id}\n")


async def main(bootstrap: str, topic: str, id: str, path: str) -> None:
    """Deliver until killed."""
    here = "tests.delivery.delivery_process:FileWriter"
    config = SubscriberConfig(use=here, id=id, settings={"path": path}, start_from="earliest")
    service = DeliveryService(Cluster.of(bootstrap), [config], topic=topic)
    await service.start()
    await service.ready()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
