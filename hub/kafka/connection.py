"""One connection to one broker: frames, correlation ids, timeouts. It never reconnects by itself: an answer that did
not come leaves a doubt, and what a doubt means is for the caller to decide."""

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from ..protocol import MalformedMessage, Message, RequestType, decode_response, encode_request, request_frame, response_body_at
from .cluster import Cluster, name_of_address
from .errors import BrokerUnreachable, ConnectionLost

ANSWER_BYTES_MAX = 64 << 20
_LENGTH = struct.Struct(">i")
_Answer = TypeVar("_Answer")


class Connection(asyncio.Protocol):
    """Requests may overlap; each answer goes to its own waiter. Use from one event loop."""

    def __init__(self, address: str, cluster: Cluster) -> None:
        self.address = address
        self._request_seconds = cluster.request_seconds
        self._client_id = cluster.client_id_of("client").encode()
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._correlation_id = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    @classmethod
    async def open(
        cls, cluster: Cluster, host: str, port: int, *, role: str, timeout_seconds: float | None = None
    ) -> "Connection":
        """Connect to one broker of the cluster, for at most `timeout_seconds` (default: as long as the cluster may take). `role`
        names the client where the cluster does not. Raises `BrokerUnreachable`."""
        address, seconds = name_of_address(host, port), timeout_seconds or cluster.connect_seconds
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(lambda: cls(address, cluster.named(role)), host, port)
        except TimeoutError:
            raise BrokerUnreachable(address, f"no connection within {seconds:g} s") from None
        except OSError as refused:
            raise BrokerUnreachable(address, refused.strerror or str(refused)) from None
        return connection

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent, as far as is known on this side."""
        return self._transport is not None

    async def ask(self, kind: RequestType, message: Message, *, timeout_seconds: float | None = None) -> Message:
        """Send a message and return the answer. Raises as `request` does."""
        body = encode_request(kind.key, kind.version, message)
        return await self.request(kind, body, partial(decode_response, kind.key, kind.version), timeout_seconds=timeout_seconds)

    async def request(
        self, kind: RequestType, body: bytes, read: Callable[[bytes], _Answer], *, timeout_seconds: float | None = None
    ) -> _Answer:
        """Send the body of a request and return what `read` makes of the body of the answer, which may take `timeout_seconds`
        (default: as long as the cluster may take).

        Raises `ConnectionLost`; after a timeout, and after an answer that `read` refuses (`MalformedMessage`), the connection is
        closed."""
        answer = await self._exchange(kind, body, timeout_seconds or self._request_seconds)
        try:
            return read(answer[response_body_at(kind, answer) :])
        except MalformedMessage as malformed:
            self.close()
            reason = f"{self.address} answered {kind.name} with bytes that the protocol does not have ({malformed})."
            raise ConnectionLost(reason, cause=f"leader {self.address}") from malformed

    async def _exchange(self, kind: RequestType, body: bytes, timeout_seconds: float) -> bytes:
        if self._transport is None:
            raise ConnectionLost(f"The connection to {self.address} is closed.", cause=f"leader {self.address}")
        self._correlation_id = number = (self._correlation_id + 1) & 0x7FFFFFFF
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._transport.write(request_frame(kind, number, self._client_id, body))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError as late:
            self.close()
            reason = f"{self.address} did not answer {kind.name} within {timeout_seconds:g} s."
            raise ConnectionLost(reason, cause=f"leader {self.address}") from late
        finally:
            self._waiting.pop(number, None)

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


async def connect_any(cluster: Cluster, *, role: str, timeout_seconds: float | None = None) -> Connection:
    """A connection to the first address that takes one. Raises `BrokerUnreachable`, with the reason of the last."""
    reason = ""
    for host, port in cluster.addresses:
        try:
            return await Connection.open(cluster, host, port, role=role, timeout_seconds=timeout_seconds)
        except BrokerUnreachable as unreachable:
            reason = unreachable.reason
    raise BrokerUnreachable(str(cluster), reason)
