"""What delivery costs: events and spans per second of one core, and the CPU time of a subscriber that takes few events.

The subscribers of `measure_reading` run in a thread of this process and read a log that is already written; other work in the
process is counted, too. `us_per_task` is measured with a delivery process while tasks run, see `hub/cli/bench_delivery.py`.
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.request import urlopen

from schemas import Event
from subscribers import subscriber

from ..delivery import DeliveryService, SubscriberConfig
from ..kafka import EVENTS, Cluster, commit_offsets, describe_group
from .figures import spread

EVERYTHING = "hub.bench.tasks:nothing"
TRACES = "subscribers.otel.traces:OtelTraces"
FAILURES = "hub.bench.delivery:failures"
"""Takes only events that a succeeding task does not have."""
POLL_SECONDS = 0.02
READING_SECONDS = 300.0
SETTLE_SECONDS = 60.0
_SINK = "hub.bench.otlp_sink"


@subscriber("task.failed", name="bench-failures")
async def failures(event: Event) -> None:
    """Receive failed tasks and ignore them."""


class Reading(NamedTuple):
    """One pass over the log: the number of `events` that were delivered or filtered out, the duration, and the CPU time of the
    process."""

    events: int
    seconds: float
    cpu_seconds: float


async def measure_reading(cluster: Cluster, begin: Mapping[int, int], rounds: int) -> dict[str, Any]:
    """Read the events from the offsets `begin`, by partition, to the end of the log, with a subscriber that takes every type and
    with `otel-traces`. A first pass of each is not counted.

    Rates ending in `_elapsed` are per second of time, the others per second of CPU time of one core."""
    everything = SubscriberConfig(use=EVERYTHING, id="bench-everything", isolation="thread")
    events = (await _read(cluster, everything, begin, None)).events
    gc.freeze()  # as in a delivery process that is ready
    read = [await _read(cluster, everything, begin, events) for _ in range(rounds)]
    async with _sink() as url:
        traces = SubscriberConfig(use=TRACES, id="bench-traces", settings={"endpoint": url}, isolation="thread")
        relevant = (await _read(cluster, traces, begin, None)).events
        spans = await _spans_at(url)
        exported = [await _read(cluster, traces, begin, relevant) for _ in range(rounds)]
    return {
        "events": events,
        "spans": spans,
        **_rates("events", events, read),
        **_rates("spans", spans, exported),
        "spread": {
            "events_per_second": spread([events / one.cpu_seconds for one in read]),
            "spans_per_second": spread([spans / one.cpu_seconds for one in exported]),
        },
    }


def _rates(name: str, count: int, passes: list[Reading]) -> dict[str, float]:
    return {
        f"{name}_per_second": round(count / statistics.median(one.cpu_seconds for one in passes), 1),
        f"{name}_per_second_elapsed": round(count / statistics.median(one.seconds for one in passes), 1),
    }


async def _read(cluster: Cluster, config: SubscriberConfig, begin: Mapping[int, int], events: int | None) -> Reading:
    """Deliver from `begin` until `events` events are handled; by default until the committed offset is at the end of the log."""
    await commit_offsets(cluster, config.group, EVENTS, begin)
    service = DeliveryService(cluster, [config])
    began, cpu = time.perf_counter(), time.process_time()
    await service.start()
    try:
        await service.ready()
        async with asyncio.timeout(READING_SECONDS):
            await _until_done(service, events)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        return Reading(_handled(service), seconds, cpu_seconds)
    finally:
        await service.stop()


async def _until_done(service: DeliveryService, events: int | None) -> None:
    while True:
        handled = _handled(service)
        if handled >= events if events is not None else handled and service.status()[0].lag == 0:
            return
        await asyncio.sleep(POLL_SECONDS)


def _handled(service: DeliveryService) -> int:
    status = service.status()[0]
    return status.delivered + status.filtered


async def until_settled(cluster: Cluster, group: str) -> None:
    """Wait until the group has committed the end of the log. Raises TimeoutError after SETTLE_SECONDS."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            state = await describe_group(cluster, group)
            if state is not None and state.lag and not any(lag is None or lag > 0 for lag in state.lag.values()):
                return
            await asyncio.sleep(0.2)


@asynccontextmanager
async def _sink() -> AsyncIterator[str]:
    """The URL of a collector in a process of its own."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", _SINK, stdin=pipe, stdout=pipe)
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


async def _spans_at(url: str) -> int:
    def ask() -> int:
        with urlopen(f"{url}/spans", timeout=READING_SECONDS) as answer:
            return int(answer.read())

    return await asyncio.to_thread(ask)
