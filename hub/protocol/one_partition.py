"""Produce and Fetch as a client writes and reads them for one partition, which is the usual case: what is constant is encoded
once, and a response with the usual content is recognised by comparison. All else is left to `produce` and `fetch`.

The tests compare both with the general codec.
"""

import struct
from collections.abc import Iterable, Mapping

from . import fetch, produce
from .fetch import FetchAnswer, FetchedPartition, FetchLimits, FetchPosition
from .primitives import INT32, read_uvarint, write_uvarint
from .values import TopicPartition

_NO_TAGS = b"\0"
_ONE_TOPIC = _ONE_PARTITION = b"\2"
_NO_TOPICS = b"\1"
_NO_RACK = b"\1"
_EMPTY_OR_NULL = 1
"""The largest compact length of an array without elements."""
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
        if len(positions) != 1 or forgotten or self._version < fetch.FLEXIBLE_FROM:
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
    """Fetch of `partition` in version 12."""

    def __init__(self, partition: TopicPartition, limits: FetchLimits) -> None:
        self.partition = partition
        place = _place(partition)
        head = fetch.write_request(fetch.FLEXIBLE_FROM, limits, (0, -1), {})
        self._replica = head[: INT32.size]
        self._limits = head[2 * INT32.size : -len(_NO_TOPICS * 2 + _NO_RACK + _NO_TAGS) - 8]  # without wait and session
        self._place = place
        self._end = b"".join((_NO_TAGS * 2, _NO_TOPICS, _NO_RACK, _NO_TAGS))
        size = len(place)
        self._request = struct.Struct(f">4si{len(self._limits)}sii{size}siqiqi{len(self._end)}s")
        self._response = struct.Struct(f">4xhi{size}shqqqB4x")

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
            -1,
            max_bytes,
            self._end,
        )

    def read(self, body: bytes) -> FetchAnswer | None:
        """Decode the body of a response. None if it has other partitions, aborted transactions or tags, or is not valid."""
        if len(body) <= self._response.size:
            return None
        code, session_id, place, error, high_watermark, last_stable, log_start, aborted = self._response.unpack_from(body)
        if place != self._place or aborted > _EMPTY_OR_NULL:
            return None
        at = self._response.size
        try:
            size, at = (first, at + 1) if (first := body[at]) < 0x80 else read_uvarint(body, at)
        except IndexError:  # the body ends inside the size
            return None
        end = at + size - 1 if size else at
        if body[end:] != _NO_TAGS * 3:
            return None
        fetched = FetchedPartition(error, high_watermark, last_stable, log_start, [], body[at:end])
        return FetchAnswer(code, session_id, [(self.partition, fetched)])
