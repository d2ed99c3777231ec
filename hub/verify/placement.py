"""A second implementation of the partition of a root: murmur2 as in Kafka's Java client (`Utils.murmur2`)."""

from functools import lru_cache

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data`, unsigned, with Kafka's seed 0x9747b28c."""
    length = len(data)
    hashed = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        hashed = (hashed * _M & _MASK) ^ word
    rest = data[whole:]
    if rest:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15


@lru_cache(maxsize=4096)
def partition_of_root(root: str, partitions: int) -> int:
    """The partition of `root`: the hash without its sign bit, modulo `partitions`."""
    return (murmur2(root.encode()) & 0x7FFFFFFF) % partitions
