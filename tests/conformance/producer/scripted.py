"""Brokers that do to produce requests what a test says: a cluster that checks sequence numbers as Apache Kafka does."""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from hub.broker.batches import BatchHeader, check_batch
from hub.kafka import Cluster, Outgoing, Sender, TopicPartition, read_batches
from hub.protocol import ApiKey, ErrorCode, Message, RequestType, decode_request, encode_response, response_tags, skip_tags
from hub.protocol.produce import PartitionResult, read_request, write_response

REMEMBERED = 5
"""Batches of a producer that a partition recognises."""


@dataclass
class Known:
    """A producer as a partition knows it: epoch, the last batches as (first sequence, last sequence, offset)."""

    epoch: int
    batches: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


@dataclass
class Log:
    """What is stored of a partition. Batches of more than `bytes_max`, or with one of the `refused` values, are refused."""

    values: list[bytes] = field(default_factory=list)
    producers: dict[int, Known] = field(default_factory=dict)
    bytes_max: int = 8 << 20
    refused: set[bytes] = field(default_factory=set)
    strict: bool = False

    def append(self, batch: bytes) -> tuple[ErrorCode, int]:
        """(error, base offset). An unknown producer may begin with any number, as in Kafka since 2.5, unless the log is
        `strict`."""
        error, header = check_batch(batch, self.bytes_max)
        if header is None:
            return error, -1
        values = [record.value or b"" for record in read_batches(batch)]
        if not self.refused.isdisjoint(values):
            return ErrorCode.INVALID_RECORD, -1
        known = self.producers.get(header.producer_id)
        if known is None and self.strict and header.base_sequence:
            return ErrorCode.UNKNOWN_PRODUCER_ID, -1
        if known is None or known.epoch < header.producer_epoch:
            known = self.producers[header.producer_id] = Known(header.producer_epoch)
        elif (error := _check(known, header)) is not ErrorCode.NONE:
            return error, -1
        for first, last, offset in known.batches:
            if (first, last) == (header.base_sequence, header.last_sequence):
                return ErrorCode.NONE, offset
        offset = len(self.values)
        self.values += values
        known.batches.append((header.base_sequence, header.last_sequence, offset))
        return ErrorCode.NONE, offset


def _check(known: Known, header: BatchHeader) -> ErrorCode:
    if header.producer_epoch < known.epoch:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if not known.batches or any(header.base_sequence == first for first, _, _ in known.batches):
        return ErrorCode.NONE
    follows = header.base_sequence == (known.batches[-1][1] + 1) & 0x7FFFFFFF
    return ErrorCode.NONE if follows else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


Step = Callable[["ScriptedBroker", "Produce"], None]
"""What to do with a produce request."""


class Produce:
    """One produce request on its way through a broker: the answers may be changed, withheld, or cut with the connection."""

    def __init__(self, batches: dict[TopicPartition, bytes]) -> None:
        self.batches = batches
        self.answers: dict[TopicPartition, tuple[ErrorCode, int]] = {}
        self.silent = False
        self.cut = False
        self.garbled = False


class ScriptedCluster:
    """Some brokers with the same logs. `script` has the steps for the next produce requests; the others are just stored."""

    def __init__(self, partitions: int) -> None:
        self.logs = {TopicPartition("t", number): Log() for number in range(partitions)}
        self.leaders: dict[TopicPartition, int | None] = dict.fromkeys(self.logs, 0)
        self.brokers: list[ScriptedBroker] = []
        self.script: deque[Step] = deque()
        self.requests: list[tuple[int, dict[TopicPartition, bytes]]] = []
        """(broker, batches) of every produce request."""
        self.asked: list[str] = []
        """Kinds of the other requests."""
        self.ids_assigned = 0
        self.id_errors: deque[ErrorCode] = deque()
        self.cut_request_after: int | None = None
        """Bytes of the next produce request after which the connection is cut."""

    def cluster(self, **settings: float) -> Cluster:
        """The address of the brokers."""
        return replace(Cluster.of(",".join(broker.address for broker in self.brokers)), **settings)  # type: ignore[arg-type]

    def values(self, partition: int = 0) -> list[bytes]:
        """What is stored."""
        return self.logs[TopicPartition("t", partition)].values

    def batches(self, partition: int = 0) -> list[bytes]:
        """The batches for a partition in the order in which they came."""
        place = TopicPartition("t", partition)
        return [batches[place] for _, batches in self.requests if place in batches]

    def metadata(self) -> Message:
        """All brokers, as far as the controller knows, and the leaders."""
        return {
            "brokers": [{"node_id": one.number, "host": "127.0.0.1", "port": one.port} for one in self.brokers],
            "topics": [
                {
                    "error_code": 0,
                    "name": "t",
                    "partitions": [
                        {
                            "error_code": 0,
                            "partition_index": place.partition,
                            "leader_id": -1 if leader is None else leader,
                            "replica_nodes": [],
                            "isr_nodes": [],
                            "offline_replicas": [],
                        }
                        for place, leader in self.leaders.items()
                    ],
                }
            ],
        }

    def identity(self) -> Message:
        """A new producer id, or the next error."""
        if self.id_errors:
            return {"error_code": self.id_errors.popleft(), "producer_id": -1, "producer_epoch": -1}
        self.ids_assigned += 1
        return {"error_code": 0, "producer_id": 1000 + self.ids_assigned, "producer_epoch": 0}


class ScriptedBroker:
    """One of them."""

    def __init__(self, cluster: ScriptedCluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.port = 0
        self.hung = asyncio.Event()
        """Set while the broker does not answer anything."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None] | None] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, at the same port every time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def end(self) -> None:
        """Kill it, and wait until nothing of it runs."""
        self.kill()
        async with asyncio.timeout(60):
            for task in self._serving:
                assert task is not None
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._answer_next(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _answer_next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection continues."""
        head = await reader.readexactly(14)
        size, key, version, number, name_size = struct.unpack(">ihhih", head)
        cluster = self.cluster
        if key == ApiKey.PRODUCE and cluster.cut_request_after is not None:
            await reader.readexactly(cluster.cut_request_after)
            cluster.cut_request_after = None
            return False
        frame = (await reader.readexactly(size - 10))[name_size:]
        kind = RequestType(ApiKey(key), version)
        at = skip_tags(frame, 0) if kind.flexible else 0
        produce = Produce({}) if key != ApiKey.PRODUCE else self._produce(frame, at, version)
        if self.hung.is_set() or produce.silent:
            await reader.read()  # responses are in order: there is no other one, either
            return False
        body = b"\0\0\xff" if produce.garbled else self._body(kind, frame, at, produce)
        answer = struct.pack(">i", number) + response_tags(key, kind.flexible) + body
        whole = struct.pack(">i", len(answer)) + answer
        if produce.cut:
            return False
        writer.write(whole)
        return True

    def _body(self, kind: RequestType, frame: bytes, at: int, produce: Produce) -> bytes:
        if kind.key == ApiKey.PRODUCE:
            results = [
                (topic, [PartitionResult(number, code, offset)]) for (topic, number), (code, offset) in produce.answers.items()
            ]
            return write_response(results, kind.version)
        self.cluster.asked.append(kind.name)
        decode_request(kind.key, kind.version, frame, at)
        message = self.cluster.metadata() if kind.key == ApiKey.METADATA else self.cluster.identity()
        return encode_response(kind.key, kind.version, message)

    def _produce(self, frame: bytes, at: int, version: int) -> Produce:
        request = read_request(frame, at, version)
        assert (request.transactional_id, request.acks) == (None, -1)
        produce = Produce(
            {TopicPartition(topic, number): batch or b"" for topic, some in request.topics for number, batch in some}
        )
        self.cluster.requests.append((self.number, produce.batches))
        step = self.cluster.script.popleft() if self.cluster.script else store
        step(self, produce)
        return produce


# --- steps


def store(broker: ScriptedBroker, produce: Produce) -> None:
    """Store the batches that this broker leads."""
    for place, batch in produce.batches.items():
        if broker.cluster.leaders[place] != broker.number:
            produce.answers[place] = ErrorCode.NOT_LEADER_OR_FOLLOWER, -1
        else:
            produce.answers[place] = broker.cluster.logs[place].append(batch)


def lose_answer(broker: ScriptedBroker, produce: Produce) -> None:
    """Store, and cut the connection."""
    store(broker, produce)
    produce.cut = True


def lose_request(broker: ScriptedBroker, produce: Produce) -> None:
    """Cut the connection."""
    produce.cut = True


def stay_silent(broker: ScriptedBroker, produce: Produce) -> None:
    """Store, and never answer."""
    store(broker, produce)
    produce.silent = True


def answer_nonsense(broker: ScriptedBroker, produce: Produce) -> None:
    """Store, and answer with bytes that are not a response."""
    store(broker, produce)
    produce.garbled = True


def move_leader(broker: ScriptedBroker, produce: Produce) -> None:
    """The next broker leads all partitions of the request from now on."""
    cluster = broker.cluster
    for place in produce.batches:
        cluster.leaders[place] = (broker.number + 1) % len(cluster.brokers)
    store(broker, produce)


def refuse(code: ErrorCode, *, of: int | None = None) -> Step:
    """Store nothing of the request, or of partition `of`, and answer with `code`."""

    def step(broker: ScriptedBroker, produce: Produce) -> None:
        refused = {place for place in produce.batches if of in (None, place.partition)}
        others = Produce({place: batch for place, batch in produce.batches.items() if place not in refused})
        store(broker, others)
        produce.answers = others.answers | dict.fromkeys(refused, (code, -1))

    return step


def store_but_answer(code: ErrorCode) -> Step:
    """Store, and answer with `code`."""

    def step(broker: ScriptedBroker, produce: Produce) -> None:
        store(broker, produce)
        produce.answers = dict.fromkeys(produce.batches, (code, -1))

    return step


def forget_producers(broker: ScriptedBroker, produce: Produce) -> None:
    """The partitions have no record of any producer from now on, and say so."""
    for place in produce.batches:
        broker.cluster.logs[place].producers.clear()
        broker.cluster.logs[place].strict = True
    store(broker, produce)


@asynccontextmanager
async def scripted(*, brokers: int = 1, partitions: int = 1) -> AsyncIterator[ScriptedCluster]:
    """A cluster in which the first broker leads everything."""
    cluster = ScriptedCluster(partitions)
    for number in range(brokers):
        broker = ScriptedBroker(cluster, number)
        cluster.brokers.append(broker)
        await broker.start()
    try:
        yield cluster
    finally:
        for broker in cluster.brokers:
            await broker.end()


# --- senders


def numbers(count: int, first: int = 0) -> list[bytes]:
    """Values."""
    return [b"%d" % number for number in range(first, first + count)]


def outgoing(value: bytes, partition: int = 0) -> Outgoing:
    """A record of topic t."""
    return Outgoing("t", partition, b"key", value, [("ce_type", b"x")])


@asynccontextmanager
async def sending(cluster: ScriptedCluster, *, linger_ms: int = 0, **settings: float) -> AsyncIterator[Sender]:
    """A started sender, which is stopped in the end."""
    sender = Sender(cluster.cluster(**settings), linger_ms=linger_ms)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()
