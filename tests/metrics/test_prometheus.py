"""Snapshots as text for Prometheus: what its own parsers read is what was recorded."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hub.metrics import MetricsSnapshot, Registry
from hub.metrics.plugins import PluginMetrics
from hub.metrics.prometheus import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, exposition, openmetrics, text
from schemas.instruments import INSTRUMENTS

TRACE = "0af7651916cd43dd8448eb211c80319c"
AWKWARD = 'a "b"\\c\nd {e}, é'
NOW_NS = 1_767_000_000_250_000_000


Parse = Callable[[str], Iterable[Metric]]
#: The parser is not typed.
parse_openmetrics: Parse = openmetrics_parser.text_string_to_metric_families


def filled(process: str, number: float = 1) -> Registry:
    registry = Registry({"role": "engine", "process": process}, wall_clock_ns=lambda: NOW_NS)
    registry.counter("hub.worker.losses", pool=AWKWARD).add(number)
    registry.gauge("hub.queue.depth", queue="mail").set(-number)
    duration = registry.histogram("hub.engine.commit.duration", partition=0)
    duration.record(0.1 * number)
    duration.record(100, TRACE)
    return registry


def samples(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def label(*pairs: tuple[str, str], process: str = "engine-1") -> frozenset[tuple[str, str]]:
    return frozenset([("role", "engine"), ("process", process), *pairs])


@pytest.mark.parametrize(("render", "parse"), [(text, parse_text), (openmetrics, parse_openmetrics)])
def test_what_prometheus_reads_is_what_was_recorded(render: Callable[[list[MetricsSnapshot]], str], parse: Parse) -> None:
    found = samples(parse(render([filled("engine-1").collect()])))
    assert found["hub_worker_losses_total", label(("pool", AWKWARD))] == 1
    assert found["hub_queue_depth", label(("queue", "mail"))] == -1
    name, partition = "hub_engine_commit_duration_seconds", ("partition", "0")
    assert found[f"{name}_count", label(partition)] == 2
    assert found[f"{name}_sum", label(partition)] == 100.1
    assert found[f"{name}_bucket", label(partition, ("le", "0.05"))] == 0
    assert found[f"{name}_bucket", label(partition, ("le", "0.1"))] == 1
    assert found[f"{name}_bucket", label(partition, ("le", "30.0"))] == 1
    assert found[f"{name}_bucket", label(partition, ("le", "+Inf"))] == 2


def test_processes_are_told_apart_and_each_instrument_is_described_once() -> None:
    snapshots = [filled("engine-1", 1).collect(), filled("engine-2", 2).collect()]
    for written in (text(snapshots), openmetrics(snapshots)):
        described = [line.split()[2] for line in written.splitlines() if line.startswith("# TYPE")]
        assert len(described) == len(set(described)) == 3
    found = samples(parse_openmetrics(openmetrics(snapshots)))
    for number in (1, 2):
        assert found["hub_queue_depth", label(("queue", "mail"), process=f"engine-{number}")] == -number


def test_openmetrics_has_units_and_exemplars() -> None:
    families = {one.name: one for one in parse_openmetrics(openmetrics([filled("engine-1").collect()]))}
    duration = families["hub_engine_commit_duration_seconds"]
    assert (duration.unit, duration.type, families["hub_worker_losses"].type) == ("seconds", "histogram", "counter")
    (exemplar,) = [one.exemplar for one in duration.samples if one.exemplar]
    assert (exemplar.labels, exemplar.value) == ({"trace_id": TRACE}, 100)
    assert float(exemplar.timestamp or 0) == pytest.approx(NOW_NS / 1e9, abs=1e-3)


def test_the_whole_catalogue_is_valid_in_both_formats() -> None:
    registry = Registry({"role": "all", "process": "1"})
    for name, instrument in INSTRUMENTS.items():
        make = {"counter": registry.counter, "histogram": registry.histogram}.get(instrument.kind, registry.gauge)
        make(name, **dict.fromkeys(instrument.labels, "x"))
    snapshot = registry.collect()
    names = {one.prometheus.removesuffix("_total") for one in INSTRUMENTS.values()}
    assert {one.name for one in parse_openmetrics(openmetrics([snapshot]))} == names
    assert {one.name for one in parse_text(text([snapshot]))} == names
    documented = {one.name: one.documentation for one in parse_text(text([snapshot]))}
    assert documented["hub_queue_depth"] == INSTRUMENTS["hub.queue.depth"].description


def test_an_empty_label_is_absent() -> None:
    registry = Registry()
    registry.histogram("hub.workflow.run.duration", namespace="", task="order", result="success", error_type="").record(1)
    found = samples(parse_openmetrics(openmetrics([registry.collect()])))
    assert ("hub_workflow_run_duration_seconds_count", frozenset([("task", "order"), ("result", "success")])) in found


def test_numbers_keep_their_digits() -> None:
    registry = Registry()
    for queue, value in (("a", 0.1 + 0.2), ("b", 1e300), ("c", 123456789012.0)):
        registry.gauge("hub.queue.depth", queue=queue).set(value)
    found = samples(parse_text(text([registry.collect()])))
    assert sorted(found.values()) == [0.1 + 0.2, 123456789012.0, 1e300]


def test_no_process_is_an_empty_page() -> None:
    assert text([]) == ""
    assert openmetrics([]) == "# EOF\n"
    assert list(parse_openmetrics(openmetrics([Registry().collect()]))) == []


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT_CONTENT_TYPE),
        ("text/html, */*", TEXT_CONTENT_TYPE),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", OPENMETRICS_CONTENT_TYPE),
        ("Application/OpenMetrics-Text", OPENMETRICS_CONTENT_TYPE),
    ],
)
def test_a_scraper_gets_the_format_that_it_accepts(accept: str, content_type: str) -> None:
    found = exposition([filled("engine-1").collect()], accept)
    assert found.content_type == content_type
    assert found.text.endswith("# EOF\n") == (content_type == OPENMETRICS_CONTENT_TYPE)


def test_an_instrument_that_differs_between_processes_is_exposed_once_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    snapshots: list[MetricsSnapshot] = []
    for process in ("1", "2"):
        registry = Registry({"process": process})
        mine = PluginMetrics(registry, "pager")
        (mine.counter("orders.charged") if process == "1" else mine.gauge("orders.charged")).add(1)
        snapshots.append(registry.collect())
    (family,) = parse_openmetrics(openmetrics(snapshots))
    assert (family.type, len(family.samples)) == ("counter", 1)
    assert [getattr(record, "action", "") for record in caplog.records] == ["metrics_conflict"]
