"""An HTTP endpoint that answers by a script, for tests of subscribers that send over HTTP.

    async with HttpEndpoint([HttpReply(503, {"retry-after": "7"}), HttpReply(200)]) as endpoint:
        await sink.post(f"{endpoint.url}/hooks", b"{}")       # endpoint.url is http://127.0.0.1:<port>
    assert endpoint.requests[0].body == b"{}"

It listens on 127.0.0.1: a sink with a guard needs `allow=["127.0.0.0/8"]`.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, NamedTuple, Self, cast

from ..service import set_within


@dataclass(frozen=True)
class HttpReply:
    """One answer. `hang`: none is sent, and the connection stays open. `close`: none is sent, and the connection is closed.
    `drip_seconds`: the body is sent byte by byte, with this pause after each. `delay_seconds`: the pause before the answer.
    `raw`: these bytes are sent instead of an answer, and the connection is closed."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang: bool = False
    close: bool = False
    drip_seconds: float = 0.0
    delay_seconds: float = 0.0
    raw: bytes | None = None


class Received(NamedTuple):
    """A request. `headers`: names in lower case. `connection`: the number of its connection, from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class HttpEndpoint:
    """Answers requests by `script`, in order of their arrival, and all later ones by `default`. `tls`: serve HTTPS."""

    def __init__(
        self, script: Iterable[HttpReply] = (), *, default: HttpReply | None = None, tls: SSLContext | None = None
    ) -> None:
        self.script = deque(script)
        self.default = default or HttpReply()
        self.requests: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._stopping = asyncio.Event()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stopping.set()
        self._server.close()
        for writer in self._open.values():
            writer.close()
        if self._open:
            await asyncio.wait(list(self._open))
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The URL of the endpoint, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        serving = cast("asyncio.Task[None]", asyncio.current_task())
        self._open[serving] = writer
        try:
            while await self._one_exchange(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            del self._open[serving]
            writer.close()

    async def _one_exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        """Whether the connection stays open for another request."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        method, target, _version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Received(method, target, headers, body, connection))
        return await self._answer(self.script.popleft() if self.script else self.default, writer)

    async def _answer(self, reply: HttpReply, writer: asyncio.StreamWriter) -> bool:
        if reply.hang:
            await self._stopping.wait()
        if reply.hang or reply.close or reply.raw is not None:
            writer.write(reply.raw or b"")
            await writer.drain()
            return False
        if reply.delay_seconds:
            await self._paused(reply.delay_seconds)
        headers = {"content-length": str(len(reply.body)), **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode("latin-1"))
        for part in [reply.body] if not reply.drip_seconds else [bytes([one]) for one in reply.body]:
            writer.write(part)
            await writer.drain()
            if reply.drip_seconds:
                await self._paused(reply.drip_seconds)
        return True

    async def _paused(self, seconds: float) -> None:
        """Wait, at most until the endpoint stops."""
        await set_within(self._stopping, seconds)
