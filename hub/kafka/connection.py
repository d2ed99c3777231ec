"""One connection to one broker: frames, correlation ids, timeouts. It never reconnects by itself: an answer that did
not come leaves a doubt, and what a doubt means is for the caller to decide."""

import asyncio
import struct
from collections.abc import Iterator
from typing import cast

from . import wire
from .errors import BrokerUnreachable, ConnectionLost

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 10.0
ANSWER_BYTES_MAX = 64 << 20
DEFAULT_PORT = 9092
_LENGTH = struct.Struct(">i")


def addresses_of(bootstrap: str) -> Iterator[tuple[str, int]]:
    """The (host, port) pairs of a comma-separated list of `host`, `host:port` or `[ipv6]:port`."""
    for entry in filter(None, (part.strip() for part in bootstrap.split(","))):
        host, colon, port = entry.rpartition(":")
        if not colon or entry.endswith("]"):
            host, port = entry, str(DEFAULT_PORT)
        if not port.isdecimal():
            raise BrokerUnreachable(bootstrap, f"{entry!r} is not host:port")
        yield host.strip("[]"), int(port)


class Connection(asyncio.Protocol):
    """Requests may overlap; each answer goes to its own waiter. Use from one event loop."""

    def __init__(self, address: str, client_id: str) -> None:
        self.address = address
        self._client_id = client_id.encode()
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._correlation_id = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    @classmethod
    async def open(cls, host: str, port: int, *, client_id: str, timeout_seconds: float = CONNECT_SECONDS) -> "Connection":
        """Connect. Raises `BrokerUnreachable`."""
        address = f"{host}:{port}"
        try:
            async with asyncio.timeout(timeout_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(lambda: cls(address, client_id), host, port)
        except TimeoutError as late:
            raise BrokerUnreachable(address, f"no connection within {timeout_seconds:g} s") from late
        except OSError as refused:
            raise BrokerUnreachable(address, refused.strerror or str(refused)) from refused
        return connection

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent, as far as is known on this side."""
        return self._transport is not None

    async def request(self, api: wire.Api, body: bytes, *, timeout_seconds: float = REQUEST_SECONDS) -> bytes:
        """Send and wait: the body of the answer. Raises `ConnectionLost`; after a timeout the connection is closed."""
        if self._transport is None:
            raise ConnectionLost(f"The connection to {self.address} is closed.", cause=f"leader {self.address}")
        self._correlation_id = number = (self._correlation_id + 1) & 0x7FFFFFFF
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._transport.write(wire.frame(api, number, self._client_id, body))
        try:
            async with asyncio.timeout(timeout_seconds):
                data = await answer
        except TimeoutError as late:
            self.close()
            reason = f"{self.address} did not answer a {api.name} request within {timeout_seconds:g} s."
            raise ConnectionLost(reason, cause=f"leader {self.address}") from late
        finally:
            self._waiting.pop(number, None)
        return data[5:] if api.flexible_answer_header else data[4:]

    def close(self) -> None:
        """Close at once; waiters get `ConnectionLost`."""
        if self._transport is not None:
            self._transport.abort()
            self._lost("closed on this side")

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's transports are not instances of asyncio's classes

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not 4 <= length <= ANSWER_BYTES_MAX:
                self.close()
                return
            if len(buffer) - start - 4 < length:
                break
            self._answer(bytes(buffer[start + 4 : start + 4 + length]))
            start += 4 + length
        del buffer[:start]

    def _answer(self, data: bytes) -> None:
        waiter = self._waiting.pop(_LENGTH.unpack_from(data)[0], None)
        if waiter is not None and not waiter.done():
            waiter.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc) if exc else "closed by the broker")

    def _lost(self, reason: str) -> None:
        self._transport = None
        waiting, self._waiting = self._waiting, {}
        message = f"The connection to {self.address} ended while an answer was awaited ({reason})."
        for waiter in waiting.values():
            if not waiter.done():
                waiter.set_exception(ConnectionLost(message, cause=f"leader {self.address}"))


async def connect_any(bootstrap: str, *, client_id: str, timeout_seconds: float = CONNECT_SECONDS) -> Connection:
    """A connection to the first address that takes one. Raises `BrokerUnreachable`, with the reason of the last."""
    reason = "no address given"
    for host, port in addresses_of(bootstrap):
        try:
            return await Connection.open(host, port, client_id=client_id, timeout_seconds=timeout_seconds)
        except BrokerUnreachable as unreachable:
            reason = unreachable.reason
    raise BrokerUnreachable(bootstrap, reason)


async def ask_versions(connection: Connection, *, timeout_seconds: float = REQUEST_SECONDS) -> wire.ApiVersions:
    """What the broker at the other end speaks. Raises `ConnectionLost`."""
    body = wire.api_versions_request("taskhub", "1")
    return wire.read_api_versions(await connection.request(wire.API_VERSIONS, body, timeout_seconds=timeout_seconds))
