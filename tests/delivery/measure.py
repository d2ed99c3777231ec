"""What an event costs: `python -m tests.delivery.measure [events] [events per second]`. Not a test: nothing is asserted.

A broker in a process of its own; a no-op subscriber in this one. First a log written beforehand is read as fast as it goes (the
figure that says what an event costs), then the log is written to at a steady rate by another process (does it keep up?).
"""

import asyncio
import json
import sys
import tempfile
import time
import uuid
from typing import Any

from aiokafka import AIOKafkaProducer

from hub.delivery import DeliveryService, SubscriberConfig
from hub.kafka import Cluster
from schemas import Event
from schemas.events import TaskProgressed
from subscribers import Delivery, Meta, Subscriber, on

from .event_log import create_topic, progress, ready

STEADY_SECONDS = 8


class Whole(Subscriber[Any]):
    """Takes everything, as whole events with meta."""

    delivery = Delivery(concurrency=8)

    @on("*")
    async def nothing(self, event: Event, meta: Meta) -> None:
        pass


class Typed(Subscriber[Any]):
    """Takes the data of one type."""

    delivery = Delivery(concurrency=8)

    @on
    async def nothing(self, event: TaskProgressed) -> None:
        pass


class Nothing(Subscriber[Any]):
    """Names a type that does not occur: everything is refused by its header."""

    @on("engine.stopped")
    async def nothing(self, event: Event) -> None:
        pass


async def fill(bootstrap: str, topic: str, events: int, per_second: float) -> None:
    """Write `events` events of thousands of tasks, half progress and half ready, in transactions of 500."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        transactional_id=uuid.uuid4().hex,
        max_batch_size=1 << 20,
        linger_ms=1,
        request_timeout_ms=60_000,
    )
    await producer.start()
    began = time.monotonic()
    for start in range(0, events, 500):
        async with producer.transaction():
            batch = producer.create_batch()
            for n in range(start, min(start + 500, events)):
                make = progress if n % 2 else ready
                key, value, headers = make(f"019a0000-0000-7000-8000-{n // 5 % 100_000:012d}", n % 5 + 1)
                batch.append(key=key, value=value, timestamp=None, headers=headers)
            await (await producer.send_batch(batch, topic, partition=0))
        ahead = (start + 500) / per_second - (time.monotonic() - began)
        if ahead > 0:
            await asyncio.sleep(ahead)
    await producer.stop()


async def spawn(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """A child of this package and its first line."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    return child, (await child.stdout.readline()).decode().strip()


async def measure(bootstrap: str, topic: str, name: str, events: int, **more: Any) -> dict[str, Any]:
    """Deliver `events` events and say what that took."""
    config = SubscriberConfig(use=f"tests.delivery.measure:{name}", id=uuid.uuid4().hex, start_from="earliest", **more)
    service = DeliveryService(Cluster.of(bootstrap), [config], topic=topic)
    await service.start()
    await service.ready()

    def seen() -> int:
        status = service.status()[0]
        return status.delivered + status.filtered

    began, cpu, first, lags = time.monotonic(), time.process_time(), seen(), []
    while seen() < events:
        lags.append(service.status()[0].lag)
        await asyncio.sleep(0.02)
    took, used, count = time.monotonic() - began, time.process_time() - cpu, events - first
    await service.stop()
    return {
        "subscriber": name,
        "events_per_second": round(count / took),
        "cpu_us_per_event": round(used / count * 1e6, 2),
        "share_of_a_core": round(used / took, 2),
        "lag_max": max(lags, default=0),
    }


async def main(events: int, per_second: float) -> None:
    """Print one line of JSON per measurement."""
    with tempfile.TemporaryDirectory() as data:
        broker, port = await spawn("tests.delivery.broker_process", data, "0")
        bootstrap = f"127.0.0.1:{port}"
        try:
            await create_topic(bootstrap, "full")
            await fill(bootstrap, "full", events, 1e9)
            for name in ("Whole", "Typed", "Nothing"):
                print(json.dumps(await measure(bootstrap, "full", name, events)), flush=True)
            refusing = {"exact": {"namespace": "other"}}
            print("filter refuses", json.dumps(await measure(bootstrap, "full", "Whole", events, filter=refusing)), flush=True)
            for name in ("Whole", "Nothing"):
                topic = f"steady-{name}"
                await create_topic(bootstrap, topic)
                count = str(int(per_second) * STEADY_SECONDS)
                writer = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", __spec__.name, "fill", bootstrap, topic, count, str(per_second)
                )
                print(f"{per_second:g}/s", json.dumps(await measure(bootstrap, topic, name, int(count))), flush=True)
                await writer.wait()
        finally:
            broker.kill()
            await broker.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        asyncio.run(fill(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
    else:
        asyncio.run(main(int((sys.argv[1:] or ["100000"])[0]), float((sys.argv[2:] or ["15000"])[0])))
