"""The connection of sessions: malformed and missing responses."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from hub.kafka import BrokerUnreachable, Cluster, ConnectionLost, open_session
from hub.kafka.connection import Connection, connect_any
from hub.kafka.requests import METADATA, ask_versions, metadata_request
from tests.ports import free_port


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with the right number and three bytes of nothing."""
    while True:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        frame = await reader.readexactly(size)
        writer.write(struct.pack(">i", 4 + 3) + frame[4:8] + b"\0\0\xff")


async def keep_quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read, and answer nothing."""
    await reader.read()


@asynccontextmanager
async def serving(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Cluster]:
    """A server that is not a broker. It is over when the last of its connections is."""
    running: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield Cluster.of(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    async with asyncio.timeout(60):
        for task in running:
            assert task is not None
            await task


@pytest.fixture
async def babbler() -> AsyncIterator[Cluster]:
    """The address of a server that babbles."""
    async with serving(babble) as cluster:
        yield cluster


async def test_an_answer_that_is_not_of_the_protocol_ends_the_connection(babbler: Cluster) -> None:
    connection = await connect_any(babbler, role="test")
    with pytest.raises(ConnectionLost, match=rf"{babbler} sent a malformed response to Metadata"):
        await connection.ask(METADATA, metadata_request(["t"]))
    assert not connection.is_open
    with pytest.raises(ConnectionLost, match="closed"):
        await ask_versions(connection)


async def test_a_session_is_not_opened_by_such_answers(babbler: Cluster) -> None:
    with pytest.raises(ConnectionLost, match="ApiVersions"):
        await open_session(babbler, "hub-0")


async def test_the_next_address_is_tried_and_the_last_reason_is_given(babbler: Cluster) -> None:
    away = f"127.0.0.1:{free_port()}"
    connection = await connect_any(Cluster.of(f"{away},{babbler}"), role="test")
    assert connection.address == str(babbler)
    connection.close()
    with pytest.raises(BrokerUnreachable, match=f"{away}.*hub up"):
        await connect_any(Cluster.of(away), role="test")


async def test_a_connection_waits_as_long_as_its_cluster_may_take() -> None:
    async with serving(keep_quiet) as cluster:
        ((host, port),) = cluster.addresses
        connection = await Connection.open(replace(cluster, request_seconds=0.05), host, port, role="test")
        with pytest.raises(ConnectionLost, match=r"did not respond to ApiVersions within 0\.05 s"):
            await ask_versions(connection)
        assert not connection.is_open
