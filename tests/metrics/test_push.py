"""Metrics are pushed at an interval; the newest values are delivered after an outage, which is logged once."""

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from pydantic import SecretStr

from hub.metrics import MetricsSnapshot, Registry
from hub.metrics.push import MetricsPush, PushSettings, retry_after_seconds

URL = "http://collector.test:4318/v1/metrics"
Answer = Callable[[httpx2.Request], httpx2.Response]


class Receiver:
    """An OTLP receiver: the values of `hub.worker.losses` that it received; responds with `answers` in turn, then with 200."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.values: list[float] = []
        self.at: list[float] = []

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        self.at.append(asyncio.get_running_loop().time())
        message = ExportMetricsServiceRequest.FromString(gzip.decompress(await request.aread()))
        self.values.append(message.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_double)
        return self.answers.pop(0)(request) if self.answers else httpx2.Response(200)

    async def received(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.values) < count:
                await asyncio.sleep(0.005)


def status(code: int, **response: Any) -> Answer:
    return lambda _: httpx2.Response(code, **response)


def refused(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused", request=request)


def growing() -> Callable[[], Any]:
    registry = Registry({"process": "1"})

    async def source() -> list[MetricsSnapshot]:
        registry.counter("hub.worker.losses", pool="a").add()
        return [registry.collect()]

    return source


def push_to(receiver: Receiver, **settings: Any) -> MetricsPush:
    interval = settings.pop("interval_seconds", 0.02)
    chosen = PushSettings(URL, interval_seconds=interval, **settings)
    return MetricsPush(growing(), chosen, httpx2.MockTransport(receiver.handle))


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.levelname == "WARNING"]
    return [str(getattr(record, "action", "")) for record in found]


async def test_values_are_pushed_at_an_interval_and_once_more_at_the_end() -> None:
    receiver = Receiver()
    push = push_to(receiver, headers={"authorization": SecretStr("Bearer s3cret")})
    await push.start()
    await receiver.received(2)
    await push.stop()
    assert receiver.values == [float(number) for number in range(1, len(receiver.values) + 1)]
    assert push.pushed == len(receiver.values) >= 3
    headers = receiver.requests[0].headers
    assert str(receiver.requests[0].url) == URL
    assert headers["authorization"] == "Bearer s3cret"
    assert (headers["content-type"], headers["content-encoding"]) == ("application/x-protobuf", "gzip")


async def test_after_an_outage_the_newest_values_are_delivered_and_it_was_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(refused, refused, status(503), status(503), status(200))
    push = push_to(receiver)
    await push.start()
    await receiver.received(5)
    await push.stop()
    assert receiver.values[4] == 5, "what the failed pushes had is included"
    assert actions(caplog) == ["metrics_push_failed", "metrics_push_failed", "metrics_push_works"], "one per cause"
    assert "connection refused" in caplog.text
    assert push.pushed == len(receiver.values) - 4


async def test_a_receiver_that_does_not_respond_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    class Silent(Receiver):
        async def handle(self, request: httpx2.Request) -> httpx2.Response:
            await super().handle(request)
            return await asyncio.Future()

    receiver = Silent()
    push = push_to(receiver, timeout_seconds=0.05)
    await push.start()
    await receiver.received(2)
    async with asyncio.timeout(5):
        await push.stop()
    assert push.pushed == 0
    assert actions(caplog) == ["metrics_push_failed"]


async def test_points_that_were_rejected_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    partial = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old\x1b[31m")
    body = ExportMetricsServiceResponse(partial_success=partial).SerializeToString()
    receiver = Receiver(status(200, content=body), status(200, content=body))
    push = push_to(receiver)
    await push.start()
    await receiver.received(3)
    await push.stop()
    assert actions(caplog) == ["metrics_push_failed", "metrics_push_works"]
    assert "rejected=3" in caplog.text
    assert "\x1b" not in caplog.text
    assert push.pushed == len(receiver.values), "the rest was accepted"


async def test_secrets_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    settings = PushSettings("http://user:pa55word@collector.test/v1/metrics", headers={"x-key": SecretStr("s3cret")})
    push = MetricsPush(growing(), settings, httpx2.MockTransport(Receiver(refused).handle))
    await push.start()
    await push.push()
    await push.stop()
    written = caplog.text + repr(settings.headers)
    assert "metrics are not pushed" in written
    assert "s3cret" not in written + repr(settings)
    assert "pa55word" not in "".join(record.getMessage() for record in caplog.records if record.name == "hub.metrics.push")


async def test_the_receiver_can_request_a_delay() -> None:
    receiver = Receiver(status(429, headers={"retry-after": "1"}))
    push = push_to(receiver, interval_seconds=0.01)
    await push.start()
    await receiver.received(2)
    await push.stop()
    assert receiver.at[1] - receiver.at[0] >= 0.9


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", 0),
        ("7", 7),
        ("99999999999999", 600),
        ("-5", 0),
        ("soon", 0),
        ("Thu, 01 Jan 2026 09:31:00 GMT", 60),
        ("Thu, 01 Jan 2026 09:00:00 GMT", 0),
        ("Fri, 02 Jan 2026 09:00:00 GMT", 600),
        ("Thu, 01 Jan 2026 09:31:00", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value: str, seconds: float) -> None:
    assert retry_after_seconds(value, datetime(2026, 1, 1, 9, 30, tzinfo=UTC)) == seconds


async def test_a_push_over_tcp(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    received: list[ExportMetricsServiceRequest] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].partition("\r")[0])
        received.append(ExportMetricsServiceRequest.FromString(gzip.decompress(await reader.readexactly(size))))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    push = MetricsPush(growing(), PushSettings(f"http://127.0.0.1:{port}/v1/metrics"))
    await push.start()
    await push.push()
    assert push.pushed == 1
    server.close()
    await server.wait_closed()
    await push.stop()
    assert (push.pushed, len(received)) == (1, 1)
    assert [one.name for one in received[0].resource_metrics[0].scope_metrics[0].metrics] == ["hub.worker.losses"]
    assert actions(caplog) == ["metrics_push_failed"]


async def test_a_bug_in_the_source_is_a_failure_of_the_service() -> None:
    async def broken() -> list[MetricsSnapshot]:
        raise KeyError("engine-1")

    push = MetricsPush(broken, PushSettings(URL, interval_seconds=0.01), httpx2.MockTransport(Receiver().handle))
    await push.start()
    with pytest.raises(KeyError, match="engine-1"):
        async with asyncio.timeout(5):
            await push.watch()
    with suppress(KeyError):
        await push.stop()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"url": "collector:4318"}, "url: 'collector:4318' is not the address"),
        ({"url": "ftp://collector"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://[::"}, "url"),
        ({"url": URL, "interval_seconds": 0}, "interval_seconds: must be between"),
        ({"url": URL, "timeout_seconds": float("nan")}, "timeout_seconds: must be between"),
    ],
)
def test_invalid_settings_are_named(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PushSettings(**fields)


async def test_at_the_end_a_silent_receiver_delays_the_process_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Receiver):
        async def handle(self, request: httpx2.Request) -> httpx2.Response:
            return await asyncio.Future()

    monkeypatch.setattr("hub.metrics.push.LAST_PUSH_SECONDS", 0.05)
    push = push_to(Silent(), timeout_seconds=600, interval_seconds=600)
    await push.start()
    async with asyncio.timeout(10):
        await push.stop()
    assert push.pushed == 0


async def test_requests_are_compressed_only_if_configured() -> None:
    bodies: list[tuple[str | None, bytes]] = []

    async def take(request: httpx2.Request) -> httpx2.Response:
        bodies.append((request.headers.get("content-encoding"), await request.aread()))
        return httpx2.Response(200)

    for compressed in (True, False):
        push = MetricsPush(growing(), PushSettings(URL, gzip=compressed), httpx2.MockTransport(take))
        await push.start()
        await push.stop()
    assert [encoding for encoding, _ in bodies] == ["gzip", None]
    for body in (gzip.decompress(bodies[0][1]), bodies[1][1]):
        assert ExportMetricsServiceRequest.FromString(body).resource_metrics
