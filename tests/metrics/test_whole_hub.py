"""The metrics of a real `hub up`: every instrument of the catalogue is on the page of the supervisor, and pushed from there."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from prometheus_client.parser import text_string_to_metric_families

from hub import Hub, TaskHandle, Workflow
from hub.errors import HubError
from hub.kafka import Cluster
from hub.metrics import Registry
from hub.runtime.health import PageUnavailable, fetch
from hub.runtime.status import gather_status
from hub.testing import HttpEndpoint, make_event
from schemas import CATALOGUE
from schemas.instruments import INSTRUMENTS
from subscribers.metrics import measurements_of
from tests.e2e.processes import HubProcess
from tests.ports import free_port

SECONDS = 60.0
COUNTING = "tests.metrics.hub_app-Counting"

#: Instruments without series in this hub, and why.
RARE = {
    "hub.attempt.rejections": "a report of a worker that is too late",
    "hub.worker.losses": "a worker that is lost",
    "hub.engine.dead_letters": "a record that is no report",
    "hub.alert.transitions": "an alert",
    "hub.metrics.series.overflow": "more than 1,000 series of one instrument",
    "hub.receiver.alerts": "the process of `hub alerts receive`",
    "hub.alert.notifications": "an alert target",
    "hub.alert.active": "the process of `hub analytics`",
}


@asynccontextmanager
async def hub_up(folder: Path, *arguments: str, **settings: str) -> AsyncIterator[HubProcess]:
    options = ("--data", str(folder / "data"), "--port", "0", "--health-port", str(free_port()), *arguments)
    up = HubProcess("up", ["up", *options], folder, settings)
    await up.start()
    try:
        yield up
    finally:
        assert await up.stop() == 0, up.errors()


async def until(page: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(SECONDS):
        while not (found := await page()):
            await asyncio.sleep(0.1)
    return found


async def metrics_of(up: HubProcess) -> str:
    try:
        return (await fetch(up.about["health"], "/metrics", timeout_seconds=5)).body.decode()
    except PageUnavailable as error:
        return str(error)


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the series of a name in the text format that have these labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


async def ended(handle: TaskHandle) -> None:
    with suppress(HubError):
        await handle.result(timeout_seconds=SECONDS)


async def run_tasks(address: str) -> None:
    """Tasks that succeed, are retried, fail, exceed a timeout, are submitted twice, refused and cancelled, and a workflow. One
    remains running."""
    async with Hub(address) as hub:
        names: list[tuple[str, dict[str, Any]]] = [("add", {"a": 1}), ("flaky", {}), ("bad", {}), ("slow", {})]
        handles = [await hub.submit(name, args, id=f"{name}-1") for name, args in names]
        await hub.submit("add", {"a": 1}, id="add-1", reply=False)
        handles.append(
            await hub.submit(Workflow("order").step("one", "add", {"a": 1}).step("two", "add", {"a": 2}, after=["one"]))
        )
        handles.append(await hub.submit("add", {"a": 1}, root_id="no-such-root", key="x"))
        held = [await hub.submit("held", id=f"held-{number}") for number in (1, 2)]
        for handle in handles:
            await ended(handle)
        await hub.cancel("held-1")
        await ended(held[0])


async def test_every_instrument_is_on_the_page_of_the_supervisor(tmp_path: Path) -> None:
    worker = ("--worker", "tests.metrics.hub_app:tasks", "--grace-seconds", "0")
    subscriber = ("--subscriber", "tests.metrics.hub_app:Counting")
    async with hub_up(tmp_path, *worker, *subscriber, HUB_METRICS_ENABLED="true") as up:
        await run_tasks(up.about["address"])

        async def page() -> str | None:
            text = await metrics_of(up)
            done = value(text, "hub_task_cancellations_total") and value(text, "app_completed_total", task="add") >= 3
            return text if done and value(text, "hub_task_active", state="running") else None

        text = await until(page)
        status = await gather_status(Cluster.of(up.about["address"]), up.about)
    assert [(one["queue"], one["waiting"]) for one in status["queues"]] == [("default", 0)]
    late = {one["subscriber"]: one["lag_seconds"] for one in status["subscribers"]}
    assert late.keys() == {COUNTING, "metrics"}
    assert all(seconds is not None and seconds < SECONDS for seconds in late.values())
    check_declarations(text)
    check_figures(text)


def check_declarations(text: str) -> None:
    """Each instrument is declared once, although four processes have some of them."""
    for kind in ("TYPE", "HELP"):
        found = re.findall(rf"^# {kind} (\S+) ", text, re.MULTILINE)
        assert len(found) == len(set(found))
        assert {name for name, one in INSTRUMENTS.items() if one.prometheus not in found} == RARE.keys()


def check_figures(text: str) -> None:
    """What the processes counted agrees with the tasks."""
    assert value(text, "hub_task_created_total", task="add") == 3
    assert value(text, "hub_queue_arrivals_total", queue="default") == 8, "a retry arrives once; a workflow never"
    assert value(text, "hub_queue_completions_total", queue="default") == 7
    assert value(text, "hub_queue_depth", queue="default") == 0
    assert value(text, "hub_task_active") == value(text, "hub_task_active", task="held", state="running") == 1
    assert value(text, "hub_task_schedule_delay_seconds_count", timer="retry") == 1
    assert value(text, "hub_engine_restore_duration_seconds_count", partition="0") == 1
    batches = value(text, "hub_engine_batch_duration_seconds_count", partition="0")
    assert batches == value(text, "hub_engine_batch_records_count", partition="0") > 10
    assert value(text, "hub_engine_commit_duration_seconds_count", partition="0") > 10
    assert value(text, "hub_worker_count", state="active", pool="default") == 1
    assert value(text, "hub_worker_slots", state="used") == 1
    assert value(text, "hub_worker_slots", state="free") == 63
    assert value(text, "hub_worker_commands_total", type="attempt.execute") == 9
    assert value(text, "hub_worker_body_duration_seconds_count", task="slow", outcome="timeout") == 1
    assert value(text, "hub_worker_body_duration_seconds_count", task="flaky", outcome="failure") == 1
    assert 0.15 <= value(text, "hub_worker_body_duration_seconds_sum", task="slow") < 5
    queue = {"messaging_system": "hub", "messaging_operation_name": "process", "messaging_destination_name": "default"}
    assert value(text, "messaging_process_duration_seconds_count", **queue, error_type="AttemptTimedOut") == 1
    assert value(text, "messaging_process_duration_seconds_count", **queue) == 8
    assert value(text, "messaging_client_consumed_messages_total", messaging_destination_name="hub.commands.default") >= 9
    assert value(text, "messaging_client_consumed_messages_total", messaging_destination_name="hub.intake") >= 20
    assert value(text, "hub_subscriber_deliveries_total", subscriber=COUNTING, outcome="ok") == 4
    assert value(text, "hub_subscriber_delivery_duration_seconds_count", subscriber=COUNTING, process="delivery") == 4
    assert value(text, "hub_subscriber_state", subscriber="metrics", state="running") == 1
    assert value(text, "hub_broker_requests_total", api="produce") > 0
    assert value(text, "hub_broker_produced_records_total") > 50
    assert value(text, "hub_process_up") == 4


def test_the_instruments_that_are_rare_are_written_when_it_happens() -> None:
    """By the subscriber of events, and `hub.metrics.series.overflow` by the registry; the others have tests of their own."""
    written = {one.name for kind in CATALOGUE for one in measurements_of(make_event(kind))}
    assert written >= {name for name in RARE if INSTRUMENTS[name].origin == "events"}
    registry = Registry(series_max=1)
    for queue in ("a", "b"):
        registry.gauge("hub.queue.depth", queue=queue)
    assert registry.collect().value("hub.metrics.series.overflow", instrument="hub.queue.depth") == 1


def pushed(endpoint: HttpEndpoint) -> list[ExportMetricsServiceRequest]:
    bodies = [gzip.decompress(request.body) for request in endpoint.requests if request.target == "/v1/metrics"]
    return [ExportMetricsServiceRequest.FromString(body) for body in bodies]


def instances(request: ExportMetricsServiceRequest) -> dict[str, ResourceMetrics]:
    """The metrics of each process, by `service.instance.id`."""
    return {
        {one.key: one.value.string_value for one in of_process.resource.attributes}["service.instance.id"]: of_process
        for of_process in request.resource_metrics
    }


async def test_the_supervisor_alone_pushes_the_metrics_of_all_processes(tmp_path: Path) -> None:
    settings = {"HUB_OTLP_METRICS_INTERVAL_SECONDS": "1", "HUB_OTLP_HEADERS": "authorization=Bearer%20x", "HUB_LOG_LEVEL": "info"}
    async with HttpEndpoint() as endpoint:
        settings |= {"HUB_OTLP_ENDPOINT": endpoint.url, "HUB_METRICS_HISTOGRAMS": "exponential"}
        async with hub_up(tmp_path, "--health-port", "0", **settings) as up:
            delivery = next(one for one in up.about["processes"] if one["role"] == "delivery")
            assert delivery["subscribers"] == ["console", "otel-traces", "otel-logs", "metrics"]

            async def complete() -> bool:
                return any("hub.events.published" in names_in(request).get("delivery", ()) for request in pushed(endpoint))

            await until(complete)
        requests, connections = pushed(endpoint), {one.connection for one in endpoint.requests if one.target == "/v1/metrics"}
    assert len(connections) == 1, "one process pushes"
    assert {one.headers["authorization"] for one in endpoint.requests} == {"Bearer x"}
    found = names_in(next(one for one in requests if "hub.events.published" in names_in(one).get("delivery", ())))
    processes = [one for request in requests for one in instances(request).values()]
    kinds = {metric.WhichOneof("data") for one in processes for metric in one.scope_metrics[0].metrics}
    assert kinds == {"sum", "gauge", "exponential_histogram"}, "in all processes"
    assert found.keys() == {"up", "broker+engine", "delivery"}
    assert found["up"] < found["delivery"]
    assert "hub.engine.batch.duration" in found["broker+engine"]
    last = instances(requests[-1])
    assert up_of(last["up"]) == 1
    assert up_of(last["delivery"]) == up_of(last["broker+engine"]) == 0
    assert "HTTP Request" not in up.errors()


def names_in(request: ExportMetricsServiceRequest) -> dict[str, set[str]]:
    """The names of the metrics of each process."""
    return {name: {metric.name for metric in one.scope_metrics[0].metrics} for name, one in instances(request).items()}


def up_of(of_process: ResourceMetrics) -> float:
    metric = next(one for one in of_process.scope_metrics[0].metrics if one.name == "hub.process.up")
    return float(metric.gauge.data_points[0].as_double)


async def test_a_process_that_is_started_alone_pushes_its_own(tmp_path: Path) -> None:
    async with HttpEndpoint() as endpoint:
        settings = {"HUB_OTLP_ENDPOINT": endpoint.url, "HUB_OTLP_COMPRESSION": "none"}
        broker = await HubProcess("broker", ["broker", "--engine", "--port", "0"], tmp_path, settings).start()
        assert await broker.stop() == 0
        bodies = [one.body for one in endpoint.requests if one.target == "/v1/metrics"]
    found = instances(ExportMetricsServiceRequest.FromString(bodies[-1]))
    assert [name.rpartition("/")[2] for name in found] == [f"broker+engine-{broker.pid}"]
