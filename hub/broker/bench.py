"""Measures a running broker with ordinary clients and with the in-process door. Figures, not tests.

Every function returns plain numbers; conditions (disk, cores, flush policy) belong to whoever prints them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .local import LocalBroker


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def time_transactions(
    local: LocalBroker,
    topic: str,
    *,
    count: int,
    build: Callable[[int, int], bytes],
    transactional_id: str = "bench",
) -> dict[str, float]:
    """One-batch transactions through the in-process door, one after the other. `build(producer_id, epoch)` makes a
    batch. Milliseconds."""
    identity = await local.init_producer(transactional_id, timeout_ms=10_000)
    durations: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        done = await local.transact(transactional_id, *identity, {(topic, 0): build(*identity)})
        durations.append((time.perf_counter() - started) * 1000)
        identity = done.producer_id, done.producer_epoch
    return {"p50_ms": percentile(durations, 0.5), "p99_ms": percentile(durations, 0.99)}


async def time_concurrently(send: Callable[[int], Awaitable[Any]], *, count: int, parallel: int) -> dict[str, float]:
    """Run `send(n)` `count` times, `parallel` at a time. Rate per second and milliseconds."""
    durations: list[float] = []
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            started = time.perf_counter()
            await send(number)
            durations.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(parallel)))
    seconds = time.perf_counter() - started
    return {
        "per_second": count / seconds,
        "p50_ms": percentile(durations, 0.5),
        "p99_ms": percentile(durations, 0.99),
    }
