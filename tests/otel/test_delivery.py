"""Export to a collector that fails in every way: no span is missing, and a span that arrives twice is the same."""

import asyncio
import gzip
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from pydantic import ValidationError

from hub.testing import HubInMemory, make_event
from schemas import Event
from subscribers import Subscriber, SubscriberContext, Unavailable, Undeliverable
from subscribers.otel.logs import LogsSettings, OtelLogs
from subscribers.otel.settings import TracesSettings, parse_headers
from subscribers.otel.spans import SPAN_TYPES, spans_of
from subscribers.otel.traces import OtelTraces
from tests.subscribers.http_endpoint import HttpEndpoint, Received, Reply

from .recorded import recorded, tasks

PROTOBUF = {"content-type": "application/x-protobuf"}
LOGGER = logging.getLogger("subscribers.otel-traces")


@asynccontextmanager
async def exporting(endpoint: HttpEndpoint, **settings: Any) -> AsyncIterator[OtelTraces]:
    subscriber = OtelTraces(TracesSettings(endpoint=endpoint.url, **settings))
    await subscriber.open(SubscriberContext("otel-traces", LOGGER))
    try:
        yield subscriber
    finally:
        await subscriber.close()


def spans_in(request: Received) -> dict[str, bytes]:
    """The spans of a request by id, as bytes."""
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    message = ExportTraceServiceRequest.FromString(body)
    found = [span for one in message.resource_spans for scoped in one.scope_spans for span in scoped.spans]
    return {span.span_id.hex(): span.SerializeToString() for span in found}


def expected() -> set[str]:
    return {span.id for event in recorded() for span in spans_of(event)}


async def deliver(export: Callable[[list[Event]], Any], events: list[Event], size: int = 20) -> list[Event]:
    """Deliver in batches as the runtime does: wait while the destination is unavailable, halve a batch that it rejects. Returns
    the dead letters."""
    parts = [events[start : start + size] for start in range(0, len(events), size)]
    dead: list[Event] = []
    while parts:
        try:
            await export(parts[0])
        except Unavailable:
            continue
        except Undeliverable:
            part = parts.pop(0)
            if len(part) == 1:
                dead += part
            else:
                parts[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
        else:
            parts.pop(0)
    return dead


def partial(rejected: int, message: str) -> Reply:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = rejected, message
    return Reply(200, PROTOBUF, answer.SerializeToString())


OUTAGES = [
    Reply(503, {"retry-after": "0"}),
    Reply(200, PROTOBUF),
    Reply(429),
    Reply(500, PROTOBUF, b"\x08\x0d"),
    Reply(hang=True),
    partial(0, "a warning"),
    Reply(close=True),
    Reply(401),
    Reply(404),
    Reply(400),
    Reply(413),
    Reply(502),
]


async def test_no_span_is_lost_and_a_repeated_one_is_the_same() -> None:
    events = [event for event in recorded() if event.type in SPAN_TYPES]
    async with HttpEndpoint(OUTAGES) as endpoint, exporting(endpoint, timeout_seconds=0.2) as subscriber:
        assert await deliver(subscriber.export, events) == []
        assert not endpoint.script, "all of it happened"
        arrived: dict[str, bytes] = {}
        for request in endpoint.requests:
            for span, content in spans_in(request).items():
                assert arrived.setdefault(span, content) == content
        assert arrived.keys() == expected()


async def test_a_message_is_sent_again_byte_by_byte() -> None:
    events = [event for event in recorded() if event.type in SPAN_TYPES][:20]
    async with HttpEndpoint([Reply(503), Reply(429)]) as endpoint, exporting(endpoint) as subscriber:
        await deliver(subscriber.export, events)
    assert [request.target for request in endpoint.requests] == ["/v1/traces"] * 3
    assert len({request.body for request in endpoint.requests}) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 401, 403, 404])
async def test_an_outage_and_a_fault_of_the_configuration_cost_no_event(status: int) -> None:
    async with HttpEndpoint([Reply(status, {"retry-after": "7"})]) as endpoint, exporting(endpoint) as subscriber:
        with pytest.raises(Unavailable) as raised:
            await subscriber.export([make_event("task.created")])
    if status in (429, 503):
        assert raised.value.retry_after_seconds == 7.0


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_only_the_events_that_the_collector_rejects_are_dead_letters(status: int) -> None:
    events = [make_event("task.created", envelope={"subject": f"t{number}"}) for number in range(8)]
    (poison,) = spans_of(events[5])

    async with HttpEndpoint() as endpoint, exporting(endpoint) as subscriber:

        async def export(part: list[Event]) -> None:
            endpoint.default = Reply(status if events[5] in part else 200)
            await subscriber.export(part)

        assert await deliver(export, events) == [events[5]]
    accepted = [request for request in endpoint.requests if poison.id not in spans_in(request)]
    assert {span for request in accepted for span in spans_in(request)} == {
        span.id for one in events for span in spans_of(one)
    } - {poison.id}


async def test_a_partial_success_is_counted_and_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    async with HttpEndpoint([partial(2, "too old"), partial(1, "too long")]) as endpoint, exporting(endpoint) as subscriber:
        for _ in range(2):
            await subscriber.export([make_event("task.created")])
        assert len(endpoint.requests) == 2
        assert subscriber.collector.rejected_total == 3
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert messages == [
        "the collector rejected 2 item(s) of an accepted message: too old",
        "the collector rejected 1 item(s) of an accepted message: too long",
    ]


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xff"])
async def test_an_answer_in_another_format_is_accepted_with_a_warning(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with HttpEndpoint([Reply(200, PROTOBUF, body)]) as endpoint, exporting(endpoint) as subscriber:
        await subscriber.export([make_event("task.created")])
    assert [getattr(record, "action", "") for record in caplog.records if record.levelno == logging.WARNING] == [
        "otlp_answer_unreadable"
    ]


async def test_headers_and_compression_are_those_of_the_settings() -> None:
    async with HttpEndpoint() as endpoint:
        for compression in ("gzip", "none"):
            async with exporting(endpoint, headers="Authorization=Bearer%20x,x-team=a b", compression=compression) as subscriber:
                await subscriber.export([make_event("task.created")])
    first, second = endpoint.requests
    assert first.headers["authorization"] == "Bearer x"
    assert first.headers["x-team"] == "a b"
    assert first.headers["content-type"] == "application/x-protobuf"
    assert (first.headers.get("content-encoding"), second.headers.get("content-encoding")) == ("gzip", None)
    assert gzip.decompress(first.body) == second.body


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoint": "localhost:4318"}, "form https://host"),
        ({"endpoint": "http://h:4318?token=s3cret"}, "must not have a query"),
        ({"headers": "s3cret"}, "header 1: must have the form name=value"),
        ({"headers": "a=b,x=s3cret%0a"}, "header 2: the value must consist of printable ASCII"),
        ({"compression": "zstd"}, "gzip"),
        ({"slow": "a while"}, "is not a duration"),
        ({"keep": 2}, "less than or equal to 1"),
    ],
)
def test_invalid_settings_are_refused_without_repeating_a_secret(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        TracesSettings(**{"endpoint": "http://127.0.0.1:4318", **settings})
    assert "s3cret" not in str([one["msg"] for one in raised.value.errors()])  # type: ignore[attr-defined]


def test_headers_are_read_as_in_the_environment_of_opentelemetry() -> None:
    assert parse_headers("") == {}
    assert parse_headers(" A = b , c=d%2Ce=f,g=") == {"a": "b", "c": "d,e=f", "g": ""}


async def test_events_without_spans_are_not_sent() -> None:
    async with HttpEndpoint() as endpoint, exporting(endpoint) as subscriber:
        await subscriber.export([make_event("task.ready")])
    assert endpoint.requests == []


async def test_an_event_of_which_no_span_can_be_made_is_undeliverable() -> None:
    async with HttpEndpoint() as endpoint, exporting(endpoint) as subscriber:
        with pytest.raises(Undeliverable, match="no span can be made"):
            await subscriber.export([make_event("task.completed", created_at="2026-01-01T09:30:00")])


async def test_tail_sampling_is_a_setting() -> None:
    events = [event for event in recorded() if event.type in SPAN_TYPES]
    async with HttpEndpoint() as endpoint, exporting(endpoint, mode="on_terminal", slow="1h", keep=0.0) as subscriber:
        await deliver(subscriber.export, events)
    arrived = {span for request in endpoint.requests for span in spans_in(request)}
    assert 0 < len(arrived) < len(expected())
    assert arrived < expected()


async def test_every_event_is_exported_as_a_log_record() -> None:
    async with HttpEndpoint([Reply(503)]) as endpoint:
        subscriber = OtelLogs(LogsSettings(endpoint=endpoint.url))
        await subscriber.open(SubscriberContext("otel-logs", LOGGER))
        await deliver(subscriber.export, list(recorded()), size=50)
        await subscriber.close()
    names = []
    for request in endpoint.requests[1:]:
        message = ExportLogsServiceRequest.FromString(gzip.decompress(request.body))
        names += [one.event_name for one in message.resource_logs[0].scope_logs[0].log_records]
    assert names == [f"hub.{event.type}" for event in recorded()]
    assert {request.target for request in endpoint.requests} == {"/v1/logs"}


def test_an_unknown_type_in_the_settings_is_an_error_that_names_it() -> None:
    given = {"endpoint": "http://127.0.0.1:4318", "types": ["task.failed", "workflow.*", "task.fialed"]}
    with pytest.raises(ValidationError, match=r"types\n.*'task.fialed' is not an event type of this hub; see `hub events list`"):
        LogsSettings.model_validate(given)
    assert LogsSettings.model_validate({**given, "types": ["task.failed", "workflow.*"]}).types == ("task.failed", "workflow.*")


@pytest.mark.parametrize(("plugin", "types"), [(OtelTraces, SPAN_TYPES), (OtelLogs, {"*"})])
def test_a_subscriber_reads_the_types_that_it_needs(plugin: type[Subscriber[Any]], types: set[str]) -> None:
    settings = plugin.settings_class.model_validate({"endpoint": "http://127.0.0.1:4318"})
    assert set(plugin.event_types(settings)) == types


async def test_an_outage_on_a_running_hub_delays_spans_and_loses_none() -> None:
    async with HttpEndpoint([Reply(503), Reply(429), Reply(400)]) as endpoint, HubInMemory(tasks) as hub:
        traces = await hub.attach(OtelTraces, settings={"endpoint": endpoint.url, "timeout_seconds": 600})
        for name, args in (("flaky", {}), ("add", {"a": 1, "b": 2}), ("never", {})):
            await hub.submit(name, args)
        await hub.advance(seconds=60)
        arrived: dict[str, bytes] = {}
        wanted = {span.id for event in hub.events for span in spans_of(event)}
        for _ in range(500):
            deadline = time.monotonic() + 0.02
            while time.monotonic() < deadline:
                await asyncio.sleep(0)  # the sockets are real, the time is not
            for request in endpoint.requests[3:]:
                arrived |= spans_in(request)
            if arrived.keys() == wanted:
                break
            await hub.advance(seconds=1)
        assert arrived.keys() == wanted
        assert traces.dead_letters == []
