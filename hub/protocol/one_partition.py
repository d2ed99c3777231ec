"""Produce and Fetch as a client writes and reads them for one partition, which is the usual case: what is constant is encoded
once, and a response with the usual content is recognised by comparison. All else is left to `produce` and `fetch`.

The tests compare both with the general codec.
"""

import struct
from collections.abc import Iterable, Mapping

from . import fetch, produce
from .fetch import FetchAnswer, FetchedPartition, FetchLimits, FetchPosition
from .primitives import INT16, INT32, write_uvarint
from .values import TopicPartition

_NO_TAGS = b"\0"
_ONE_TOPIC = _ONE_PARTITION = b"\2"
_NO_TOPICS = b"\1"
FETCH_VERSION = 11
"""The version in which clients read. Later ones end with empty tags after the records, which Apache Kafka writes separately: a
client would often be woken once more for a response."""
_ONE = INT32.pack(1)
_NO_ENTRIES = INT32.pack(0)
_NO_RACK = INT16.pack(0)
_EMPTY_OR_NULL = (0, -1)
"""The lengths of an array without elements, and of null."""
_AFTER_CODE = 33
"""Size of the rest of a produce response after the error code of its only partition: three numbers of 8 bytes, no record errors,
no message, throttle time, and no tags."""


def _place(partition: TopicPartition) -> bytes:
    """One topic with one partition, up to the fields of the partition."""
    name = partition.topic.encode()
    return b"".join((_ONE_TOPIC, write_uvarint(len(name) + 1), name, _ONE_PARTITION, INT32.pack(partition.partition)))


class ProduceOnePartition:
    """Produce requests of an idempotent producer with a batch for `partition`, in the format from `produce.FLEXIBLE_FROM` on.
    `timeout_ms`: how long the leader may wait for its replicas."""

    def __init__(self, partition: TopicPartition, timeout_ms: int) -> None:
        place = _place(partition)
        head = produce.write_request(None, timeout_ms, {})
        self._start = head[: -len(_NO_TOPICS + _NO_TAGS)] + place
        self._stored = place + b"\0\0"

    def request(self, batch: bytes) -> bytes:
        """Encode a request body."""
        return b"".join((self._start, write_uvarint(len(batch) + 1), batch, _NO_TAGS * 3))

    def is_stored(self, body: bytes) -> bool:
        """Whether the body of a response says no more than that the batch is stored. If not, see `produce.read_response`."""
        return body.startswith(self._stored) and len(body) == len(self._stored) + _AFTER_CODE


class FetchCodec:
    """The Fetch requests of one client to one broker, in one version."""

    def __init__(self, version: int, limits: FetchLimits) -> None:
        self._version = version
        self._limits = limits
        self._one: _FetchOnePartition | None = None

    def write(
        self,
        session: tuple[int, int],
        positions: Mapping[TopicPartition, FetchPosition],
        forgotten: Iterable[TopicPartition] = (),
        *,
        max_wait_ms: int | None = None,
    ) -> bytes:
        """Encode a request body; see `fetch.write_request`. `max_wait_ms`: instead of that in the limits."""
        wait_ms = self._limits.max_wait_ms if max_wait_ms is None else max_wait_ms
        if len(positions) != 1 or forgotten or self._version != FETCH_VERSION:
            limits = self._limits._replace(max_wait_ms=wait_ms)
            return fetch.write_request(self._version, limits, session, positions, forgotten)
        ((partition, position),) = positions.items()
        one = self._one
        if one is None or one.partition != partition:
            one = self._one = _FetchOnePartition(partition, self._limits)
        return one.request(session, position, wait_ms)

    def read(self, body: bytes) -> FetchAnswer:
        """Decode a response body. Raises `MalformedMessage`."""
        if self._one is not None and (answer := self._one.read(body)) is not None:
            return answer
        return fetch.read_response(body, self._version)


class _FetchOnePartition:
    """Fetch of `partition` in version `FETCH_VERSION`."""

    def __init__(self, partition: TopicPartition, limits: FetchLimits) -> None:
        self.partition = partition
        name = partition.topic.encode()
        topic = INT16.pack(len(name)) + name
        place = b"".join((_ONE, topic, _ONE, INT32.pack(partition.partition)))
        head = fetch.write_request(FETCH_VERSION, limits, (0, -1), {})
        self._replica = head[: INT32.size]
        self._limits = head[2 * INT32.size : -len(_NO_ENTRIES * 2 + _NO_RACK) - 8]  # without wait and session
        self._place = place
        self._end = _NO_ENTRIES + _NO_RACK
        size = len(place)
        self._request = struct.Struct(f">4si{len(self._limits)}sii{size}siqqi{len(self._end)}s")
        self._response = struct.Struct(f">4xhi{size}shqqqi4xi")

    def request(self, session: tuple[int, int], position: FetchPosition, max_wait_ms: int) -> bytes:
        """Encode a request body."""
        session_id, session_epoch = session
        offset, leader_epoch, max_bytes = position
        return self._request.pack(
            self._replica,
            max_wait_ms,
            self._limits,
            session_id,
            session_epoch,
            self._place,
            leader_epoch,
            offset,
            -1,
            max_bytes,
            self._end,
        )

    def read(self, body: bytes) -> FetchAnswer | None:
        """Decode the body of a response. None if it has other partitions or aborted transactions, or is not valid."""
        start = self._response.size
        if len(body) < start:
            return None
        code, session_id, place, error, high_watermark, last_stable, log_start, aborted, size = self._response.unpack_from(body)
        if place != self._place or aborted not in _EMPTY_OR_NULL or len(body) != start + size:
            return None
        fetched = FetchedPartition(error, high_watermark, last_stable, log_start, [], body[start:])
        return FetchAnswer(code, session_id, [(self.partition, fetched)])
