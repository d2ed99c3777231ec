"""Serves health pages over HTTP/1.1, on the event loop of the process: a blocked loop is noticed because no page responds.

Every input has a limit: bytes and time of a request, time of a response, number of connections.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from ...errors import InUse
from ...logs import Logger
from ...service import ServiceTasks, no_log
from ..listener import join_address
from .http import HEAD_BYTES_MAX, RefusedRequest, Request, Response, parse_request

log = Logger(__name__)

READ_SECONDS = 5.0
"""How long a client may take to send its request."""
WRITE_SECONDS = 5.0
"""How long a client may take to receive the response."""
CONNECTIONS_MAX = 32
"""Most connections at once; a further one gets 503."""
LINGER_SECONDS = 0.5
LINGER_BYTES = 1 << 16
"""How long, and how much, is read from a client after an error. A connection closed with unread data is reset, and the client may
lose the response."""


Answer = Callable[[Request], Awaitable[Response]]
"""Makes the response to a request."""


class HealthAddress(NamedTuple):
    """Where to serve. `port` 0: a free one."""

    host: str
    port: int


class HealthAddressTaken(InUse):
    """The health pages cannot be served at their address."""

    def __init__(self, address: HealthAddress, reason: str) -> None:
        super().__init__(
            f"No health pages and metrics are served: cannot listen on {join_address(*address)} ({reason})."
            " Choose another port with --health-port (0: none)."
        )


class HealthServer:
    """Answers each request with `answer`, which must not wait for long."""

    def __init__(self, answer: Answer, *, read_seconds: float = READ_SECONDS) -> None:
        self._answer = answer
        self._read_seconds = read_seconds
        self._tasks = ServiceTasks("the health pages", no_log)
        self._server: asyncio.Server | None = None
        self.address: str | None = None

    async def start(self, at: HealthAddress) -> str:
        """Listen; returns host:port. Raises HealthAddressTaken."""
        try:
            self._server = await asyncio.start_server(self._connected, at.host, at.port, limit=HEAD_BYTES_MAX)
        except OSError as error:
            raise HealthAddressTaken(at, (error.strerror or str(error)).rpartition(": ")[2].lower()) from error
        self.address = join_address(at.host, self._server.sockets[0].getsockname()[1])
        return self.address

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
        await self._tasks.cancel()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX:
            refused = Response(HTTPStatus.SERVICE_UNAVAILABLE, body=b"Too many connections.\n")
            writer.write(refused.encode())
            writer.close()
            return
        self._tasks.start(self._serve(reader, writer), "a health page")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError):
                await self._exchange(reader, writer)
        except Exception as error:
            log.error("a health page failed", action="health_page_failed", exc_info=error)
        finally:
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # the client does not read
            else:
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await self._head(reader)
            if not head:
                return  # closed without a request
            request = parse_request(head)
        except RefusedRequest as refused:
            await _send(writer, refused.response.encode())
            await _linger(reader, writer)
            return
        await _send(writer, (await self._page(request)).encode(head_only=request.method == "HEAD"))

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        """The head of the request; empty if the connection is closed before it. Raises RefusedRequest (400, 408, 414, 431)."""
        try:
            async with asyncio.timeout(self._read_seconds):
                return await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise RefusedRequest(HTTPStatus.REQUEST_TIMEOUT, "The request is not complete.") from None
        except asyncio.IncompleteReadError as error:
            if not error.partial.strip():
                return b""
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, "The request is not complete.") from None
        except asyncio.LimitOverrunError:
            begun = await reader.read(HEAD_BYTES_MAX)
            if b"\n" in begun:
                status, what = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers"
            else:
                status, what = HTTPStatus.REQUEST_URI_TOO_LONG, "request line"
            raise RefusedRequest(status, f"The {what} must have at most {HEAD_BYTES_MAX} bytes.") from None

    async def _page(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except Exception as error:
            log.error("a health page failed", action="health_page_failed", path=request.path, exc_info=error)
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, body=b"The page could not be made; the log has the reason.\n")


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Raises TimeoutError if the client does not receive all of it in time."""
    writer.write(data)
    writer.transport.set_write_buffer_limits(high=0)
    async with asyncio.timeout(WRITE_SECONDS):
        await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    left = LINGER_BYTES
    async with asyncio.timeout(LINGER_SECONDS):
        while left > 0 and (piece := await reader.read(4096)):
            left -= len(piece)
