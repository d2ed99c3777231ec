"""Brokers whose fetch responses are scripted: each has one topic in memory, and answers in every way that a broker may."""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from hub.broker.batches import marker_batch, placed, read_header
from hub.kafka import Cluster, Record, build_batch
from hub.protocol import ApiKey, ErrorCode, Message, RequestType, decode_request, encode_response, response_tags

TOPIC = "topic"
NOW_MS = 1_700_000_000_000
SPOKEN = {ApiKey.FETCH: (4, 12), ApiKey.LIST_OFFSETS: (1, 7), ApiKey.METADATA: (0, 12), ApiKey.API_VERSIONS: (0, 3)}
Reply = Callable[[Message], Message | bytes | None | Awaitable[None]]


def batch(*values: bytes, producer_id: int = -1, compression: str = "none") -> bytes:
    """A batch with these values; transactional if it has a producer."""
    records = [Record(b"k", value, [("ce_type", b"t")], NOW_MS) for value in values]
    identity = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": 0, "transactional": True}
    return build_batch(records, compression=compression, **(identity if producer_id >= 0 else {}))  # type: ignore[arg-type]


class Log:
    """One partition: batches as they are stored, and the aborted transactions."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.start = self.end = 0
        self.stable: int | None = None
        self.aborted: list[tuple[int, int]] = []
        self.grown = asyncio.Event()

    def append(self, *batches: bytes) -> int:
        """The offset of the first."""
        first = self.end
        for one in batches:
            self.batches.append(placed(one, self.end))
            self.end += read_header(one).last_offset_delta + 1
        self.grown.set()
        return first

    def abort(self, producer_id: int, first_offset: int) -> None:
        """End a transaction that began at `first_offset`."""
        self.aborted.append((producer_id, first_offset))
        self.append(marker_batch(0, producer_id, 0, commit=False, timestamp_ms=NOW_MS))

    @property
    def visible_end(self) -> int:
        return self.end if self.stable is None else self.stable

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Complete batches from the one with `offset` on: at least one."""
        found: list[bytes] = []
        for one in self.batches:
            header = read_header(one)
            if header.last_offset < offset:
                continue
            if header.base_offset >= self.visible_end or (found and sum(map(len, found)) + len(one) > max_bytes):
                break
            found.append(one)
        return b"".join(found)


class ScriptedBroker:
    """A broker of one topic. `script`: replies to the next fetch requests, in place of what is true; `fetches`: the requests
    that came. `leaders`: the broker (of `peers`) that leads each partition; `errors`: codes of the next ListOffsets;
    `piece_bytes`: how much of a response is sent at once."""

    def __init__(self, number: int = 1, *, spoken: dict[ApiKey, tuple[int, int]] | None = None) -> None:
        self.number = number
        self.spoken = SPOKEN | (spoken or {})
        self.logs = {0: Log()}
        self.peers: list[ScriptedBroker] = [self]
        self.leaders: dict[int, int] = {0: number}
        self.epoch = 5
        self.sessions = False
        self.reports_versions = True
        self.piece_bytes = 1 << 20
        self.script: deque[Reply] = deque()
        self.errors: deque[ErrorCode] = deque()
        self.fetches: list[Message] = []
        self.requests: list[RequestType] = []
        self.connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._session = (0, dict[int, Message]())

    @property
    def log(self) -> Log:
        """Partition 0."""
        return self.logs[0]

    @property
    def cluster(self) -> Cluster:
        return Cluster.of(f"127.0.0.1:{self.port}")

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.disconnect()
        async with asyncio.timeout(60):
            while self.connections:
                await asyncio.sleep(0.001)

    def disconnect(self) -> None:
        """Reset every connection."""
        for writer in self.connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                await self._respond(await reader.readexactly(size), writer, reader.at_eof)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _respond(self, frame: bytes, writer: asyncio.StreamWriter, is_gone: Callable[[], bool]) -> None:
        key, version, number, name_size = struct.unpack_from(">hhih", frame)
        kind = RequestType(ApiKey(key), version)
        self.requests.append(kind)
        at = 10 + name_size + kind.flexible
        if kind.key == ApiKey.API_VERSIONS and not self.reports_versions:
            await self._write(writer, number, b"", encode_response(key, 0, {"error_code": ErrorCode.UNSUPPORTED_VERSION}))
            return
        low, high = self.spoken[kind.key]
        assert low <= version <= high, f"{kind.name} {version} is not spoken"
        reply = await self._reply(kind, decode_request(key, version, frame, at), is_gone)
        if reply is not None:
            body = reply if isinstance(reply, bytes) else encode_response(key, version, reply)
            await self._write(writer, number, response_tags(key, kind.flexible), body)

    async def _write(self, writer: asyncio.StreamWriter, number: int, tags: bytes, body: bytes) -> None:
        frame = struct.pack(">ii", 4 + len(tags) + len(body), number) + tags + body
        for at in range(0, len(frame), self.piece_bytes):
            writer.write(frame[at : at + self.piece_bytes])
            await writer.drain()
            await asyncio.sleep(0)

    async def _reply(self, kind: RequestType, message: Message, is_gone: Callable[[], bool]) -> Message | bytes | None:
        if kind.key == ApiKey.API_VERSIONS:
            keys = [{"api_key": key, "min_version": low, "max_version": high} for key, (low, high) in self.spoken.items()]
            return {"error_code": 0, "api_keys": keys}
        if kind.key == ApiKey.METADATA:
            return self._metadata(message)
        if kind.key == ApiKey.LIST_OFFSETS:
            return self._offsets(message)
        self.fetches.append(message)
        if self.script:
            reply = self.script.popleft()(message)
            if isinstance(reply, Awaitable):
                await reply
                return None
            return reply
        return await self._fetch(message, is_gone)

    def _metadata(self, message: Message) -> Message:
        brokers = [{"node_id": one.number, "host": "127.0.0.1", "port": one.port} for one in self.peers]
        parts = [{"partition_index": n, "leader_id": one, "leader_epoch": self.epoch} for n, one in self.leaders.items()]
        code = ErrorCode.NONE if parts else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        topics = [{"error_code": code, "name": one["name"], "partitions": parts} for one in message["topics"]]
        return {"brokers": brokers, "topics": topics}

    def _offsets(self, message: Message) -> Message:
        def answer(entry: Message) -> Message:
            log, code = self.logs[entry["partition_index"]], self.errors.popleft() if self.errors else ErrorCode.NONE
            offset = log.start if entry["timestamp"] == -2 else log.visible_end if message["isolation_level"] else log.end
            return {"partition_index": entry["partition_index"], "error_code": code, "offset": offset}

        topics = [
            {"name": one["name"], "partitions": [answer(entry) for entry in one["partitions"]]} for one in message["topics"]
        ]
        return {"topics": topics}

    # --- true responses

    async def _fetch(self, message: Message, is_gone: Callable[[], bool]) -> Message:
        """What a broker responds: it waits for records, or until the client `is_gone`."""
        asked = {entry["partition"]: entry for topic in message["topics"] for entry in topic["partitions"]}
        if self.sessions:
            asked = self._in_session(message, asked)
        deadline = asyncio.get_running_loop().time() + message["max_wait_ms"] / 1000
        while not (found := self._found(asked)) and not is_gone():
            if (left := deadline - asyncio.get_running_loop().time()) <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.01)):
                    await self.log.grown.wait()
            self.log.grown.clear()
        return self.response(*(found if self.sessions else [self.partition(entry) for entry in asked.values()]))

    def _in_session(self, message: Message, asked: dict[int, Message]) -> dict[int, Message]:
        if message["session_epoch"] == 0:
            self._session = (77, {})
        known = self._session[1]
        known.update(asked)
        for topic in message["forgotten_topics_data"]:
            for partition in topic["partitions"]:
                del known[partition]
        return known

    def _found(self, asked: dict[int, Message]) -> list[Message]:
        answers = [self.partition(entry) for entry in asked.values()]
        return [one for one in answers if one["records"] or one["error_code"]]

    def partition(self, entry: Message, *, code: int = 0, records: bytes | None = None) -> Message:
        """One partition of a response to the request `entry`."""
        log = self.logs[entry["partition"]]
        if not code and not log.start <= entry["fetch_offset"] <= log.end:
            code = ErrorCode.OFFSET_OUT_OF_RANGE
        return {
            "partition_index": entry["partition"],
            "error_code": code,
            "high_watermark": log.end,
            "last_stable_offset": log.visible_end,
            "log_start_offset": log.start,
            "aborted_transactions": [{"producer_id": one, "first_offset": offset} for one, offset in log.aborted],
            "records": log.read(entry["fetch_offset"], entry["partition_max_bytes"]) if records is None else records,
        }

    def response(self, *partitions: Message, code: int = 0) -> Message:
        """A fetch response with these partitions."""
        topics = [{"topic": TOPIC, "partitions": list(partitions)}] if partitions else []
        return {"error_code": code, "session_id": self._session[0] if self.sessions else 0, "responses": topics}

    def reply(self, *, code: int = 0, records: bytes | None = None) -> Reply:
        """A reply for the script: every partition with this error or these records."""

        def answer(message: Message) -> Message:
            asked = [entry for topic in message["topics"] for entry in topic["partitions"]]
            return self.response(*(self.partition(entry, code=code, records=records) for entry in asked))

        return answer

    def asked_offsets(self) -> list[int]:
        """The offset of partition 0 in each fetch request that had it."""
        return [
            entry["fetch_offset"]
            for one in self.fetches
            for topic in one["topics"]
            for entry in topic["partitions"]
            if entry["partition"] == 0
        ]


@asynccontextmanager
async def brokers(count: int = 1, **settings: Any) -> AsyncIterator[list[ScriptedBroker]]:
    """Running brokers that know each other; the first one leads."""
    found = [ScriptedBroker(number + 1, **settings) for number in range(count)]
    for one in found:
        await one.start()
        one.peers, one.leaders = found, found[0].leaders
    try:
        yield found
    finally:
        for one in found:
            await one.stop()
