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
from functools import lru_cache
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


class _Answer:
    """The response to one request, until it is sent. `tags`: see `response_tags`; `began`: when the request arrived."""

    __slots__ = ("began", "connection", "correlation_id", "deferred", "frame", "key", "tags")

    def __init__(self, connection: "ClientConnection", key: int, correlation_id: int, tags: bytes, began: float) -> None:
        self.connection = connection
        self.key = key
        self.correlation_id = correlation_id
        self.tags = tags
        self.began = began
        self.deferred: Deferred | None = None
        self.frame: bytes | None = None

    def resolve(self, body: bytes) -> None:
        """The body is known: send it as soon as the responses to earlier requests are sent."""
        size = _ANSWER.size - _SIZE.size + len(self.tags) + len(body)
        self.frame = b"".join((_ANSWER.pack(size, self.correlation_id), self.tags, body))
        self.connection.answer_ready(self)


@lru_cache(maxsize=512)
def _format_of(key: int, version: int) -> tuple[bool, bytes] | None:
    """Whether the request has a tag section, and the one of its response; None if the version is not served."""
    api = APIS.get(key)
    if api is None or not api.knows(version):
        return None
    flexible = api.flexible(version)
    return flexible, response_tags(key, flexible)


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
        self._answers: deque[_Answer] = deque()
        """Those that are not sent, in the order of the requests."""
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
        for answer in self._answers:
            if answer.deferred is not None:
                answer.deferred.abandon()
        self._answers.clear()

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
        pause = self._write_paused or len(self._answers) >= REQUESTS_MAX
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
        """Bytes arrived: usually one request, which is not copied to the buffer."""
        whole = not self._buffer and not self._read_paused and len(data) > _SIZE.size + _HEADER.size
        if whole and _SIZE.unpack_from(data)[0] == len(data) - _SIZE.size <= self._frame_bytes_max:
            self._serve(data[_SIZE.size :])
            return
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
            self._serve(frame)

    def _serve(self, frame: bytes) -> None:
        """Handle one request; a failure closes the connection."""
        try:
            self._request(frame)
        except (MalformedMessage, struct.error, IndexError, UnicodeDecodeError) as error:
            self._refuse(str(error))
        except Exception:
            logger.exception(
                "unexpected error in a request from %s; closing its connection",
                self._host,
                extra={"action": "request_failed"},
            )
            self._buffer.clear()
            self.close()

    def _refuse(self, reason: str) -> None:
        logger.warning(
            "closing connection of %s at %s: %s", self._principal, self._host, reason, extra={"action": "connection_refused"}
        )
        self._buffer.clear()
        self.close()

    def _request(self, frame: bytes) -> None:
        key, version, correlation_id, name_size = _HEADER.unpack_from(frame)
        form = _format_of(key, version)
        if form is None and key != ApiKey.API_VERSIONS:
            raise MalformedMessage(f"version {version} of API key {key} is not supported")
        flexible, tags = form or (False, b"")
        answer = _Answer(self, key, correlation_id, tags, time.perf_counter())
        self._figures.begun(key)
        if form is None:
            self._answer(answer, encode_response(key, 0, api_versions(ErrorCode.UNSUPPORTED_VERSION)))
            return
        at = _HEADER.size + max(name_size, 0)
        client = self._client(frame[_HEADER.size : at])
        if flexible:
            at = skip_tags(frame, at)
        self._answer(answer, self._broker.handle(key, version, frame, at, client))

    def _client(self, name: bytes) -> Client:
        client = self._clients.get(name)
        if client is None:
            if len(self._clients) >= 16:
                self._clients.clear()
            client = self._clients[name] = Client(name.decode(), self._host, self._principal)
        return client

    # --- answers

    def _answer(self, answer: _Answer, body: bytes | Deferred | None) -> None:
        if body is None:
            return
        self._answers.append(answer)
        if isinstance(body, Deferred):
            answer.deferred = body
            body.then(answer.resolve)
        else:
            answer.resolve(body)
        if len(self._answers) >= REQUESTS_MAX:
            self._balance()

    def answer_ready(self, answer: _Answer) -> None:
        """An answer has its frame: send those that no earlier one precedes, in one write."""
        self._figures.responded(answer.key, time.perf_counter() - answer.began)
        answers, frames = self._answers, []
        while answers and (frame := answers[0].frame) is not None:
            answers.popleft()
            frames.append(frame)
        if frames and self._transport is not None:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if self._read_paused:
            self._balance()
