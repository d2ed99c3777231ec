"""Figures of the rooms as metrics: series that come and go, estimates, and what a subscriber's status becomes."""

import asyncio
import os
from dataclasses import replace

import pytest
from msgspec import json, structs

from hub import TaskRegistry
from hub.analytics.book import AlertState
from hub.delivery import SubscriberConfig, SubscriberStatus
from hub.delivery.isolation import IsolatedSubscriber, Job, Reporter
from hub.delivery.isolation.reports import METRICS_BYTES_MAX, ReportReader, metrics_in
from hub.engine import PartitionFigures, PartitionProgress
from hub.kafka import Cluster
from hub.metrics import PluginMetrics, Registry, encode_snapshot, merged
from hub.runtime.instruments import observe_analytics, observe_delivery, observe_engine, observe_worker
from hub.runtime.instruments.drain import SAMPLE_SECONDS, WINDOW_SECONDS, DrainTimes
from hub.runtime.instruments.tables import GaugeTable, TotalTable
from hub.worker import Failed, Succeeded, Worker
from schemas import TaskError


def depths_in(registry: Registry) -> dict[str, float]:
    samples = registry.collect().instrument("hub.queue.depth")
    return {} if samples is None else {point.labels[0]: point.value for point in samples.points}


def test_series_of_a_gauge_end_with_what_they_described() -> None:
    registry = Registry()
    table = GaugeTable(registry, "hub.queue.depth")
    table.show({("a",): 1, ("b",): 2})
    table.show({("b",): 3})
    assert depths_in(registry) == {"b": 3}


def test_beyond_the_limit_the_smallest_gauges_are_combined() -> None:
    registry = Registry()
    table = GaugeTable(registry, "hub.queue.depth", series_max=3)
    table.show({(str(number),): number for number in range(1, 6)})
    assert depths_in(registry) == {"5": 5, "4": 4, "other": 6}
    GaugeTable(registry, "hub.queue.oldest.age", max, series_max=2).show({("a",): 1, ("b",): 9, ("c",): 5})
    assert registry.collect().value("hub.queue.oldest.age", queue="other") == 5


def test_totals_beyond_the_limit_are_counted_together_and_never_move() -> None:
    registry = Registry()
    table = TotalTable(registry, "hub.queue.arrivals", series_max=2)
    table.show({("a",): 1, ("b",): 10, ("c",): 100})
    table.show({("b",): 11, ("c",): 100, ("a",): 3})
    snapshot = registry.collect()
    assert [snapshot.value("hub.queue.arrivals", queue=one) for one in ("a", "b", "other")] == [3, 0, 111]


def test_the_time_to_drain_a_queue_follows_from_what_arrived_and_ended() -> None:
    drain = DrainTimes()
    assert drain.estimates(0.0, {"a": 90, "b": 0}, {"a": 100}, {"a": 10}) == {"b": 0.0}, "nothing is known of a yet"
    assert drain.estimates(10.0, {"a": 80}, {"a": 110}, {"a": 30}) == {"a": 80.0}, "20 ended and 10 arrived in 10 s"
    assert drain.estimates(20.0, {"a": 90}, {"a": 140}, {"a": 50}) == {}, "it grows"


def test_old_rates_are_forgotten() -> None:
    drain = DrainTimes()
    ended = 0
    for at in range(0, 200, int(SAMPLE_SECONDS)):
        ended += 50 if at < 100 else 5
        found = drain.estimates(float(at), {"a": 60}, {}, {"a": ended})
    assert found == {"a": pytest.approx(60.0)}
    assert WINDOW_SECONDS < 100


class FiguredEngine:
    """An engine with these figures."""

    def __init__(self, owned: dict[int, PartitionFigures]) -> None:
        self.owned = owned

    def progress(self) -> list[PartitionProgress]:
        """Of the partitions that are owned."""
        return [PartitionProgress(number, 7, 0.0, 0.25, False) for number, one in self.owned.items() if one.waiting]

    def figures(self) -> dict[int, PartitionFigures]:
        """All."""
        return self.owned


def test_tasks_and_totals_of_the_partitions_of_a_process_are_added_and_gauges_of_lost_ones_removed() -> None:
    registry, figures = Registry(), {0: PartitionFigures(), 1: PartitionFigures()}
    for number, one in figures.items():
        one.waiting = {"mail": 1}
        one.active = {("shop", "charge"): {"ready": 2}}
        one.arrivals, one.completions = {"mail": 10 + number}, {"mail": 1}
        one.timer_delays["retry"].record(0.5)
    observe_engine(registry, FiguredEngine(figures), clock=lambda: 0.0, now_us=lambda: 0)
    snapshot = registry.collect()
    assert snapshot.value("hub.task.active", namespace="shop", task="charge", state="ready") == 4
    assert snapshot.value("hub.queue.arrivals", queue="mail") == 21
    assert snapshot.value("hub.task.schedule.delay", timer="retry") == 1.0
    assert [snapshot.value("hub.engine.lag", partition=one) for one in ("0", "1")] == [7, 7]
    figures[0].decided(2.0, 1)
    assert registry.collect().value("hub.engine.batch.duration", partition="0") == 2.0, "also what was not counted yet"
    figures[1].end()
    figures[1].batch_seconds.record(3.0)
    snapshot = registry.collect()
    lag = snapshot.instrument("hub.engine.lag")
    assert lag is not None
    assert [point.labels for point in lag.points] == [("0",)]
    assert snapshot.value("hub.engine.batch.duration", partition="1") == 3.0, "totals remain"
    assert snapshot.value("hub.queue.arrivals", queue="mail") == 21


STATUS = SubscriberStatus("mine", "app:Mine", "running", lag=3, in_flight=2, delivered=5, retried=1, postponed=2, dropped=3,
                          skipped=4, dead_lettered=6, timed_out=7, restarts=8, lag_seconds=1.5)  # fmt: skip


def test_the_status_of_a_subscriber_becomes_its_metrics() -> None:
    registry, statuses = Registry(), [STATUS]
    observe_delivery(registry, lambda: statuses)
    snapshot = registry.collect()
    outcomes = {"ok": 5, "retry": 1, "postponed": 2, "drop": 3, "skip": 4, "dlq": 6, "timeout": 7}
    for outcome, count in outcomes.items():
        assert snapshot.value("hub.subscriber.deliveries", subscriber="mine", outcome=outcome) == count
    about = {"lag": 3, "lag.time": 1.5, "inflight": 2, "dead_letters": 6, "restarts": 8}
    assert {name: snapshot.value(f"hub.subscriber.{name}", subscriber="mine") for name in about} == about
    assert snapshot.value("hub.subscriber.state", subscriber="mine", state="running") == 1
    statuses[0] = replace(STATUS, state="reconnecting", lag_seconds=None, delivered=2)
    snapshot = registry.collect()
    assert snapshot.value("hub.subscriber.state", subscriber="mine", state="running") == 0
    assert snapshot.value("hub.subscriber.state", subscriber="mine", state="reconnecting") == 1
    age = snapshot.instrument("hub.subscriber.lag.time")
    assert age is not None
    assert age.points == (), "it is unknown while nothing is assigned"
    assert snapshot.value("hub.subscriber.deliveries", subscriber="mine", outcome="ok") == 7, "its process was restarted"


async def test_the_figures_of_a_worker_become_its_metrics() -> None:
    tasks = TaskRegistry()
    tasks.task("charge")(lambda: None)
    worker = Worker("127.0.0.1:1", tasks)
    registry = Registry()
    observe_worker(registry, worker)
    worker.figures.leases_lost = 2
    worker.figures.loop_delay_seconds = 0.25
    worker.figures.ran("shop", "charge", "mail", Failed(TaskError(type="E", message=""), 0.0, timed_out=True), 3.0)
    snapshot = await asyncio.to_thread(registry.collect)
    assert snapshot.value("hub.worker.leases.lost", pool="default") == 2
    assert snapshot.value("hub.worker.loop.delay", pool="default") == 0.25
    assert snapshot.value("hub.worker.body.duration", namespace="shop", task="charge", outcome="timeout") == 3.0
    assert snapshot.value("hub.worker.slots", pool="default", state="free") == 64


async def test_bodies_and_commands_are_published_in_the_terms_of_the_messaging_conventions() -> None:
    tasks = TaskRegistry()
    tasks.task("charge")(lambda: None)
    worker, registry = Worker("127.0.0.1:1", tasks), Registry()
    observe_worker(registry, worker)
    worker.figures.commands = {"attempt.execute": 3, "attempt.cancel": 1}
    error = TaskError(type="E", message="")
    for outcome in (Succeeded(b"", 0.0), Failed(error, 0.0), Failed(error, 0.0, timed_out=True)):
        worker.figures.ran("shop", "charge", "mail", outcome, 3.0)
    snapshot = await asyncio.to_thread(registry.collect)
    process = {"messaging_system": "hub", "messaging_operation_name": "process", "messaging_destination_name": "mail"}
    for error_type in ("", "E", "AttemptTimedOut"):
        assert snapshot.value("messaging.process.duration", **process, error_type=error_type) == 3.0
    poll = {"messaging_system": "kafka", "messaging_operation_name": "poll", "messaging_destination_name": "hub.commands.default"}
    assert snapshot.value("messaging.client.consumed.messages", **poll) == 4


def test_alerts_that_fire_are_published_by_rule_and_severity() -> None:
    registry = Registry()
    alerts = [AlertState("late", key, 1, severity="page") for key in "ab"] + [AlertState("slow", "", 1, resolved=2)]
    observe_analytics(registry, lambda: alerts)
    assert registry.collect().value("hub.alert.active", rule="late", severity="page") == 2
    alerts[0] = structs.replace(alerts[0], resolved=3)
    assert registry.collect().value("hub.alert.active", rule="late", severity="page") == 1
    del alerts[1]
    found = registry.collect().instrument("hub.alert.active")
    assert found is None or not found.points


def test_a_process_of_a_subscriber_sends_its_metrics_when_they_have_changed() -> None:
    reading, writing = os.pipe()
    registry, reporter, reader = Registry(), Reporter(writing), ReportReader()
    counter = PluginMetrics(registry, "mine").counter("orders.charged")
    counter.add(1)
    for _ in range(2):
        reporter.metrics(registry.collect())
    counter.add(1)
    reporter.metrics(registry.collect())
    values = [metrics_in(message, "mine") for message in reader.messages_in(os.read(reading, 65536))]
    assert [one.value("orders.charged", subscriber="mine") for one in values if one] == [1, 2]
    assert metrics_in({"status": {}}, "mine") is metrics_in({"metrics": {"instruments": 1}}, "mine") is None
    os.close(reading)
    os.close(writing)


def test_metrics_that_are_too_large_are_not_sent_which_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    registry, reporter = Registry(), Reporter(writing)
    metrics = PluginMetrics(registry, "mine")
    for number in range(1000):
        for name in ("a", "b"):
            metrics.counter(name, kind=f"{number:0>255}").add(1)
    for _ in range(2):
        reporter.metrics(registry.collect())
        metrics.counter("a", kind="x").add(1)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    assert [getattr(record, "action", "") for record in caplog.records] == ["subscriber_metrics_large"]
    assert METRICS_BYTES_MAX < 1 << 20
    os.close(reading)
    os.close(writing)


async def test_the_totals_of_a_process_remain_when_it_has_ended() -> None:
    config = SubscriberConfig(use="app:Mine", id="mine")
    one = IsolatedSubscriber(Job(Cluster.of("127.0.0.1:1"), config, "hub.events", 1.0, {}), server=None, on_change=lambda: None)  # type: ignore[arg-type]

    def counted() -> float:
        return merged(Registry().collect(), one.metrics()).value("orders.charged", subscriber="mine")

    for process in (1, 2):
        for total in (1, 5):
            registry = Registry()
            metrics = PluginMetrics(registry, "mine")
            metrics.counter("orders.charged").add(total)
            metrics.gauge("orders.open").set(total)
            one._hear({"metrics": json.decode(encode_snapshot(registry.collect()))})
            assert counted() == (process - 1) * 5 + total
        one._keep_totals()
    assert counted() == 10
    assert merged(Registry().collect(), one.metrics()).instrument("orders.open") is None, "a gauge ends with its process"
