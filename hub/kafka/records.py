"""The values that cross this layer: where a record goes, what is written, what was read."""

from collections.abc import Sequence
from typing import NamedTuple

from ..protocol import TopicPartition

__all__ = ["Record", "StoredRecord", "TopicPartition"]


class Record(NamedTuple):
    """A record to write. `value` None is a tombstone in a compacted topic."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_ms: int


class StoredRecord(NamedTuple):
    """A record that was read; `timestamp_ms` is the writer's time (or the broker's, if the topic says so)."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
