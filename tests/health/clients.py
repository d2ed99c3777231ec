"""Clients of health pages that send any bytes, and servers that respond with any."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub.runtime.health import HealthAddress, HealthServer
from hub.runtime.health.server import Answer

LOOPBACK = HealthAddress("127.0.0.1", 0)
DEADLINE_SECONDS = 30.0


@asynccontextmanager
async def serving(answer: Answer, *, read_seconds: float = 5.0) -> AsyncIterator[str]:
    """A server on a free port; gives its address."""
    server = HealthServer(answer, read_seconds=read_seconds)
    try:
        yield await server.start(LOOPBACK)
    finally:
        await server.stop()


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to host:port."""
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(address: str, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes, and read until the server closes the connection. `end`: send no more."""
    reader, writer = await connect(address)
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await reader.read()
    finally:
        writer.close()


def get(path: str, *headers: str) -> bytes:
    """The request for a page."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: hub", *headers, "", ""]).encode()


@asynccontextmanager
async def responding(data: bytes | None) -> AsyncIterator[str]:
    """A server that answers every connection with these bytes; None: it accepts connections and says nothing."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if data is None:
                await reader.read()  # until the client gives up
            else:
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
