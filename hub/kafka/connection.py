"""One connection to one broker: frames, correlation ids, timeouts. It never reconnects: after a lost response the outcome of
the request is unknown, and the caller must decide what to do."""

import asyncio
import math
import struct
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from msgspec import Struct

from ..protocol import MalformedMessage, Message, RequestType, decode_response, encode_request, request_frame, response_body_at
from .cluster import Cluster, name_of_address
from .deadlines import DeadlineTimer
from .errors import BrokerUnreachable, ConnectionLost

ANSWER_BYTES_MAX = 64 << 20
"""Largest response that is accepted; a larger one closes the connection."""
_FRAME_MIN = 8
"""The length, and the correlation id."""
_LENGTH = struct.Struct(">i")
_Answer = TypeVar("_Answer")


class _Waiting(Struct, frozen=True):
    """A request without a response. `deadline` is a time of the event loop."""

    kind: RequestType
    on_answer: Callable[[bytes], object]
    on_lost: Callable[[ConnectionLost], object]
    deadline: float
    timeout_seconds: float


class Connection(asyncio.Protocol):
    """Sends requests, which may overlap, and matches responses to them. Use it on one event loop only."""

    def __init__(self, address: str, cluster: Cluster) -> None:
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._request_seconds = cluster.request_seconds
        self._client_id = cluster.client_id_of("client").encode()
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._correlation_id = 0
        self._waiting: dict[int, _Waiting] = {}
        self._deadlines = DeadlineTimer(self._check_deadlines)

    @classmethod
    async def open(
        cls, cluster: Cluster, host: str, port: int, *, role: str, timeout_seconds: float | None = None
    ) -> "Connection":
        """Connect to one broker, within `timeout_seconds` (default: `connect_seconds` of the cluster). `role` determines the
        client id if the cluster has none. Raises `BrokerUnreachable`."""
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
        """Whether the connection is open, as far as this side knows."""
        return self._transport is not None

    async def ask(self, kind: RequestType, message: Message, *, timeout_seconds: float | None = None) -> Message:
        """Send a request and return the response. Raises as `request` does."""
        body = encode_request(kind.key, kind.version, message)
        return await self.request(kind, body, partial(decode_response, kind.key, kind.version), timeout_seconds=timeout_seconds)

    async def request(
        self, kind: RequestType, body: bytes, read: Callable[[bytes], _Answer], *, timeout_seconds: float | None = None
    ) -> _Answer:
        """Send the body of a request, and return the body of the response decoded by `read`. The default of `timeout_seconds`
        is `request_seconds` of the cluster.

        Raises `ConnectionLost`. A timeout or a malformed response (`read` raises `MalformedMessage`) closes the connection."""
        answer: asyncio.Future[_Answer] = self._loop.create_future()

        def on_answer(response: bytes) -> None:
            if not answer.done():
                answer.set_result(read(response))

        def on_lost(error: ConnectionLost) -> None:
            if not answer.done():
                answer.set_exception(error)

        self.send(kind, body, on_answer, on_lost, timeout_seconds=timeout_seconds)
        return await answer

    def send(
        self,
        kind: RequestType,
        body: bytes,
        on_answer: Callable[[bytes], object],
        on_lost: Callable[[ConnectionLost], object],
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        """Send the body of a request. Later either `on_answer` is called with the body of the response, in the turn of the event
        loop in which it arrives, or `on_lost`. The default of `timeout_seconds` is `request_seconds` of the cluster.

        A timeout closes the connection, and so does a malformed response: if `on_answer` raises `MalformedMessage`, `on_lost` is
        called, too. Raises `ConnectionLost` if the connection is closed."""
        if self._transport is None:
            raise ConnectionLost(f"The connection to {self.address} is closed.", cause=f"leader {self.address}")
        self._correlation_id = number = (self._correlation_id + 1) & 0x7FFFFFFF
        seconds = timeout_seconds or self._request_seconds
        deadline = self._loop.time() + seconds
        self._waiting[number] = _Waiting(kind, on_answer, on_lost, deadline, seconds)
        self._deadlines.add(deadline)
        self._transport.write(request_frame(kind, number, self._client_id, body))

    def _check_deadlines(self, now: float) -> float:
        for number, waiting in self._waiting.items():
            if waiting.deadline <= now:
                del self._waiting[number]
                self.close()
                reason = f"{self.address} did not respond to {waiting.kind.name} within {waiting.timeout_seconds:g} s."
                waiting.on_lost(ConnectionLost(reason, cause=f"leader {self.address}"))
                return math.inf
        return min([waiting.deadline for waiting in self._waiting.values()], default=math.inf)

    def close(self) -> None:
        """Close at once; pending requests raise `ConnectionLost`."""
        self._abort("closed by this client")

    def _abort(self, reason: str) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._lost(reason)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's transports do not subclass asyncio's

    def data_received(self, data: bytes) -> None:
        buffer, size = self._buffer, len(data)
        if not buffer and size >= _FRAME_MIN and _LENGTH.unpack_from(data)[0] == size - 4:
            self._answer(data, 4, size)  # exactly one response, which is the usual case
            return
        buffer += data
        start = 0
        while len(buffer) - start >= 4 and self._transport is not None:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not 4 <= length <= ANSWER_BYTES_MAX:
                self._abort(f"a response of {length} bytes; from 4 to {ANSWER_BYTES_MAX} are accepted")
                return
            if len(buffer) - start - 4 < length:
                break
            self._answer(buffer, start + 4, start + 4 + length)
            start += 4 + length
        del buffer[:start]

    def _answer(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Process the response without its length at `start` of `data`."""
        waiting = self._waiting.pop(_LENGTH.unpack_from(data, start)[0], None)
        if waiting is None:
            return
        kind = waiting.kind
        try:
            at = response_body_at(kind, data, start)
            if at > end:
                raise MalformedMessage("the response ends inside its header")
            waiting.on_answer(data[at:end] if isinstance(data, bytes) else bytes(memoryview(data)[at:end]))
        except MalformedMessage as malformed:
            self.close()
            reason = f"{self.address} sent a malformed response to {kind.name} ({malformed})."
            waiting.on_lost(ConnectionLost(reason, cause=f"leader {self.address}"))
        except Exception as error:  # a defect: it must not leave a request without an end
            self.close()
            reason = f"A response of {self.address} to {kind.name} was not processed ({error!r})."
            waiting.on_lost(ConnectionLost(reason, cause=f"leader {self.address}"))
            raise

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc) if exc else "closed by the broker")

    def _lost(self, reason: str) -> None:
        self._transport = None
        self._deadlines.cancel()
        waiting, self._waiting = self._waiting, {}
        message = f"The connection to {self.address} was closed before the response arrived ({reason})."
        for one in waiting.values():
            one.on_lost(ConnectionLost(message, cause=f"leader {self.address}"))


async def connect_any(cluster: Cluster, *, role: str, timeout_seconds: float | None = None) -> Connection:
    """Connect to the first reachable address. Raises `BrokerUnreachable` with the reason of the last one."""
    reason = ""
    for host, port in cluster.addresses:
        try:
            return await Connection.open(cluster, host, port, role=role, timeout_seconds=timeout_seconds)
        except BrokerUnreachable as unreachable:
            reason = unreachable.reason
    raise BrokerUnreachable(str(cluster), reason)
