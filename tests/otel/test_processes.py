"""With `[otlp] endpoint` set, the processes of a hub export without further configuration."""

import asyncio
import gzip
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from hub import Hub
from hub.cli.processes import checked_subscribers
from hub.errors import ConfigurationError
from hub.runtime.export import exporting_subscribers, metrics_push, span_export
from hub.settings import MetricsSection, OtlpSection
from tests.e2e.processes import HubProcess
from tests.subscribers.http_endpoint import HttpEndpoint

SECONDS = 60.0


def spans_at(endpoint: HttpEndpoint) -> dict[str, Span]:
    """The spans that arrived, by name."""
    bodies = [gzip.decompress(request.body) for request in endpoint.requests if request.target == "/v1/traces"]
    messages = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    return {
        span.name: span
        for message in messages
        for of_resource in message.resource_spans
        for scoped in of_resource.scope_spans
        for span in scoped.spans
    }


async def test_spans_of_the_hub_and_of_a_handler_are_one_tree_at_the_collector(tmp_path: Path) -> None:
    async with HttpEndpoint() as endpoint, AsyncExitStack() as stack:
        settings = {"HUB_OTLP_ENDPOINT": endpoint.url, "HUB_OTLP_ENVIRONMENT": "test"}

        async def started(name: str, *arguments: str) -> HubProcess:
            process = await HubProcess(name, [name, *arguments], tmp_path, settings).start()
            stack.push_async_callback(process.stop)
            return process

        broker = await started("broker", "--engine", "--port", "0")
        target = ("--bootstrap", broker.about["address"])
        delivery = await started("delivery", *target)
        worker = await started("worker", "tests.otel.app:tasks", *target)
        assert delivery.about["subscribers"] == ["console", "otel-traces", "otel-logs", "metrics"]
        async with Hub(broker.about["address"]) as hub:
            await hub.run("charge", id="order-7", timeout_seconds=SECONDS)
        assert await worker.stop() == 0
        async with asyncio.timeout(SECONDS):
            while len(spans_at(endpoint)) < 5 or not any(one.target == "/v1/logs" for one in endpoint.requests):
                await asyncio.sleep(0.05)
    spans = spans_at(endpoint)
    assert spans.keys() == {"task charge", "queue default", "attempt charge", "run charge", "call the bank"}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert spans["call the bank"].parent_span_id == spans["attempt charge"].span_id
    assert spans["attempt charge"].parent_span_id == spans["task charge"].span_id
    logs = [gzip.decompress(request.body) for request in endpoint.requests if request.target == "/v1/logs"]
    of_resource = ExportLogsServiceRequest.FromString(logs[0]).resource_logs[0].resource
    assert {one.key: one.value.string_value for one in of_resource.attributes} == {
        "service.name": "hub",
        "deployment.environment.name": "test",
    }


def test_without_an_endpoint_nothing_is_exported() -> None:
    assert exporting_subscribers(OtlpSection(), MetricsSection(), []) == []
    assert span_export(OtlpSection()) is None
    assert metrics_push(OtlpSection()) is None
    assert OtlpSection(endpoint="").endpoint is None


def test_the_settings_reach_subscribers_and_workers() -> None:
    section = OtlpSection.model_validate(
        {
            "endpoint": "http://127.0.0.1:4318/",
            "headers": "authorization=x",
            "timeout_seconds": 3,
            "compression": "none",
            "traces_mode": "on_terminal",
            "traces_slow": "1m",
            "traces_keep": 0.5,
        }
    )
    common = {"endpoint": "http://127.0.0.1:4318", "headers": "authorization=x", "timeout_seconds": 3.0, "compression": "none"}
    traces, logs, metrics = exporting_subscribers(section, MetricsSection(), [{"use": "console"}])
    assert traces == {"use": "otel-traces", "settings": {**common, "mode": "on_terminal", "slow": "1m", "keep": 0.5}}
    assert logs == {"use": "otel-logs", "settings": common}
    assert metrics == {"use": "metrics"}
    export = span_export(section)
    assert export is not None
    assert (export.endpoint, export.timeout_seconds, export.gzip) == ("http://127.0.0.1:4318", 3.0, False)
    assert export.headers.get_secret_value() == "authorization=x"
    assert "authorization=x" not in repr(export)


def test_a_configured_exporter_is_not_added_again() -> None:
    section = OtlpSection(endpoint="http://127.0.0.1:4318")
    mine = [{"use": "otel-traces", "id": "mine"}, {"use": "subscribers.metrics:MetricsSubscriber"}]
    assert [one["use"] for one in exporting_subscribers(section, MetricsSection(enabled=True), mine)] == ["otel-logs"]


def test_the_figures_of_tasks_need_no_collector() -> None:
    assert exporting_subscribers(OtlpSection(), MetricsSection(enabled=True), []) == [{"use": "metrics"}]


def test_the_settings_reach_the_push_of_metrics() -> None:
    section = OtlpSection.model_validate(
        {
            "endpoint": "http://127.0.0.1:4318/",
            "headers": "authorization=Bearer%20x,x-scope=hub",
            "timeout_seconds": 3,
            "compression": "none",
            "environment": "test",
            "metrics_interval_seconds": 60,
        }
    )
    push = metrics_push(section, "worker-4711")
    assert push is not None
    assert (push.url, push.interval_seconds, push.timeout_seconds, push.gzip) == (
        "http://127.0.0.1:4318/v1/metrics",
        60,
        3,
        False,
    )
    assert {name: value.get_secret_value() for name, value in push.headers.items()} == {
        "authorization": "Bearer x",
        "x-scope": "hub",
    }
    assert "Bearer" not in repr(push)
    host = push.resource["host.name"]
    assert push.resource == {
        "service.name": "hub",
        "host.name": host,
        "service.instance.id": f"{host}/worker-4711",
        "deployment.environment.name": "test",
    }
    fleet = metrics_push(section)
    assert fleet is not None
    assert "service.instance.id" not in fleet.resource, "each process has its own"


def test_exporters_are_added_to_the_chosen_subscribers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUB_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert [one["use"] for one in checked_subscribers(None)] == ["console", "otel-traces", "otel-logs", "metrics"]
    assert [one["use"] for one in checked_subscribers(["console"])] == ["console", "otel-traces", "otel-logs", "metrics"]
    (tmp_path / "hub.toml").write_text('[[subscribers]]\nuse = "console"\nid = "mine"\n')
    assert [one.get("id") for one in checked_subscribers(None)] == ["mine", None, None, None]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HUB_OTLP_HEADERS": "s3cret"}, r"settings\.headers: header 1: must have the form name=value"),
        ({"HUB_OTLP_TRACES_SLOW": "a while"}, r"settings\.slow: 'a while' is not a duration"),
        ({"HUB_OTLP_ENDPOINT": "localhost:4318"}, r"HUB_OTLP_ENDPOINT: must be a URL such as"),
        ({"HUB_OTLP_COMPRESSION": "zstd"}, r"HUB_OTLP_COMPRESSION: must be 'gzip' or 'none'"),
    ],
)
def test_an_invalid_setting_is_one_sentence_without_the_secret(
    variables: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"HUB_OTLP_ENDPOINT": "http://127.0.0.1:4318", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message) as raised:
        checked_subscribers(None)
    assert "s3cret" not in str(raised.value)


def test_headers_of_the_wrong_type_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub.toml").write_text('[otlp]\nheaders = { authorization = "s3cret" }\n')
    with pytest.raises(ConfigurationError, match=r"otlp\.headers: must be a string") as raised:
        checked_subscribers(None)
    assert "s3cret" not in str(raised.value)
