"""The values of this layer: destinations, records to write, records read."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from ..protocol import TopicPartition
from .shared_headers import decode_headers
from .varints import read_varint

__all__ = ["EncodedHeaders", "Record", "StoredRecord", "TopicPartition"]


class EncodedHeaders(Struct, frozen=True, gc=False):
    """Headers as they are in a record: their number, then names and values with their lengths
    (https://kafka.apache.org/documentation/#recordheader). Each iteration decodes them."""

    data: bytes

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        return iter(decode_headers(self.data, read_varint(self.data, 0)[1]))


class Record(Struct, frozen=True, gc=False):
    """A record to write. In a compacted topic a `value` of None is a tombstone.

    A struct because the engine writes ten per task: a named tuple takes several times as long to create."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | EncodedHeaders
    timestamp_ms: int


class StoredRecord(NamedTuple):
    """A record that was read. `timestamp_ms` is the producer's time, or the broker's with LogAppendTime."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
