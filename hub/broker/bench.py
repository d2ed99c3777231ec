"""Measures a running broker, through its in-process API or with any function that sends requests.

Every function returns plain numbers; the caller reports the conditions (disk, cores, flush policy).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .local import LocalBroker


def percentile(values: list[float], share: float) -> float:
    """The quantile `share` (0 to 1) of the values."""
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
    """Commit `count` transactions of one batch each through the in-process API, one after another. `build(producer_id, epoch)`
    returns a batch. Returns milliseconds."""
    identity = await local.init_producer(transactional_id, timeout_ms=10_000)
    durations: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        done = await local.transact(transactional_id, *identity, {(topic, 0): build(*identity)})
        durations.append((time.perf_counter() - started) * 1000)
        identity = done.producer_id, done.producer_epoch
    return {"p50_ms": percentile(durations, 0.5), "p99_ms": percentile(durations, 0.99)}


async def time_concurrently(send: Callable[[int], Awaitable[Any]], *, count: int, parallel: int) -> dict[str, float]:
    """Run `send(n)` `count` times, `parallel` at a time. Returns the rate per second and latencies in milliseconds."""
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
