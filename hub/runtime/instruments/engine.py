"""The instruments of the engine."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ...metrics import Registry, histogram_of
from .drain import DrainTimes
from .tables import GaugeTable, TotalTable

if TYPE_CHECKING:
    from ...engine import PartitionFigures, PartitionProgress

_HISTOGRAMS = {
    "hub.engine.batch.duration": "batch_seconds",
    "hub.engine.batch.records": "batch_records",
    "hub.engine.commit.duration": "commit_seconds",
    "hub.engine.restore.duration": "restore_seconds",
}


class FiguredEngine(Protocol):
    """An engine: over TCP, or in the broker's process."""

    def progress(self) -> "Sequence[PartitionProgress]":
        """How current each owned partition is."""

    def figures(self) -> "Mapping[int, PartitionFigures]":
        """The figures of every partition that this process owns or has owned."""


def observe_engine(
    registry: Registry,
    engine: FiguredEngine,
    *,
    clock: Callable[[], float] = time.monotonic,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> None:
    """Publish the figures of `engine` at each collection. `clock`: seconds; `now_us`: microseconds since the Unix epoch."""
    partitions, queues = _Partitions(registry), _Queues(registry)

    def read() -> None:
        figures = engine.figures()
        for one in figures.values():
            one.count()
        partitions.show(engine.progress(), figures)
        queues.show(list(figures.values()), clock(), now_us())

    registry.observe(read)


class _Partitions:
    """The instruments with the label `partition`, tasks by state, workers, and delays of timers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._published: set[int] = set()
        self._lag, self._age = GaugeTable(registry, "hub.engine.lag"), GaugeTable(registry, "hub.engine.watermark.age", max)
        self._live = GaugeTable(registry, "hub.engine.live_tasks")
        self._active = GaugeTable(registry, "hub.task.active")
        self._workers = GaugeTable(registry, "hub.worker.count")
        self._consumed = registry.counter(
            "messaging.client.consumed.messages",
            messaging_system="kafka",
            messaging_operation_name="poll",
            messaging_destination_name="hub.intake",
        )

    def show(self, progress: "Sequence[PartitionProgress]", figures: "Mapping[int, PartitionFigures]") -> None:
        for partition in figures.keys() - self._published:
            self._publish(partition, figures[partition])
        self._lag.show({(str(one.partition),): one.lag for one in progress})
        self._age.show({(str(one.partition),): one.watermark_age_seconds for one in progress})
        self._live.show({(str(number),): one.live_tasks for number, one in figures.items() if one.owned})
        active: Counter[tuple[str, ...]] = Counter()
        for one in figures.values():
            for name, states in one.active.items():
                active.update({(*name, state): number for state, number in states.items()})
        self._active.show(active)
        self._workers.show(Counter(worker for one in figures.values() for worker in one.workers()))
        self._consumed.follow(sum(one.batch_records.sum for one in figures.values()))
        self._show_delays(figures)

    def _publish(self, partition: int, figures: "PartitionFigures") -> None:
        self._published.add(partition)
        for name, field in _HISTOGRAMS.items():
            self._registry.publish(name, getattr(figures, field), partition=partition)

    def _show_delays(self, figures: "Mapping[int, PartitionFigures]") -> None:
        for kind in {kind for one in figures.values() for kind in one.timer_delays}:
            delays = histogram_of("hub.task.schedule.delay")
            for one in figures.values():
                delays.merge(one.timer_delays[kind])
            self._registry.publish("hub.task.schedule.delay", delays, timer=kind)


class _Queues:
    """The instruments of queues, over all partitions of the process."""

    def __init__(self, registry: Registry) -> None:
        self._depth, self._drain = GaugeTable(registry, "hub.queue.depth"), GaugeTable(registry, "hub.queue.drain.time", max)
        self._oldest = GaugeTable(registry, "hub.queue.oldest.age", max)
        self._arrivals = TotalTable(registry, "hub.queue.arrivals")
        self._completions = TotalTable(registry, "hub.queue.completions")
        self._estimates = DrainTimes()

    def show(self, figures: "Sequence[PartitionFigures]", now: float, now_us: int) -> None:
        arrivals: Counter[str] = Counter()
        completions: Counter[str] = Counter()
        depths: Counter[str] = Counter()
        ages: dict[str, float] = {}
        for one in figures:
            arrivals.update(one.arrivals)
            completions.update(one.completions)
            for queue, waiting in one.queues(now_us).items():
                depths[queue] += waiting.depth
                ages[queue] = max(ages.get(queue, 0.0), waiting.oldest_seconds)
        for queue in arrivals:  # also those without waiting tasks now
            depths.setdefault(queue, 0)
            ages.setdefault(queue, 0.0)
        self._arrivals.show(_keyed(arrivals))
        self._completions.show(_keyed({queue: completions[queue] for queue in {*arrivals, *completions}}))
        self._depth.show(_keyed(depths))
        self._oldest.show(_keyed(ages))
        self._drain.show(_keyed(self._estimates.estimates(now, depths, arrivals, completions)))


def _keyed(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(queue,): value for queue, value in values.items()}
