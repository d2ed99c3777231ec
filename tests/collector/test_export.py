"""Export to a real OpenTelemetry Collector: what it writes is the workflow, once, with all its parts."""

import asyncio
import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from hub import Hub
from hub.demo import REGISTRY, order_submission, publish_order
from hub.kafka import Cluster
from hub.testing import HubInMemory
from schemas import Event
from schemas.instruments import INSTRUMENTS
from subscribers import SubscriberContext
from subscribers.otel.settings import TracesSettings
from subscribers.otel.spans import SPAN_TYPES, spans_of
from subscribers.otel.traces import OtelTraces
from tests.e2e.processes import HubProcess
from tests.otel.recorded import recorded, tasks

from .collector import Collector, Span, attributes_of, until

pytestmark = [pytest.mark.collector, pytest.mark.timeout(1800)]  # where it is required, the first test builds the collector

ORDER = "order-1042"
STEPS = ("reserve-stock", "charge-card", "pack-parcel", "ship-parcel", "confirm-order")
CUMULATIVE = 2


async def fulfil(address: str) -> list[Event]:
    """Publish the order of the demo; its events until it has ended."""
    cluster = Cluster.of(address)
    async with Hub(cluster) as hub, asyncio.timeout(60):
        await publish_order(cluster, order_submission(ORDER, 1042))
        await hub.get(ORDER)
        return [event async for event in hub.watch(ORDER)]


async def replayed(address: str, collector: Collector, folder: Path) -> int:
    """Deliver the whole log again to the subscriber otel-traces, in another process; its exit status."""
    config = folder / "hub.toml"
    config.write_text(f'[[subscribers]]\nuse = "otel-traces"\nsettings = {{ endpoint = "{collector.endpoint}" }}\n')
    arguments = ["subscribers", "replay", "otel-traces", "--bootstrap", address]
    process = await HubProcess("replay", arguments, folder, {"HUB_CONFIG": str(config)}).start(ready=False)
    assert process.process is not None
    return await process.process.wait()


def in_trace(collector: Collector) -> dict[str, Span]:
    """The spans by id; every repeat is the same."""
    found: dict[str, Span] = {}
    for span in collector.spans():
        assert found.setdefault(span.id, span).text == span.text
    return found


def named(spans: dict[str, Span], name: str) -> list[Span]:
    """The spans of this name by their start."""
    return sorted((span for span in spans.values() if span.name == name), key=lambda span: span.start)


async def test_a_workflow_is_one_trace_with_its_logs_and_metrics(collector: Collector, tmp_path: Path) -> None:
    settings = {"HUB_OTLP_ENDPOINT": collector.endpoint, "HUB_OTLP_METRICS_INTERVAL_SECONDS": "1"}
    arguments = ["up", "--data", str(tmp_path / "data"), "--port", "0", "--health-port", "0", "--worker", REGISTRY]
    up = await HubProcess("up", arguments, tmp_path, settings).start()
    try:
        events = await fulfil(up.about["address"])
        wanted = {span.id for event in events for span in spans_of(event)}
        assert len(wanted) > 20
        until(lambda: wanted <= in_trace(collector).keys())
        until(lambda: len(records_of_order(collector)) >= len(events))
        until(lambda: results(collector).get("charge-card") == "1")
        assert await replayed(up.about["address"], collector, tmp_path) == 0
        until(lambda: len(collector.spans()) >= 2 * len(in_trace(collector)))
    finally:
        await up.stop()
    spans = in_trace(collector)
    assert_tree(spans)
    assert_retry(spans)
    assert sorted(one["eventName"] for one in records_of_order(collector)) == sorted(f"hub.{event.type}" for event in events)
    assert {one["traceId"] for one in records_of_order(collector)} == {span.trace for span in spans.values()}
    assert_metrics(collector)


def assert_tree(spans: dict[str, Span]) -> None:
    """One trace, whose root is the workflow; every parent exists; children begin after their parents; durations are true."""
    assert len({span.trace for span in spans.values()}) == 1
    (root,) = [span for span in spans.values() if not span.parent]
    assert root.name == "task fulfil-order"
    children: dict[str, list[Span]] = defaultdict(list)
    for span in spans.values():
        if span.parent:
            assert span.parent in spans, span.name
            assert span.start >= spans[span.parent].start, span.name
            children[span.parent].append(span)
    assert [span.name for span in children[root.id] if span.name.startswith("task ")].count("task pack-parcel") == 1
    (pack,) = named(spans, "attempt pack-parcel")
    (whole,) = named(spans, "run fulfil-order")
    assert 2.0 <= pack.seconds < 10
    assert whole.seconds >= 0.3 + pack.seconds + 1.0 + 0.2, "reserve, pack, the delay of ship, ship"
    assert whole.end == max(span.end for span in spans.values())


def assert_retry(spans: dict[str, Span]) -> None:
    """The failed attempt is marked, and the next one is linked with it; the task succeeded."""
    first, second = named(spans, "attempt charge-card")
    assert (first.failed, second.failed) == (True, False)
    assert first.attributes["error.type"] == "PaymentProviderBusy"
    assert (first.link, second.link) == ("", first.id)
    assert second.start > first.end
    assert [span.name for span in spans.values() if span.failed] == ["attempt charge-card"]


def records_of_order(collector: Collector) -> list[dict[str, Any]]:
    """The log records of the order and its steps."""
    return [one for one in collector.records() if attributes_of(one["attributes"]).get("hub.root_run.id") == ORDER]


def results(collector: Collector) -> dict[str, str]:
    """The number of successes by task, by the newest metrics."""
    points = collector.metrics().get("hub.task.results", {"sum": {"dataPoints": []}})["sum"]["dataPoints"]
    values = [(attributes_of(point["attributes"]), point) for point in points]
    return {
        labels["task"]: str(point.get("asInt", point.get("asDouble")))
        for labels, point in values
        if labels["result"] == "success"
    }


def assert_metrics(collector: Collector) -> None:
    """Metrics of events and of every process arrive, under names of the catalogue, cumulative."""
    metrics = collector.metrics()
    assert metrics.keys() <= INSTRUMENTS.keys()
    assert results(collector) == dict.fromkeys(
        ("reserve-stock", "charge-card", "pack-parcel", "ship-parcel", "confirm-order"), "1"
    )
    assert metrics["hub.task.results"]["sum"]["aggregationTemporality"] == CUMULATIVE
    assert metrics["hub.task.results"]["sum"]["isMonotonic"] is True
    histogram = metrics["hub.task.run.duration"]["histogram"]
    assert histogram["aggregationTemporality"] == CUMULATIVE
    assert histogram["dataPoints"][0]["explicitBounds"] == list(INSTRUMENTS["hub.task.run.duration"].bounds)
    assert {"hub.engine.commit.duration", "hub.subscriber.deliveries", "hub.process.up"} <= metrics.keys()


async def test_an_outage_of_the_collector_delays_spans_and_loses_none(collector: Collector) -> None:
    async with HubInMemory(tasks) as hub:
        attached = await hub.attach(OtelTraces, settings={"endpoint": collector.endpoint})
        await hub.submit("flaky", id="before")
        await advance(hub, 60)
        await until_arrived(hub, collector)
        collector.stop()
        for number in range(20):
            await hub.submit("add", {"a": number, "b": 2})
        await hub.submit("never")
        await advance(hub, 60)
        before = len(in_trace(collector))
        assert before < len(wanted_of(hub)), "the collector is away"
        collector.start()
        await hub.submit("flaky", id="after")
        await advance(hub, 60)
        await until_arrived(hub, collector)
        assert attached.dead_letters == []
    assert len(in_trace(collector)) > before


def wanted_of(hub: HubInMemory) -> set[str]:
    """The ids of all spans of the log."""
    return {span.id for event in hub.events for span in spans_of(event)}


async def advance(hub: HubInMemory, seconds: int) -> None:
    """Let virtual time pass, with some real time for the sockets."""
    for _ in range(seconds):
        await hub.advance(seconds=1)
        for _ in range(20):
            await asyncio.sleep(0)


def pause() -> None:
    """A moment of real time, for which virtual time does not wait: the collector is another process."""
    time.sleep(0.01)


async def until_arrived(hub: HubInMemory, collector: Collector) -> None:
    """Let time pass until all spans of the log are in the collector's files, and no others."""
    for _ in range(300):
        await advance(hub, 1)
        if in_trace(collector).keys() == wanted_of(hub):
            return
        pause()
    raise AssertionError(f"{len(wanted_of(hub) - in_trace(collector).keys())} spans are missing")


async def test_the_log_that_is_replayed_gives_the_same_bytes(collector: Collector) -> None:
    events = [event for event in recorded() if event.type in SPAN_TYPES]
    for _ in range(2):
        subscriber = OtelTraces(TracesSettings(endpoint=collector.endpoint))
        await subscriber.open(SubscriberContext("otel-traces", logging.getLogger("test")))
        await subscriber.export(events)
        await subscriber.close()
    wanted = {span.id for event in events for span in spans_of(event)}
    until(lambda: len(collector.spans()) == 2 * len(wanted))
    assert in_trace(collector).keys() == wanted
    lines = (collector.folder / "traces.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
