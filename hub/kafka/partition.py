"""Maps keys to partitions with Kafka's murmur2. It is computed here and not by a client's partitioner, because clients differ.

Source: `org.apache.kafka.common.utils.Utils.murmur2`. `partition_vectors.json` in this directory has test vectors for other
languages.
"""

import struct
from functools import lru_cache

INBOX_PARTITIONS = 16
"""Partitions of every `hub.commands.<pool>` topic."""
_SEED = 0x9747B28C
_M = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 hash of `data`, as an unsigned 32-bit integer."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for k in struct.unpack_from(f"<{whole >> 2}I", data):
        k = (k * _M) & _WORD
        h = ((h * _M) & _WORD) ^ (((k ^ (k >> 24)) * _M) & _WORD)
    if length > whole:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _WORD
    h = ((h ^ (h >> 13)) * _M) & _WORD
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(root_id: str, partitions: int) -> int:
    """The partition of a root id: murmur2 of its UTF-8 bytes, with the sign bit cleared, modulo `partitions`."""
    if partitions == 1:
        return 0
    return (murmur2(root_id.encode()) & 0x7FFFFFFF) % partitions


def inbox_of(incarnation: str) -> int:
    """The partition of the pool's commands topic that an incarnation of a worker reads."""
    return partition_of(incarnation, INBOX_PARTITIONS)
