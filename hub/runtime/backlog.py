"""What waits in a hub, from the metrics of its processes on this machine: tasks by queue, and how late subscribers are."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from ..metrics import MetricsSnapshot, decode_snapshot
from .health import PageUnavailable, fetch
from .health.pages import METRICS


class HubBacklog(NamedTuple):
    """`queues`: by name the tasks that wait for a worker, and since when the first of them waits (seconds). `lag_seconds`: by
    subscriber the age of the oldest event that it has not acknowledged; those whose age is unknown are absent."""

    queues: dict[str, tuple[int, float]]
    lag_seconds: dict[str, float]


async def read_backlog(addresses: Iterable[str]) -> HubBacklog:
    """Read the metrics at these addresses of health pages. A process that does not respond within a second is left out."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_snapshot(address)) for address in addresses]
    snapshots = [snapshot for task in asked if (snapshot := task.result()) is not None]
    queues: dict[str, tuple[int, float]] = {}
    lags: dict[str, float] = {}
    for snapshot in snapshots:
        depths, ages = _by_label(snapshot, "hub.queue.depth"), _by_label(snapshot, "hub.queue.oldest.age")
        for queue, depth in depths.items():
            waiting, oldest = queues.get(queue, (0, 0.0))
            queues[queue] = (waiting + round(depth), max(oldest, ages.get(queue, 0.0)))
        for subscriber, age in _by_label(snapshot, "hub.subscriber.lag.time").items():
            lags[subscriber] = max(age, lags.get(subscriber, 0.0))
    return HubBacklog(queues, lags)


async def _snapshot(address: str) -> MetricsSnapshot | None:
    try:
        return decode_snapshot((await fetch(address, METRICS)).body)
    except (PageUnavailable, ValueError):
        return None


def _by_label(snapshot: MetricsSnapshot, name: str) -> dict[str, float]:
    """The values of an instrument with one label."""
    samples = snapshot.instrument(name)
    return {} if samples is None else {point.labels[0]: point.value for point in samples.points}
