"""Compression, and decompression with a size limit, in every format of Kafka's clients."""

import cramjam
import pytest
from aiokafka.codec import (
    gzip_decode,
    gzip_encode,
    lz4_decode,
    lz4_encode,
    snappy_decode,
    snappy_encode,
    zstd_decode,
    zstd_encode,
)
from hypothesis import given
from hypothesis import strategies as st

from hub.decompression import TooLargeDecompressed, compress, decompress

FORMATS = {
    "gzip": (1, gzip_encode),
    "snappy, framed": (2, snappy_encode),
    "snappy, plain": (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}
CLIENTS = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


@pytest.mark.parametrize("codec", CLIENTS)
@given(st.binary(min_size=1, max_size=2_000), st.integers(1, 200))
def test_other_clients_read_what_is_compressed_here(codec: int, unit: bytes, times: int) -> None:
    compressed = compress(codec, unit * times)
    assert CLIENTS[codec](compressed) == decompress(codec, compressed) == unit * times
    assert compress(codec, unit * times) == compressed


def test_lz4_frames_have_independent_blocks_as_javas_client_needs_them() -> None:
    frame = compress(3, bytes(200_000))
    assert frame[:4] == b"\x04\x22\x4d\x18"
    assert frame[4] & 0x20


@pytest.mark.parametrize("name", FORMATS)
@given(st.binary(max_size=2_000), st.integers(1, 200))
def test_what_was_compressed_is_had_back(name: str, unit: bytes, times: int) -> None:
    codec, encode = FORMATS[name]
    assert decompress(codec, encode(unit * times)) == unit * times


@pytest.mark.parametrize("name", FORMATS)
def test_the_bound_is_exact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.decompression.DECOMPRESSED_BYTES_MAX", 300_000)
    codec, encode = FORMATS[name]
    assert len(decompress(codec, encode(bytes(300_000)))) == 300_000
    with pytest.raises(TooLargeDecompressed):
        decompress(codec, encode(bytes(300_001)))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_cut_short_is_an_error(name: str) -> None:
    codec, encode = FORMATS[name]
    whole = encode(bytes(range(256)) * 100)
    for end in (len(whole) - 1, len(whole) // 2):
        with pytest.raises(Exception) as refused:  # noqa: PT011 - each library has its own
            decompress(codec, whole[:end])
        assert not isinstance(refused.value, TooLargeDecompressed)
