"""Encodes records as a record batch (format v2, https://kafka.apache.org/documentation/#recordbatch).

Lengths of up to 4,095 bytes and short names of headers are encoded once per process.
"""

from collections.abc import Iterable, Sequence

from crc32c import crc32c

from ..decompression import compress
from ..protocol import batch_layout as layout
from .records import EncodedHeaders, Record
from .varints import VARINTS

COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
COMPRESSED_BYTES_MIN = 1024
"""Records of fewer bytes (keys, values and headers) are not compressed."""
_NAMES_MAX, _NAME_BYTES_MAX = 1_000, 64
_NULL = VARINTS[-1]
_NO_HEADERS = VARINTS[0]
_names: dict[str, bytes] = {}


EncodedRecords = tuple[bytes, int, int, int]
"""Records as they are in a batch; their number, and their first and largest timestamp in milliseconds."""


def encode_records(records: Iterable[Record]) -> EncodedRecords:
    """Encode at least one record; their offsets begin at 0. Raises ValueError without a record, or if the name of a header is not
    Unicode; TypeError or AttributeError for values of a wrong type."""
    varints, join = VARINTS, b"".join
    parts: list[bytes] = []
    count = first_ms = largest_ms = 0
    for record in records:
        key, value, headers, timestamp_ms = record.key, record.value, record.headers, record.timestamp_ms
        if not count:
            first_ms = largest_ms = timestamp_ms
        elif timestamp_ms > largest_ms:
            largest_ms = timestamp_ms
        encoded = join(
            (
                b"\0",  # attributes
                varints[timestamp_ms - first_ms],
                varints[count],
                _NULL if key is None else varints[len(key)],
                b"" if key is None else key,
                _NULL if value is None else varints[len(value)],
                b"" if value is None else value,
                headers.data if type(headers) is EncodedHeaders else encode_headers(headers) if headers else _NO_HEADERS,
            )
        )
        parts += (varints[len(encoded)], encoded)
        count += 1
    if not count:
        raise ValueError("a batch needs at least one record")
    return join(parts), count, first_ms, largest_ms


def encode_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Headers as in `EncodedHeaders.data`. Raises UnicodeEncodeError, TypeError if a value is not bytes."""
    parts = [b""]
    for name, value in headers:
        parts.append(encode_header(name, value))
    parts[0] = VARINTS[len(parts) - 1]
    return b"".join(parts)


class HeaderTemplate:
    """Headers of similar records: `constant` ones, which are encoded once, then one of `name`, whose values differ."""

    __slots__ = ("_count", "_data")

    def __init__(self, constant: Sequence[tuple[str, bytes]], name: str) -> None:
        """Raises UnicodeEncodeError."""
        self._count = len(constant) + 1
        self._data = b"".join([encode_header(*header) for header in constant]) + encode_name(name)

    def fill(self, value: bytes, *further: tuple[str, bytes]) -> EncodedHeaders:
        """The headers of a record with this value, and `further` ones after it. Raises as `encode_header` does."""
        data = self._data + VARINTS[len(value)] + value
        for header in further:
            data += encode_header(*header)
        return EncodedHeaders(VARINTS[self._count + len(further)] + data)


def encode_header(name: str, value: bytes | None) -> bytes:
    """A header: its name and its value with their lengths. Raises UnicodeEncodeError, TypeError."""
    encoded = _names.get(name) or encode_name(name)
    return encoded + _NULL if value is None else b"".join((encoded, VARINTS[len(value)], value))


def encode_name(name: str) -> bytes:
    """The name of a header with its length. Raises UnicodeEncodeError."""
    text = name.encode()
    encoded = VARINTS[len(text)] + text
    if len(text) <= _NAME_BYTES_MAX and len(_names) < _NAMES_MAX:
        _names[name] = encoded
    return encoded


def encode_batch(
    records: EncodedRecords, producer_id: int, producer_epoch: int, base_sequence: int, *, transactional: bool, compression: str
) -> bytes:
    """A batch with base offset 0. It stays uncompressed with fewer than COMPRESSED_BYTES_MIN, or if it would not become
    smaller; `compression` is a key of COMPRESSIONS."""
    data, count, first_ms, largest_ms = records
    attributes = layout.TRANSACTIONAL if transactional else 0
    if len(data) >= COMPRESSED_BYTES_MIN and (codec := COMPRESSIONS[compression]):
        compressed = compress(codec, data)
        if len(compressed) < len(data):
            data, attributes = compressed, attributes | codec
    checked = layout.CHECKED.pack(attributes, count - 1, first_ms, largest_ms, producer_id, producer_epoch, base_sequence, count)
    length = layout.UNCHECKED_IN_LENGTH + len(checked) + len(data)
    return b"".join((layout.UNCHECKED.pack(0, length, -1, layout.MAGIC, crc32c(data, crc32c(checked))), checked, data))
