"""How a sink posts, and what it takes the answers for."""

import asyncio
import gzip
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from subscribers import Unavailable, Undeliverable
from subscribers.sinks import AddressGuard, HttpSink
from subscribers.sinks.outcome import retry_after_seconds

from .http_endpoint import CERTIFICATE, HttpEndpoint, Reply

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


async def local(host: str, port: int) -> Sequence[str]:
    """A name service that gives every name to this machine."""
    return ["127.0.0.1"]


@pytest.fixture
async def sink() -> AsyncIterator[HttpSink]:
    one = HttpSink(timeout_seconds=10)
    yield one
    await one.aclose()


async def test_a_request_has_the_content_and_the_headers(sink: HttpSink) -> None:
    async with HttpEndpoint([Reply(202, {"X-Request": "7"}, b"queued")]) as endpoint:
        answer = await sink.post(f"{endpoint.url}/hooks/a%20b?c=d", b"{}", {"content-type": "application/json"})
    request = endpoint.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/hooks/a%20b?c=d", b"{}")
    assert request.headers == {
        "host": f"127.0.0.1:{endpoint.port}",
        "content-length": "2",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": "taskhub",
    }
    assert answer == (202, {"content-length": "6", "x-request": "7"}, b"queued")


async def test_a_caller_may_name_itself(sink: HttpSink) -> None:
    async with HttpEndpoint() as endpoint:
        await sink.post(endpoint.url, b"", {"User-Agent": "ours/1"})
    assert endpoint.requests[0].headers["user-agent"] == "ours/1"


async def test_a_compressed_request_can_be_read_and_repeats_byte_for_byte(sink: HttpSink) -> None:
    async with HttpEndpoint() as endpoint:
        for _ in range(2):
            await sink.post(endpoint.url, b"a" * 5000, gzip=True)
    first, second = endpoint.requests
    assert first.headers["content-encoding"] == "gzip"
    assert gzip.decompress(first.body) == b"a" * 5000
    assert first.body == second.body


async def test_requests_share_a_connection(sink: HttpSink) -> None:
    async with HttpEndpoint() as endpoint:
        for _ in range(3):
            await sink.post(endpoint.url, b"")
        assert endpoint.connections == 1
        await sink.aclose()
        await sink.post(endpoint.url, b"")
        assert endpoint.connections == 2, "a closed sink opens a new connection"


async def test_no_more_connections_than_configured_are_open() -> None:
    async with HttpEndpoint(default=Reply(delay_seconds=0.02)) as endpoint:
        sink = HttpSink(connections_max=2)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(6):
                tasks.create_task(sink.post(endpoint.url, b""))
        await sink.aclose()
    assert (endpoint.connections, len(endpoint.requests)) == (2, 6)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_destination_that_fails_or_throttles_is_unavailable(sink: HttpSink, status: int) -> None:
    async with HttpEndpoint([Reply(status, {"Retry-After": "7"})]) as endpoint:
        with pytest.raises(Unavailable, match=rf"^127\.0\.0\.1:\d+ answered {status}") as raised:
            await sink.post(f"{endpoint.url}/hidden", b"")
    assert raised.value.retry_after_seconds == 7
    assert raised.value.endpoint == f"127.0.0.1:{endpoint.port}"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 418, 422, 600, 999])
async def test_a_destination_that_rejects_makes_the_event_undeliverable(sink: HttpSink, status: int) -> None:
    async with HttpEndpoint([Reply(status)]) as endpoint:
        with pytest.raises(Undeliverable, match=rf"^127\.0\.0\.1:\d+ answered {status}"):
            await sink.post(endpoint.url, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(sink: HttpSink, status: int) -> None:
    async with HttpEndpoint() as other, HttpEndpoint([Reply(status, {"location": other.url})]) as endpoint:
        with pytest.raises(Undeliverable, match="redirects are not followed"):
            await sink.post(endpoint.url, b"")
        assert (len(endpoint.requests), other.requests) == (1, [])


async def test_a_caller_can_take_other_statuses_as_answers(sink: HttpSink) -> None:
    async with HttpEndpoint([Reply(429, body=b"slow"), Reply(503)]) as endpoint:
        answer = await sink.post(endpoint.url, b"", status_is_answer=frozenset({410, 429}))
        assert (answer.status, answer.body) == (429, b"slow")
        with pytest.raises(Unavailable):
            await sink.post(endpoint.url, b"", status_is_answer=frozenset({410, 429}))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("999999", 3600),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=9), usegmt=True), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Thu, 01 Jan 2026 12:00:05 -0000", 5),
        *[
            (bad, None)
            for bad in ("", "-1", "1.5", "soon", "9" * 400, "\u0661", "Fri, 99 Foo 2026", "1e3", "Thu, 01 Jan 0 1 GMT")
        ],
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": value}, NOW) == seconds


async def test_a_date_in_retry_after_is_measured_from_now(sink: HttpSink) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    async with HttpEndpoint([Reply(503, {"retry-after": later})]) as endpoint:
        with pytest.raises(Unavailable) as raised:
            await sink.post(endpoint.url, b"")
    assert raised.value.retry_after_seconds is not None
    assert 500 < raised.value.retry_after_seconds <= 600


@pytest.mark.parametrize(
    "reply",
    [
        Reply(hang=True),
        Reply(body=b"x" * 1000, drip_seconds=0.05),
        Reply(503, body=b"x" * 1000, drip_seconds=0.05),
        Reply(delay_seconds=30),
    ],
    ids=["hangs", "drips", "drips an error", "answers late"],
)
async def test_a_request_ends_after_the_timeout_whatever_the_destination_does(reply: Reply) -> None:
    async with HttpEndpoint([reply]) as endpoint:
        sink = HttpSink(timeout_seconds=0.25)
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"^127\.0\.0\.1:\d+ did not answer within 0\.25 s"):
            await sink.post(endpoint.url, b"")
        assert time.monotonic() - start < 2
        assert (await sink.post(endpoint.url, b"")).status == 200, "and the next request has a new connection"
        assert endpoint.requests[1].connection == 2
        await sink.aclose()


@pytest.mark.parametrize(
    "reply",
    [Reply(close=True), Reply(raw=b"220 mail.example ESMTP\r\n"), Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")],
    ids=["closes", "is not HTTP", "closes within the body"],
)
async def test_a_lost_connection_is_an_outage(sink: HttpSink, reply: Reply) -> None:
    async with HttpEndpoint([reply]) as endpoint:
        with pytest.raises(Unavailable, match=r"^127\.0\.0\.1:\d+: "):
            await sink.post(endpoint.url, b"")
        assert (await sink.post(endpoint.url, b"")).status == 200


async def test_a_destination_that_accepts_no_connections_is_an_outage(sink: HttpSink) -> None:
    async with HttpEndpoint() as endpoint:
        pass
    with pytest.raises(Unavailable, match=r"^127\.0\.0\.1:\d+: connection refused$"):
        await sink.post(endpoint.url, b"")


async def test_the_body_of_an_answer_is_read_up_to_a_limit(sink: HttpSink) -> None:
    async with HttpEndpoint([Reply(body=b"x" * 3_000_000), Reply(body=b"y" * 65_536)]) as endpoint:
        assert (await sink.post(endpoint.url, b"")).body == b"x" * 65_536
        assert (await sink.post(endpoint.url, b"")).body == b"y" * 65_536
        assert [one.connection for one in endpoint.requests] == [1, 2], "a connection with unread bytes is not used again"


@pytest.mark.parametrize(("name", "value"), [("x", "a\r\nb: c"), ("x\r\ny", "a"), ("x y", "a"), ("x", "\u2603"), ("\u2603", "x")])
async def test_a_header_that_is_not_valid_http_is_not_sent(sink: HttpSink, name: str, value: str) -> None:
    async with HttpEndpoint() as endpoint:
        with pytest.raises(Undeliverable, match="is not valid HTTP"):
            await sink.post(endpoint.url, b"", {name: value})
        assert endpoint.requests == []


async def test_neither_logs_nor_errors_have_more_of_a_url_than_its_host(
    sink: HttpSink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    caplog.set_level(logging.DEBUG)
    async with HttpEndpoint([Reply(200), Reply(500), Reply(404), Reply(302), Reply(close=True)]) as endpoint:
        await sink.post(f"{endpoint.url}/hunter2?token=hunter2", b"hunter2", {"authorization": "hunter2"})
        for _ in range(4):
            with pytest.raises((Unavailable, Undeliverable)) as raised:
                await sink.post(f"{endpoint.url}/hunter2?token=hunter2", b"hunter2", {"authorization": "hunter2"})
            assert "hunter2" not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r}"
        assert len(endpoint.requests) == 5, "a proxy in the environment is not used"
    assert "hunter2" not in caplog.text


# --- TLS


async def test_the_certificate_of_the_name_is_verified_at_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with HttpEndpoint(tls=True) as endpoint:
        sink = HttpSink(guard=AddressGuard(["127.0.0.1"], require_tls=True), resolve=local)
        assert (await sink.post(f"https://hooks.example:{endpoint.port}/", b"")).status == 200
        with pytest.raises(Unavailable, match=r"^other\.example:\d+: its TLS certificate is not accepted: Hostname mismatch"):
            await sink.post(f"https://other.example:{endpoint.port}/", b"")
        await sink.aclose()
    assert len(endpoint.requests) == 1


async def test_a_certificate_of_an_unknown_authority_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with HttpEndpoint(tls=True) as endpoint:
        with pytest.raises(Unavailable, match="its TLS certificate is not accepted: self-signed certificate"):
            await HttpSink(resolve=local).post(f"https://hooks.example:{endpoint.port}/", b"")
    assert endpoint.requests == []


async def test_a_destination_without_tls_is_no_destination_for_https() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=rf"^hooks\.example:{port}: TLS failed$"):
            await HttpSink(resolve=local).post(f"https://hooks.example:{port}/", b"")


# --- proxies


class TunnellingProxy:
    """A proxy that connects every request to one local port, and notes what it was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, far_writer))
            tasks.create_task(_copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.mark.parametrize(("guard", "asked"), [(AddressGuard(["127.0.0.9"]), "127.0.0.9"), (None, "hooks.example")])
async def test_a_proxy_is_asked_for_the_checked_address(
    guard: AddressGuard | None, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def names(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.9" if host == "hooks.example" else "127.0.0.1"]

    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with HttpEndpoint(tls=True) as endpoint:
        proxy = TunnellingProxy(endpoint.port)
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
            url = f"http://ada:pass%40word@proxy.example:{server.sockets[0].getsockname()[1]}"
            sink = HttpSink(guard=guard, proxy=url, resolve=names)
            assert (await sink.post("https://hooks.example/x", b"1")).status == 200
            await sink.aclose()
    assert proxy.heads == [
        f"CONNECT {asked}:443 HTTP/1.1\r\nHost: {asked}:443\r\nProxy-Authorization: Basic YWRhOnBhc3NAd29yZA==\r\n\r\n"
    ]
    assert endpoint.requests[0].headers["host"] == "hooks.example", "the certificate was verified for the name as well"
    assert endpoint.requests[0].target == "/x"


async def test_a_refused_address_is_not_asked_of_a_proxy() -> None:
    async with HttpEndpoint() as proxy:
        sink = HttpSink(guard=AddressGuard(), proxy=proxy.url)
        with pytest.raises(Undeliverable, match="loopback address"):
            await sink.post("https://127.0.0.1/", b"")
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(407), "the proxy answered 407"),
        (Reply(raw=b"SSH-2.0\r\n"), "the proxy did not answer with HTTP"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nx: y\r\n"), "the proxy did not answer with HTTP"),
        (Reply(200, {"x": "y" * 50_000}), "the proxy did not answer with HTTP"),
        (Reply(close=True), "the proxy did not answer with HTTP"),
        (Reply(hang=True), "did not answer within"),
    ],
)
async def test_a_proxy_that_does_not_connect_is_an_outage(reply: Reply, reason: str) -> None:
    async with HttpEndpoint([reply]) as proxy:
        sink = HttpSink(proxy=proxy.url, timeout_seconds=0.5 if reply.hang else 10.0)
        with pytest.raises(Unavailable, match=rf"^hooks\.example:? {reason}"):
            await sink.post("https://hooks.example/x", b"1")
    assert proxy.requests[0].method == "CONNECT"


async def test_a_proxy_that_cannot_be_reached_is_an_outage() -> None:
    async with HttpEndpoint() as proxy:
        pass
    with pytest.raises(Unavailable, match=r"^hooks\.example: no connection to the proxy: connection refused"):
        await HttpSink(proxy=proxy.url).post("https://hooks.example/x", b"1")


@pytest.mark.parametrize("url", ["socks5://a", "a:80", "http://a:hunter2@b/hunter2", "http://a:hunter2@[b", ""])
def test_an_invalid_proxy_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        HttpSink(proxy=url)
    assert "hunter2" not in str(raised.value)


def test_the_http_library_is_not_loaded_before_the_first_request() -> None:
    program = "import sys, subscribers.webhook; subscribers.webhook.HttpSink(); print('httpcore2' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
