"""Decompression of record batches up to a limit, and their compression.

A few hundred kilobytes can expand to more than the available memory, and a broker checks the compressed size only
(`max.message.bytes`). Formats: https://kafka.apache.org/documentation/#recordbatch (attributes); LZ4 frames with independent
blocks (KIP-57: Kafka's Java client cannot read linked ones); the framing of snappy-java ("xerial"), which Kafka's clients write.
"""

import gzip
import struct
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
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 1
"""Batches of events get as small as on level 3, in less time."""
_LZ4_LEVEL = 0
"""The fast compressor; levels from 3 take ten times as long."""
_LZ4_RATIO_MAX = 255
"""A byte of an LZ4 block extends a match by at most 255 bytes (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md)."""
_XERIAL_START = _XERIAL + struct.pack(">ii", 1, 1)  # version, and the lowest version that reads it
_XERIAL_BLOCK_BYTES = 32 * 1024
_XERIAL_SIZE = struct.Struct(">i")


class TooLargeDecompressed(ValueError):
    """The records of a batch are larger than DECOMPRESSED_BYTES_MAX."""


def decompress(codec: int, data: bytes) -> bytes:
    """Decompress the records of a batch. `codec`: the compression in its attributes (1 gzip, 2 snappy, 3 lz4, 4 zstd).

    Raises TooLargeDecompressed; for invalid data, the exception of the library."""
    return _DECODERS[codec](data)


def compress(codec: int, data: bytes) -> bytes:
    """Compress the records of a batch. `codec` as for `decompress`. The same data gives the same result, which may be larger."""
    return _ENCODERS[codec](data)


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


def _lz4(data: bytes) -> bytes:
    if _LZ4_RATIO_MAX * len(data) <= DECOMPRESSED_BYTES_MAX:  # within the limit in any case: no buffer to fill with zeros
        return bytes(cramjam.lz4.decompress(data))
    return _bounded(cramjam.lz4.decompress_into, data)


def _zstd(data: bytes) -> bytes:
    return _bounded(cramjam.zstd.decompress_into, data)


def _bounded(decompress_into: Callable[[bytes, bytearray], int], data: bytes) -> bytes:
    room = max(1 << 14, 32 * len(data))  # batches of events compress to a thirtieth
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


def _to_xerial(data: bytes) -> bytes:
    parts = [_XERIAL_START]
    for at in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + _XERIAL_BLOCK_BYTES]))
        parts += (_XERIAL_SIZE.pack(len(block)), block)
    return b"".join(parts)


def _to_lz4(data: bytes) -> bytes:
    compressor = cramjam.lz4.Compressor(level=_LZ4_LEVEL, content_checksum=False, block_linked=False)
    compressor.compress(data)
    return bytes(compressor.finish())


_DECODERS: dict[int, Callable[[bytes], bytes]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
_ENCODERS: dict[int, Callable[[bytes], bytes]] = {
    1: lambda data: gzip.compress(data, _GZIP_LEVEL, mtime=0),
    2: _to_xerial,
    3: _to_lz4,
    4: lambda data: bytes(cramjam.zstd.compress(data, _ZSTD_LEVEL)),
}
