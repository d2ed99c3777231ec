"""Each feature of the observability of the hub, shown end to end with the smallest real means.

The names of the tests have the numbers of the rows of the project's list of features. Tests that need processes share one
`hub up`.
"""

import asyncio
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from hub import Permanent, TaskRegistry
from hub.cli import build
from hub.metrics.quantiles import figures
from hub.testing import HttpEndpoint, HubInMemory, SubscriberHarness
from schemas import CATALOGUE, Event
from subscribers import Delivery, F, Meta, Subscriber, error_of, metric_name_of, on, subscriber, tags_of, timing_of
from subscribers.datadog import Datadog
from subscribers.metrics import MetricsSubscriber
from subscribers.pagerduty import PagerDuty
from subscribers.sentry import Sentry
from subscribers.slack import Slack

from .whole_hub import Collector, WholeHub, until

tasks = TaskRegistry()


@tasks.task("charge")
async def charge(card: str = "good") -> str:
    if card == "stolen":
        raise Permanent("the card is stolen")
    return "paid"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeHub]:
    """A hub of real processes that has run some tasks."""
    with Collector() as collector, WholeHub(tmp_path_factory.mktemp("hub"), collector).up() as hub:
        hub.run_tasks()
        yield hub


# 75: the catalogue


def test_row_75_changes_of_subscribers_and_alerts_are_events_with_a_schema(whole: WholeHub) -> None:
    assert len(CATALOGUE) >= 50
    whole.hub("subscribers", "pause", "raises", "--reason", "maintenance")
    until(lambda: whole.events("subscriber.paused"), "the pause as an event")
    whole.hub("subscribers", "resume", "raises")
    wanted = {"subscriber.started", "subscriber.failing", "subscriber.dead_lettered", "subscriber.resumed", "alert.fired"}
    until(lambda: wanted <= {event["type"] for event in whole.events("")}, "an event of each type")
    [fired] = whole.events("alert.fired")
    assert fired["data"]["rule"] == "bad-fails"
    assert len(fired["data"]["tasks"]) == 2
    assert {event["subject"] for event in whole.events("subscriber.failing")} == {"exits"}
    assert {event["subject"] for event in whole.events("subscriber.dead_lettered")} == {"raises"}
    for kind in ("subscriber.failing", "alert.fired"):
        assert CATALOGUE[kind].when in " ".join(whole.hub("schema", "show", kind).split())


# 79: subscribers


async def test_row_79_subscribers_filter_helpers_and_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str | None, str | None, float | None]] = []

    @subscriber("task.failed", "task.completed", filter=F.not_(F.exact(namespace="sandbox")))
    async def note(event: Event) -> None:
        error = error_of(event)
        told.append((metric_name_of(event), tags_of(event).get("error"), error and error.message, timing_of(event).total_seconds))

    async with HubInMemory(tasks) as hub:
        await hub.attach(note)
        await hub.submit("charge", {"card": "stolen"})
        await hub.submit("charge", {"card": "stolen"}, namespace="sandbox")
        await hub.submit("charge", start_after=2)
        await hub.advance(seconds=2)
    [failed, completed] = told
    assert failed[:3] == ("hub.task.failed", "Permanent", "the card is stolen")
    assert completed[:3] == ("hub.task.completed", None, None)
    assert completed[3] == pytest.approx(2, abs=0.01)

    options = ["--events", "task.failed", "--kind", "alert", "--directory", str(tmp_path / "package")]
    assert CliRunner().invoke(build(), ["new", "subscriber", "row-watch", *options]).exit_code == 0
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    generated = importlib.import_module("taskhub_row_watch")
    async with HttpEndpoint() as endpoint, SubscriberHarness(generated.RowWatchSubscriber, {"url": endpoint.url}) as harness:
        await harness.feed("task.failed")
        assert [request.json["category"] for request in endpoint.requests] == ["failure"]


# 80: targets


async def test_row_80_slack_pagerduty_sentry_and_datadog_are_told_of_a_failure_and_of_its_end() -> None:
    bodies: dict[str, list[Any]] = {}
    async with HttpEndpoint() as endpoint:
        url = endpoint.url
        targets: list[tuple[type[Subscriber[Any]], dict[str, str]]] = [
            (Slack, {"webhook_url": f"{url}/slack"}),
            (PagerDuty, {"routing_key": "k" * 32, "url": f"{url}/pagerduty"}),
            (Datadog, {"api_key": "secret", "url": f"{url}/datadog"}),
            (Sentry, {"dsn": f"{url.replace('http://', 'http://key@')}/2"}),
        ]
        for target, settings in targets:
            async with SubscriberHarness(target, settings) as harness:
                for event, state in (("task.failed", "failed"), ("task.completed", "completed")):
                    await harness.feed(event, envelope={"taskname": "charge", "to_state": state})
                assert harness.dead_letters == []
        for request in endpoint.requests:
            bodies.setdefault(request.target.rsplit("/", 1)[-1] or "sentry", []).append(request)
    assert ["charge" in request.body.decode() for request in bodies["slack"]] == [True, True]
    assert [request.json["event_action"] for request in bodies["pagerduty"]] == ["trigger", "resolve"]
    assert len({request.json["dedup_key"] for request in bodies["pagerduty"]}) == 1
    assert [request.json["alert_type"] for request in bodies["datadog"]] == ["error", "success"]
    [sentry] = bodies["sentry"]
    assert b'"exception"' in sentry.body
    assert sentry.target == "/api/2/envelope/"


# 81: isolation


def test_row_81_one_failing_subscriber_does_not_affect_others(whole: WholeHub) -> None:
    until(lambda: len(whole.events("workflow.completed")) == 1, "the end of the order")
    until(lambda: len(whole.events("task.failed")) == 2, "the failures")
    listed = {one["id"]: one for one in json.loads(whole.hub("subscribers", "list", "--json"))["subscribers"]}
    assert listed["raises"]["dead_letters"] == 2
    assert listed["exits"]["lag"] > 0, "its process ends at the first failed task"
    until(lambda: whole.events("subscriber.failing"), "the end of its process")
    by_task: dict[str, list[int]] = {}
    for event in whole.events("task."):
        by_task.setdefault(event["subject"], []).append(int(event["sequence"]))
    assert len(by_task) == 9, "the order, its two steps, four charges, two that fail"
    assert all(numbers == sorted(set(numbers)) for numbers in by_task.values()), "the witness got each once, in order"


# 82: routing, sampling, priority


async def test_row_82_events_are_routed_sampled_and_prioritised() -> None:
    kept: dict[str, list[str]] = {}
    order: list[str] = []

    @subscriber("task.*")
    async def sampled(event: Event) -> None:
        kept.setdefault(event.subject, []).append(event.type)

    class Ranked(Subscriber[Any]):
        name = "ranked"
        delivery = Delivery(concurrency=1, priority=("task.failed",))

        @on("task.failed", "task.completed")
        async def seen(self, event: Event, meta: Meta) -> None:
            order.append(event.type)
            await asyncio.sleep(1)

    async with HubInMemory(tasks) as hub:
        await hub.attach(sampled, delivery={"sample": 0.5})
        await hub.attach(Ranked)
        good = [await hub.submit("charge") for _ in range(40)]
        bad = await hub.submit("charge", {"card": "stolen"})
        await hub.advance(minutes=2)
        whole_tasks = {handle.id: [one.type for one in hub.events_of(handle, "task.*")] for handle in good}
    for task, types in kept.items():
        if task != bad.id:
            assert types == whole_tasks[task], "a task is kept or left out whole"
    assert 8 <= len(kept.keys() - {bad.id}) <= 32
    assert "task.failed" in kept[bad.id], "failures are always kept"
    assert sorted(order) == ["task.completed"] * 40 + ["task.failed"], "only the types of its handler reach it"
    assert order.index("task.failed") <= 2, "it was the last to end, and did not wait for the others"


# 83: traces


def spans_of(collector: Collector) -> list[Span]:
    messages = [ExportTraceServiceRequest.FromString(body) for path, body in collector.bodies if path == "/v1/traces"]
    scopes = [scope for message in messages for resource in message.resource_spans for scope in resource.scope_spans]
    return [span for scope in scopes for span in scope.spans]


def test_row_83_one_trace_contains_the_steps_and_the_spans_of_handlers_in_other_processes(whole: WholeHub) -> None:
    def trace_of_the_order() -> list[Span]:
        spans = spans_of(whole.collector)
        roots = [span.trace_id for span in spans if span.name == "run order"]
        return [span for span in spans if span.trace_id in roots]

    until(lambda: sum(span.name == "call the bank" for span in trace_of_the_order()) == 2, "the spans of both steps")
    spans = {span.span_id: span for span in trace_of_the_order()}
    banks = [span for span in spans.values() if span.name == "call the bank"]
    assert [spans[span.parent_span_id].name for span in banks] == ["attempt charge", "attempt charge"]
    steps = [span for span in spans.values() if span.name == "task charge"]
    assert len(steps) == 2
    assert {spans[span.parent_span_id].name for span in steps} == {"task order"}


# 84: logs


def test_row_84_log_records_of_all_processes_have_the_correlation_id(whole: WholeHub) -> None:
    def said(event: str) -> list[dict[str, Any]]:
        return [line for line in whole.log_lines() if line["event"] == event and line.get("correlation_id") == "customer-4711"]

    until(lambda: len(said("witnessed")) >= 2, "the lines of the subscriber")
    charging = said("charging")
    assert len(charging) == 2
    assert {line["root"] for line in charging} == {"order-7"}
    ids = {event["subject"] for event in whole.events("task.completed") if event.get("correlationid") == "customer-4711"}
    assert {line["task"] for line in charging} == ids
    trace_ids = {line["trace_id"] for line in charging}
    assert len(trace_ids) == 1, "both steps are in one trace"


# 85, 87: figures of the pool, Prometheus


def samples_of(page: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(page: str, name: str, **labels: str) -> float:
    return sum(value for have, value in samples_of(page).get(name, []) if labels.items() <= have.items())


def test_row_85_the_pool_says_what_is_active_free_and_queued(whole: WholeHub) -> None:
    held = json.loads(whole.hub("task", "create", "held", "--json"))["id"]

    def figure(name: str, **labels: str) -> float:
        return total(whole.page("/metrics")[1], name, **labels)

    until(lambda: figure("hub_task_active", task="held", state="running") == 1, "the running task")
    until(lambda: figure("hub_worker_slots", pool="default", state="used") == 1, "its slot")
    assert figure("hub_worker_slots", pool="default", state="free") == 63
    assert figure("hub_worker_count", pool="default", state="active") == 1
    assert figure("hub_queue_arrivals_total", queue="default") == 9
    assert figure("hub_queue_completions_total", queue="default") == 8
    assert figure("hub_queue_depth", queue="default") == 0
    whole.hub("task", "cancel", held)
    until(lambda: figure("hub_worker_slots", pool="default", state="used") == 0, "its end")


async def test_row_86_waits_and_runs_have_mean_extremes_percentiles_and_rates() -> None:
    slow = TaskRegistry()

    @slow.task("sleep")
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with HubInMemory(slow) as hub:
        attached = await hub.attach(MetricsSubscriber)
        for seconds in [0.2] * 95 + [4.0] * 5:
            await hub.submit("sleep", {"seconds": seconds})
        await hub.advance(minutes=1)
        [run] = figures([attached.registry.collect()], "hub.task.attempt.duration", []).values()
        [wait] = figures([attached.registry.collect()], "hub.queue.wait.duration", []).values()
    assert run.count == wait.count == 100
    assert run.mean == pytest.approx(0.39, rel=0.1)
    assert run.p50 < 0.5 < 2 < run.p99 <= 5
    assert run.highest == pytest.approx(4, rel=0.01)
    assert wait.mean == pytest.approx(36 * 0.2 / 100, rel=0.1), "64 slots: the others wait for the first"
    assert run.rate > 0


def test_row_87_prometheus_reads_the_metrics_of_all_processes_on_one_page(whole: WholeHub) -> None:
    def counted() -> float:
        return total(whole.page("/metrics")[1], "hub_task_results_total", task="charge", result="success")

    until(lambda: counted() == 6, "the results of all tasks")
    page = whole.page("/metrics")[1]
    assert total(page, "hub_task_results_total", task="bad", result="failure") == 2
    assert total(page, "hub_task_run_duration_seconds_count", task="charge") == 6
    processes = {labels["process"] for labels, _ in samples_of(page)["hub_process_up"]}
    assert processes == {"up", "broker+engine", "worker", "delivery", "analytics"}
    assert total(page, "hub_subscriber_dead_letters_total", subscriber="raises") == 2
    until(lambda: any(path == "/v1/metrics" for path, _ in whole.collector.bodies), "the push to the collector")


# 88: analytics


def test_row_88_statistics_name_the_slowest_steps_and_the_bottlenecks(whole: WholeHub) -> None:
    report = json.loads(whole.hub("stats", "--window", "10m", "--json"))
    by_task = {one["task"]: one for one in report["tasks"]}
    assert by_task["charge"]["results"] == {"success": 6}
    assert by_task["bad"]["success_ratio"] == 0
    for part in ("wait", "run", "total"):
        figures_of = by_task["charge"][part]
        assert figures_of["least"] <= figures_of["p50"] <= figures_of["p95"] <= figures_of["p99"] <= figures_of["most"]
    assert ("bad", "Permanent", 2) in [(one["task"], one["error"], one["count"]) for one in report["failures"]]
    assert {one["task"] for one in report["bottlenecks"]} >= {"charge", "bad"}
    assert sum(one["share"] for one in report["bottlenecks"]) == pytest.approx(1)


# 89: dashboards


def test_row_89_dashboards_and_alert_rules_are_shipped_and_show_series_that_exist(whole: WholeHub, tmp_path: Path) -> None:
    whole.hub("dashboards", "write", str(tmp_path), "--target", f"127.0.0.1:{whole.health_port}")
    dashboards = [json.loads(path.read_text()) for path in tmp_path.glob("grafana/dashboards/*.json")]
    assert len(dashboards) == 6
    texts = json.dumps(dashboards)
    shown = {name for name in samples_of(whole.page("/metrics")[1]) if name in texts}
    assert {"hub_task_results_total", "hub_queue_depth", "hub_worker_slots", "hub_subscriber_lag", "hub_engine_lag"} <= shown
    assert list(tmp_path.glob("prometheus/rules/*.y*ml"))


# 90: health


def test_row_90_health_is_live_ready_and_detailed(whole: WholeHub) -> None:
    assert whole.page("/livez")[0] == 200
    whole.hub("subscribers", "pause", "exits")
    until(lambda: whole.page("/readyz")[0] == 200, "readiness")
    assert json.loads(whole.page("/readyz")[1]) == {"ready": True, "failed": {}}
    status = json.loads(whole.page("/status")[1])
    assert status["processes"].keys() == {"broker+engine", "worker", "delivery", "analytics"}
    checks = status["processes"]["broker+engine"]["checks"]
    assert checks["intake_lag"]["ok"]
    assert "records of hub.intake" in checks["intake_lag"]["detail"]
    assert "ready" in whole.hub("health", "--health-port", str(whole.health_port))
