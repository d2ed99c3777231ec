"""The values of this layer: destinations, records to write, records read."""

from collections.abc import Sequence
from typing import NamedTuple

from ..protocol import TopicPartition

__all__ = ["Record", "StoredRecord", "TopicPartition"]


class Record(NamedTuple):
    """A record to write. In a compacted topic a `value` of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_ms: int


class StoredRecord(NamedTuple):
    """A record that was read. `timestamp_ms` is the producer's time, or the broker's with LogAppendTime."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
