"""Decompression of record batches up to a limit: a few hundred kilobytes can expand to more than the available memory.

A broker checks the compressed size only (`max.message.bytes`). Formats: https://kafka.apache.org/documentation/#recordbatch
(attributes), and the framing of snappy-java ("xerial"), which Kafka's clients write.
"""

import zlib
from collections.abc import Callable

import cramjam

DECOMPRESSED_BYTES_MAX = 128 << 20
"""Maximum decompressed size of the records of one batch."""
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_NO_ROOM = "whole buffer"
"""Part of cramjam's message if the output buffer is too small."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class TooLargeDecompressed(ValueError):
    """The records of a batch are larger than DECOMPRESSED_BYTES_MAX."""


def decompress(codec: int, data: bytes) -> bytes:
    """Decompress the records of a batch. `codec`: the compression in its attributes (1 gzip, 2 snappy, 3 lz4, 4 zstd).

    Raises TooLargeDecompressed; for invalid data, the exception of the library."""
    return _DECODERS[codec](data)


def _gzip(data: bytes) -> bytes:
    reader = zlib.decompressobj(_GZIP_OR_ZLIB)
    whole = reader.decompress(data, DECOMPRESSED_BYTES_MAX)
    if not reader.eof:
        raise TooLargeDecompressed if reader.unconsumed_tail else ValueError("the gzip stream is truncated")
    return whole


def _snappy(data: bytes) -> bytes:
    if not data.startswith(_XERIAL):
        return _snappy_block(data, DECOMPRESSED_BYTES_MAX)
    blocks, at, left = [], _XERIAL_HEADER_BYTES, DECOMPRESSED_BYTES_MAX
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        blocks.append(_snappy_block(data[at + 4 : end], left))
        at, left = end, left - len(blocks[-1])
    return b"".join(blocks)


def _snappy_block(block: bytes, bytes_max: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > bytes_max:
        raise TooLargeDecompressed
    return bytes(cramjam.snappy.decompress_raw(block))


def _into(decompress_into: Callable[[bytes, bytearray], int]) -> Callable[[bytes], bytes]:
    def bounded(data: bytes) -> bytes:
        room = max(1 << 16, 8 * len(data))
        while True:
            output = bytearray(min(room, DECOMPRESSED_BYTES_MAX))
            try:
                return bytes(memoryview(output)[: decompress_into(data, output)])
            except cramjam.DecompressionError as error:
                if _NO_ROOM not in str(error):
                    raise
                if room >= DECOMPRESSED_BYTES_MAX:
                    raise TooLargeDecompressed from None
            room *= 32

    return bounded


_DECODERS: dict[int, Callable[[bytes], bytes]] = {
    1: _gzip,
    2: _snappy,
    3: _into(cramjam.lz4.decompress_into),
    4: _into(cramjam.zstd.decompress_into),
}
