"""The server over loopback: clients that are slow, many, malformed or gone."""

import asyncio
from http import HTTPStatus

import pytest

from hub.runtime.health import HealthAddress, HealthAddressTaken, HealthServer, Request, Response
from hub.runtime.health.http import HEAD_BYTES_MAX
from hub.runtime.health.server import CONNECTIONS_MAX

from .clients import LOOPBACK, connect, exchange, get, serving


async def echo(request: Request) -> Response:
    """The path."""
    return Response(HTTPStatus.OK, body=request.path.encode())


async def status_of(address: str, data: bytes, *, end: bool = False) -> int:
    """The status of the response to these bytes."""
    return int((await exchange(address, data, end=end)).split()[1])


async def test_a_connection_has_one_response() -> None:
    async with serving(echo) as address:
        said = await exchange(address, get("/livez") + get("/readyz"))
        assert said.endswith(b"\r\n\r\n/livez")
        assert said.count(b"HTTP/1.1 200") == 1


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    async with serving(echo) as address:
        said = await exchange(address, get("/livez").replace(b"GET", b"HEAD"))
        assert b"\r\nContent-Length: 6\r\n" in said
        assert said.endswith(b"\r\n\r\n")


async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with serving(echo) as address:
        reader, writer = await connect(address)
        for byte in get("/livez"):
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).endswith(b"/livez")
        writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n", 400),
        (b"PUT /livez HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (get("/" + "a" * HEAD_BYTES_MAX), 414),
        (get("/", "X: " + "a" * HEAD_BYTES_MAX), 431),
        (get("/", *["X: a"] * HEAD_BYTES_MAX), 431),
    ],
    ids=["nonsense", "cut off", "method", "long line", "long header", "many headers"],
)
async def test_a_bad_request_gets_its_status_and_the_next_one_its_page(data: bytes, status: int) -> None:
    async with serving(echo) as address:
        assert await status_of(address, data, end=True) == status
        assert await status_of(address, get("/livez")) == 200


async def test_a_body_of_a_megabyte_is_not_read() -> None:
    async with serving(echo) as address:
        assert await status_of(address, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * (1 << 20)) == 431


async def test_a_client_that_sends_nothing_more_is_given_up() -> None:
    async with serving(echo, read_seconds=0.05) as address:
        assert await status_of(address, b"GET /livez HTTP/1.1\r\n") == 408
        assert (await exchange(address, b"", end=True)) == b"", "a port that is only probed"


async def test_beyond_the_limit_a_connection_is_refused_until_others_end() -> None:
    async with serving(echo) as address:
        silent = [await connect(address) for _ in range(CONNECTIONS_MAX)]
        assert await status_of(address, b"") == 503
        for _, writer in silent:
            writer.close()
        async with asyncio.timeout(10):
            while await status_of(address, get("/livez")) != 200:
                await asyncio.sleep(0.01)


async def test_a_page_that_fails_is_an_error_of_the_server_and_not_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> Response:
        raise RuntimeError("a mistake")

    async with serving(fail) as address:
        assert [await status_of(address, get("/livez")) for _ in range(2)] == [500, 500]
    assert [record.__dict__["action"] for record in caplog.records if record.levelname == "ERROR"] == ["health_page_failed"] * 2


async def test_stopping_ends_open_connections_and_frees_the_port() -> None:
    server = HealthServer(echo)
    address = await server.start(LOOPBACK)
    reader, writer = await connect(address)
    writer.write(b"GET /livez")
    await asyncio.sleep(0)
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await connect(address)


async def test_an_address_in_use_is_one_sentence_with_the_option() -> None:
    async with serving(echo) as address:
        taken = HealthAddress("127.0.0.1", int(address.rpartition(":")[2]))
        with pytest.raises(HealthAddressTaken) as raised:
            await HealthServer(echo).start(taken)
    assert str(raised.value) == (
        f"No health pages and metrics are served: cannot listen on {address} (address already in use)."
        " Choose another port with --health-port (0: none)."
    )
