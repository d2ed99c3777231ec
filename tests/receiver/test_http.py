"""Requests over a real socket: what is accepted, what is refused, and with which status."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import pytest
import uvloop

from hub.receiver import AlertsNotStored, AlertSummary, ListenAddress, Notification
from hub.receiver import service as service_module
from hub.receiver.http import RequestLimits
from hub.receiver.service import AlertReceiver, ListenAddressTaken
from tests.health.clients import connect, exchange
from tests.receiver.alerts import TOKEN, alert, notification, notify, receiving, request, send

BODY = json.dumps(notification(alert())).encode()
NO_BODY = b""
CHUNKED = b"POST /alerts HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Accepted:
    """Remembers the notifications that arrive."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []

    async def __call__(self, received: Notification) -> AlertSummary:
        self.notifications.append(received)
        return AlertSummary({"submitted": len(received.alerts)}, [])


async def test_a_notification_is_passed_on_and_acknowledged() -> None:
    accepted = Accepted()
    async with receiving(accepted) as address:
        answer = await notify(address, alert(), alert(fingerprint="b"), truncatedAlerts=2)
    assert (answer.status, answer.json) == (200, {"alerts": {"submitted": 2}})
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["connection"] == "close"
    assert answer.headers["server"] == "taskhub"
    (received,) = accepted.notifications
    assert [one.fingerprint for one in received.alerts] == ["c64a1bd4f5a1c6a5", "b"]
    assert (received.receiver, received.truncated_alerts) == ("taskhub", 2)


async def test_a_chunked_body_is_accepted() -> None:
    accepted = Accepted()
    head = CHUNKED.replace(b"/json", b"/json; charset=utf-8")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:100], BODY[100:], b""))
    async with receiving(accepted) as address:
        assert (await send(address, head + chunks)).status == 200
        wrong = await send(address, head + b"zz\r\n\r\n")
    assert wrong.status == 400
    assert len(accepted.notifications) == 1


@pytest.mark.parametrize(
    ("data", "status", "header"),
    [
        (request(BODY, line="POST /alert"), HTTPStatus.NOT_FOUND, None),
        (request(NO_BODY, line="GET /alerts"), HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "POST")),
        (request(NO_BODY, line="OPTIONS /alerts"), HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "POST")),
        (request(BODY, type_="text/plain"), HTTPStatus.UNSUPPORTED_MEDIA_TYPE, None),
        (request(BODY, "Content-Encoding: gzip"), HTTPStatus.UNSUPPORTED_MEDIA_TYPE, None),
        (request(BODY, "Origin: http://example.com"), HTTPStatus.FORBIDDEN, None),
        (request(BODY[:-1]), HTTPStatus.BAD_REQUEST, None),
        (request(b"{}"), HTTPStatus.BAD_REQUEST, None),
        (b"nothing of HTTP\r\n\r\n", HTTPStatus.BAD_REQUEST, None),
    ],
)
async def test_other_requests_are_refused_and_cause_nothing(
    data: bytes, status: HTTPStatus, header: tuple[str, str] | None
) -> None:
    accepted = Accepted()
    async with receiving(accepted) as address:
        answer = await send(address, data)
    assert answer.status == status
    assert header is None or answer.headers[header[0]] == header[1]
    assert not accepted.notifications


async def test_the_response_names_the_field_of_a_malformed_notification() -> None:
    async with receiving(Accepted()) as address:
        answer = await notify(address, alert(), alert(status="lost"))
    assert (answer.status, answer.json) == (400, {"error": "alerts[1].status: 'lost' is not an allowed value"})


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [f"Authorization: Bearer {TOKEN}x"],
        [f"Authorization: Bearer {TOKEN[:-1]}"],
        [f"Authorization: Basic {TOKEN}"],
        ["Authorization: Bearer"],
        [f"Authorization: {TOKEN}"],
        ["Authorization: Bearer \xe9\xff"],
        [f"Authorization: Bearer {TOKEN}", "Authorization: Bearer x"],
    ],
)
async def test_a_request_without_the_token_gets_401(authorization: list[str]) -> None:
    accepted = Accepted()
    async with receiving(accepted, TOKEN) as address:
        answer = await send(address, request(BODY, *authorization))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN.encode() not in answer.body
    assert not accepted.notifications


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_a_request_with_the_token_is_accepted(scheme: str) -> None:
    accepted = Accepted()
    async with receiving(accepted, TOKEN) as address:
        assert (await send(address, request(BODY, f"Authorization: {scheme} {TOKEN}"))).status == 200
    assert accepted.notifications


async def test_a_body_over_the_limit_gets_413_with_or_without_its_length() -> None:
    accepted, limits = Accepted(), RequestLimits(body_max_bytes=len(BODY), read_seconds=5.0)
    large = BODY + b" "
    async with receiving(accepted, limits=limits) as address:
        assert (await send(address, request(BODY))).status == 200
        announced = await send(address, request(large))
        chunked = await send(address, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large))
    assert [announced.status, chunked.status] == [413, 413]
    assert announced.json == {"error": f"the body must have at most {len(BODY)} bytes"}
    assert len(accepted.notifications) == 1


async def test_a_slow_body_gets_408_and_an_incomplete_head_ends_the_connection() -> None:
    accepted = Accepted()
    async with receiving(accepted, limits=RequestLimits(read_seconds=0.2)) as address:
        slow = await send(address, request(BODY)[:-10])
        no_head = await exchange(address, request(BODY)[:30])
        nothing = await exchange(address, b"")
    assert (slow.status, slow.json) == (408, {"error": "the body is not complete after 0.2 s"})
    assert (no_head, nothing) == (b"", b"")
    assert not accepted.notifications


async def test_a_client_that_ends_within_the_body_causes_nothing() -> None:
    accepted = Accepted()
    async with receiving(accepted) as address:
        await exchange(address, request(BODY)[:-10], end=True)
    assert not accepted.notifications


async def test_what_the_hub_did_not_store_gets_503_with_a_time_to_wait() -> None:
    async def refuse(_: Notification) -> AlertSummary:
        raise AlertsNotStored("no broker responds")

    async with receiving(refuse) as address:
        answer = await send(address, request(BODY))
    assert (answer.status, answer.headers["retry-after"], answer.json) == (503, "5", {"error": "no broker responds"})


async def test_rejected_alerts_get_400_with_what_was_done_for_the_others() -> None:
    async def partly(_: Notification) -> AlertSummary:
        return AlertSummary({"submitted": 1, "rejected": 1}, ["alerts[1].labels.hub_task: is missing"])

    async with receiving(partly) as address:
        answer = await send(address, request(BODY))
    assert answer.status == 400
    assert answer.json == {"error": "alerts[1].labels.hub_task: is missing", "alerts": {"submitted": 1, "rejected": 1}}


async def test_an_unexpected_error_gets_500_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Notification) -> AlertSummary:
        raise RuntimeError("internal detail")

    async with receiving(fail) as address:
        answer = await send(address, request(BODY))
    assert answer.status == 500
    assert b"internal detail" not in answer.body
    assert [one.__dict__["action"] for one in caplog.records if one.levelname == "ERROR"] == ["alerts_failed"]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_beyond_the_limit_gets_503(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CONNECTIONS_MAX", 1)

    async def second() -> bytes:
        async with receiving(Accepted()) as address:
            _, writer = await connect(address)
            try:
                writer.write(b"POST /al")
                await writer.drain()
                return await exchange(address, b"")
            finally:
                writer.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(second()).startswith(b"HTTP/1.1 503 ")


async def test_what_is_not_http_is_refused_without_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with receiving(Accepted()) as address:
        assert (await send(address, b"\x16\x03\x01\r\n\r\n")).status == 400
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


async def test_a_stopping_receiver_finishes_the_request_that_it_handles() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def accept(_: Notification) -> AlertSummary:
        begun.set()
        await go_on.wait()
        return AlertSummary({"submitted": 1}, [])

    receiver = AlertReceiver(accept, ListenAddress("127.0.0.1", 0))
    await receiver.start()
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(send(str(receiver.address), request(BODY)))
        await begun.wait()
        stopping = group.create_task(receiver.stop())
        await asyncio.sleep(0.05)
        go_on.set()
    assert (answer.result().status, stopping.done()) == (200, True)
    with pytest.raises(ConnectionRefusedError):
        await connect(str(receiver.address))


async def test_an_address_in_use_is_an_error_with_exit_code_4() -> None:
    async with receiving(Accepted()) as address:
        second = AlertReceiver(Accepted(), ListenAddress("127.0.0.1", int(address.rpartition(":")[2])))
        with pytest.raises(ListenAddressTaken, match=f"Cannot listen on {address} .*in use.*--listen") as raised:
            await second.start()
        await second.stop()
    assert raised.value.exit_code == 4
