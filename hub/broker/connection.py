"""One client connection: reads request frames and writes responses in the order of the requests.

Limits: a frame has at most `frame_bytes_max` bytes. The broker stops reading from a connection that has `REQUESTS_MAX`
unanswered requests or that does not read its responses. Invalid bytes close this connection only; so does an API or version
that is not served, as in Apache Kafka, except that ApiVersions in an unknown version is answered in version 0.
"""

import asyncio
import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from ..protocol import APIS, ApiKey, ErrorCode, MalformedMessage, encode_response, response_tags, skip_tags
from .broker import Broker, Client, api_versions
from .timing import Deferred

logger = logging.getLogger(__name__)

REQUESTS_MAX = 128
SLOW_READER_SECONDS = 60.0
_SIZE = struct.Struct(">i")
_HEADER = struct.Struct(">hhih")
_ANSWER = struct.Struct(">ii")


class _Slot:
    """A response that has not been sent yet, in the order of the requests."""

    __slots__ = ("deferred", "frame", "ready")

    def __init__(self) -> None:
        self.ready = False
        self.frame = b""
        self.deferred: Deferred | None = None


class ClientConnection(asyncio.Protocol):
    """The connection of one client. `connections` is the listener's set of open connections, `principal` the client's
    identity."""

    def __init__(self, broker: Broker, connections: set["ClientConnection"], *, principal: str, frame_bytes_max: int) -> None:
        self._broker = broker
        self._figures = broker.state.figures
        self._principal = principal
        self._connections = connections
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._slots: deque[_Slot] = deque()
        self._transport: asyncio.Transport | None = None
        self._host = ""
        self._clients: dict[bytes, Client] = {}
        self._write_paused = False
        self._read_paused = False
        self._slow: asyncio.TimerHandle | None = None

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._host = str(peer[0]) if peer else ""
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client disconnected: abandon its responses."""
        self._transport = None
        self._connections.discard(self)
        if self._slow is not None:
            self._slow.cancel()
        for slot in self._slots:
            if slot.deferred is not None:
                slot.deferred.abandon()
        self._slots.clear()

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client reads its responses too slowly: stop reading requests, and disconnect it after `SLOW_READER_SECONDS`."""
        self._write_paused = True
        self._slow = asyncio.get_running_loop().call_later(SLOW_READER_SECONDS, self.close)
        self._balance()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._write_paused = False
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self._balance()

    def _balance(self) -> None:
        """Read from the client only while it has few enough unanswered requests."""
        pause = self._write_paused or len(self._slots) >= REQUESTS_MAX
        if self._transport is None or pause == self._read_paused:
            return
        self._read_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._consume)

    # --- requests

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._buffer += data
        self._consume()

    def _consume(self) -> None:
        buffer = self._buffer
        while len(buffer) >= 4 and not self._read_paused and self._transport is not None:
            (size,) = _SIZE.unpack_from(buffer)
            if not _HEADER.size <= size <= self._frame_bytes_max:
                self._refuse(f"frame of {size} bytes is too small or exceeds {self._frame_bytes_max}")
                return
            if len(buffer) < 4 + size:
                return
            frame = bytes(memoryview(buffer)[4 : 4 + size])
            del buffer[: 4 + size]
            try:
                self._request(frame)
            except (MalformedMessage, struct.error, IndexError, UnicodeDecodeError) as error:
                self._refuse(str(error))
                return
            except Exception:
                logger.exception(
                    "unexpected error in a request from %s; closing its connection",
                    self._host,
                    extra={"action": "request_failed"},
                )
                self._buffer.clear()
                self.close()
                return

    def _refuse(self, reason: str) -> None:
        logger.warning(
            "closing connection of %s at %s: %s", self._principal, self._host, reason, extra={"action": "connection_refused"}
        )
        self._buffer.clear()
        self.close()

    def _request(self, frame: bytes) -> None:
        key, version, correlation_id, name_size = _HEADER.unpack_from(frame)
        at = _HEADER.size + max(name_size, 0)
        api = APIS.get(key)
        if api is None or not api.knows(version):
            if key != ApiKey.API_VERSIONS:
                raise MalformedMessage(f"version {version} of API key {key} is not supported")
            self._answer(correlation_id, b"", encode_response(key, 0, api_versions(ErrorCode.UNSUPPORTED_VERSION)))
            return
        began = time.perf_counter()
        self._figures.begun(key)
        flexible = api.flexible(version)
        name = frame[_HEADER.size : at]
        if flexible:
            at = skip_tags(frame, at)
        body = self._broker.handle(key, version, frame, at, self._client(name))
        if isinstance(body, Deferred):
            self._answer_later(correlation_id, response_tags(key, flexible), body, lambda: self._responded(key, began))
        elif body is not None:
            self._answer(correlation_id, response_tags(key, flexible), body)
            self._responded(key, began)

    def _responded(self, key: int, began: float) -> None:
        self._figures.responded(key, time.perf_counter() - began)

    def _client(self, name: bytes) -> Client:
        client = self._clients.get(name)
        if client is None:
            if len(self._clients) >= 16:
                self._clients.clear()
            client = self._clients[name] = Client(name.decode(), self._host, self._principal)
        return client

    # --- answers

    def _answer(self, correlation_id: int, tags: bytes, body: bytes) -> None:
        frame = b"".join((_ANSWER.pack(4 + len(tags) + len(body), correlation_id), tags, body))
        if not self._slots and self._transport is not None:
            self._transport.write(frame)
            return
        slot = _Slot()
        slot.ready, slot.frame = True, frame
        self._slots.append(slot)
        self._balance()

    def _answer_later(self, correlation_id: int, tags: bytes, body: Deferred, responded: Callable[[], None]) -> None:
        slot = _Slot()
        slot.deferred = body
        self._slots.append(slot)

        def late(content: bytes) -> None:
            self._late(slot, correlation_id, tags, content)
            responded()

        body.then(late)
        self._balance()

    def _late(self, slot: _Slot, correlation_id: int, tags: bytes, body: bytes) -> None:
        slot.ready = True
        slot.frame = b"".join((_ANSWER.pack(4 + len(tags) + len(body), correlation_id), tags, body))
        slots, frames = self._slots, []
        while slots and slots[0].ready:
            frames.append(slots.popleft().frame)
        if frames and self._transport is not None:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        self._balance()
