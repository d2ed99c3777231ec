"""The Fetch requests to one broker, one at a time, and what their responses say about its partitions."""

import time
from operator import attrgetter
from typing import NamedTuple, Protocol

from ..protocol import ApiKey, ErrorCode, RequestType, TopicPartition, name_of
from ..protocol.fetch import FetchedPartition, FetchLimits, FetchPosition
from ..protocol.one_partition import FETCH_VERSION, FetchCodec
from .errors import ConnectionLost, CorruptBatch, OffsetOutOfRange, PartitionUnavailable
from .fetch_buffer import PartitionBuffer
from .fetch_session import FetchSession
from .leaders import ConnectedBroker

BATCH_BYTES_LIMIT = 32 << 20
"""A batch larger than this is not read. It fits into a response (`connection.ANSWER_BYTES_MAX`) besides other partitions."""
REFUSED_SECONDS = 10.0
"""How long the leaders of a partition may refuse to serve it: until then the leader is looked up again."""
NOT_SERVED = frozenset(
    (
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
    )
)
"""The partition moved, is moving, or is not ready yet: its leader is looked up again."""


class SourceOwner(Protocol):
    """What a source is part of."""

    @property
    def has_room(self) -> bool:
        """Whether more may be requested."""

    @property
    def wait_ms(self) -> int:
        """How long the broker may wait for records before it responds to a request that is sent now; at most `max_wait_ms` of the
        limits."""

    def answered(self, source: "FetchSource", moved: bool, refused: list[TopicPartition]) -> None:
        """A response was processed. `moved`: a partition has batches or a failure, or its position has moved; `refused`: the
        partitions that the broker does not serve, which are removed from the source."""

    def lost(self, source: "FetchSource", error: ConnectionLost) -> None:
        """The connection was lost."""


class _Part(NamedTuple):
    """A partition with the epoch of its leader."""

    buffer: PartitionBuffer
    leader_epoch: int


_MAY_HAVE_MORE = attrgetter("buffer.may_have_more")


class FetchSource:
    """What is read from one broker. `partition_bytes`: nothing is requested while a partition has this much in its buffer."""

    def __init__(
        self, owner: SourceOwner, broker: ConnectedBroker, limits: FetchLimits, partition_bytes: int, seconds: float
    ) -> None:
        """`seconds`: how long the broker may take to respond, in addition to the wait in `limits`. Raises `ConnectionLost` if the
        broker supports no common version of Fetch."""
        self.broker = broker
        self.parts: dict[TopicPartition, _Part] = {}
        self._owner = owner
        self._kind = RequestType(ApiKey.FETCH, broker.version(ApiKey.FETCH, FETCH_VERSION))
        self._session = FetchSession(self._kind.version)
        self._codec = FetchCodec(self._kind.version, limits)
        self._partition_bytes = partition_bytes
        self._timeout_seconds = seconds + limits.max_wait_ms / 1000
        self._sent: dict[TopicPartition, int] | None = None
        """The generation of each partition in the request that is under way."""
        self._is_polling = False
        self._sent_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self._sent is not None

    @property
    def pending_seconds(self) -> float:
        """How long the request that is under way has had no response; 0 if there is none."""
        return time.monotonic() - self._sent_at if self.is_busy else 0.0

    @property
    def has_more(self) -> bool:
        """Whether the broker has records that were not fetched yet, as far as known."""
        return any(map(_MAY_HAVE_MORE, self.parts.values()))

    @property
    def is_outdated(self) -> bool:
        """Whether the request that is under way waits for new records, and lacks partitions or has old offsets of them."""
        sent = self._sent
        return (
            sent is not None
            and self._is_polling
            and any(sent.get(one) != part.buffer.generation and not part.buffer.paused for one, part in self.parts.items())
        )

    def place(self, buffer: PartitionBuffer, leader_epoch: int) -> None:
        """Read a partition from this broker, too."""
        self.parts[buffer.partition] = _Part(buffer, leader_epoch)

    def send(self) -> None:
        """Send a request, unless one is under way, no partition is to be read, or the buffer of a partition is full."""
        if self._sent is not None:
            return
        wanted: dict[TopicPartition, FetchPosition] = {}
        sent: dict[TopicPartition, int] = {}
        more = False
        for one, (buffer, epoch) in self.parts.items():
            if not buffer.paused and buffer.failure is None:
                if buffer.size >= self._partition_bytes:
                    return
                wanted[one] = FetchPosition(buffer.fetch_offset, epoch, buffer.max_bytes)
                sent[one] = buffer.generation
                more = more or buffer.may_have_more
        if not wanted or not self._owner.has_room:
            return
        body = self._codec.write(*self._session.request(wanted), max_wait_ms=self._owner.wait_ms)
        self._sent, self._is_polling, self._sent_at = sent, not more, time.monotonic()
        try:
            self.broker.connection.send(self._kind, body, self._answered, self._lost, timeout_seconds=self._timeout_seconds)
        except ConnectionLost as lost:
            self._lost(lost)

    def _lost(self, lost: ConnectionLost) -> None:
        self._sent = None
        self._owner.lost(self, lost)

    def _answered(self, body: bytes) -> None:
        """Process a response. Raises MalformedMessage."""
        answer = self._codec.read(body)
        sent, self._sent = self._sent or {}, None
        moved, refused = False, list[TopicPartition]()
        if self._session.accept(answer.code, answer.session_id):
            at_ms, fetched = time.time_ns() // 1_000_000, dict(answer.partitions)
            for one, generation in sent.items():
                part = self.parts.get(one)
                if part is None or part.buffer.generation != generation:
                    continue
                buffer, before = part.buffer, part.buffer.position
                if not self._take_in(buffer, fetched.get(one), answer.code, at_ms):
                    del self.parts[one]
                    refused.append(one)
                moved = moved or buffer.is_ready or buffer.position != before
        self._owner.answered(self, moved, refused)

    def _take_in(self, buffer: PartitionBuffer, fetched: FetchedPartition | None, code: int, at_ms: int) -> bool:
        """Process what a response says about one partition: None if nothing has changed, or if `code` is an error of the whole
        request. False if the broker does not serve it."""
        code = code if fetched is None else fetched.code
        if not code:
            buffer.refused_since = None
            buffer.add(fetched, at_ms, self._sent_at, bytes_max=BATCH_BYTES_LIMIT)
        elif code in NOT_SERVED:
            self._refuse(buffer, code)
            return False
        elif code == ErrorCode.OFFSET_OUT_OF_RANGE:
            buffer.failure = OffsetOutOfRange(*buffer.partition, buffer.fetch_offset)
        elif code == ErrorCode.CORRUPT_MESSAGE:
            buffer.failure = CorruptBatch(self.refusal("records of", buffer.partition, code))
        else:
            buffer.failure = ConnectionLost(self.refusal("records of", buffer.partition, code))
        return True

    def _refuse(self, buffer: PartitionBuffer, code: int) -> None:
        now = time.monotonic()
        buffer.refused_since = buffer.refused_since or now
        if now - buffer.refused_since > REFUSED_SECONDS:
            waited_for = f"does not serve it ({name_of(code)})"
            buffer.failure = PartitionUnavailable(*buffer.partition, self.broker.connection.address, waited_for)
            buffer.refused_since = None

    def refusal(self, what: str, partition: TopicPartition, code: int) -> str:
        """A message: the broker did not return `what` of a partition."""
        topic, number = partition
        return f"{self.broker.connection.address} refused to return {what} {topic}-{number}: {name_of(code)}."
