"""Builds and reads record batches (format v2, https://kafka.apache.org/documentation/#recordbatch). They are encoded by
`encoding.py`, and decoded by aiokafka's compiled reader.

A batch is the unit that brokers store, check and return; they change only its base offset. The records of a batch are compressed
as a whole if they have at least COMPRESSED_BYTES_MIN: compressing a smaller batch saves few bytes, and costs each reader several
microseconds.
"""

from collections.abc import Collection, Iterable, Sequence

from ..protocol import batch_layout as layout
from .encoding import encode_batch, encode_records
from .errors import CorruptBatch
from .fetched import visible_batches
from .records import EncodedHeaders, Record, StoredRecord

BATCH_BYTES_MAX = 8 << 20
"""Largest batch that the hub's topics accept (`max.message.bytes`)."""
_RECORD_OVERHEAD = 24


def build_batch(
    records: Iterable[Record],
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    compression: str = "none",
) -> bytes:
    """Encode at least one record as one v2 batch with base offset 0. The size is not limited here, see `size_of`.

    `compression` is a key of `COMPRESSIONS`; a batch that would not become smaller, or has fewer than COMPRESSED_BYTES_MIN,
    stays uncompressed."""
    body = encode_records(records)
    return encode_batch(body, producer_id, producer_epoch, base_sequence, transactional=transactional, compression=compression)


def size_of(record: Record) -> int:
    """Upper bound of the size of a record in an uncompressed batch, in bytes."""
    headers = record.headers
    size = _RECORD_OVERHEAD + len(record.key or b"") + len(record.value or b"")
    if type(headers) is EncodedHeaders:
        return size + len(headers.data)
    for name, value in headers:
        size += 8 + 4 * len(name) + len(value or b"")
    return size


def split(records: Sequence[Record], bytes_max: int) -> list[Sequence[Record]]:
    """Split records, in order, into groups of at most `bytes_max` (by `size_of`). A larger record forms a group alone."""
    runs: list[Sequence[Record]] = []
    start = size = 0
    for index, record in enumerate(records):
        added = size_of(record)
        if size + added > bytes_max and index > start:
            runs.append(records[start:index])
            start, size = index, 0
        size += added
    if len(records) > start:
        runs.append(records[start:])
    return runs


def build_batches(
    records: Sequence[Record],
    bytes_max: int,
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    compression: str = "none",
) -> list[bytes]:
    """Batches of about `bytes_max` at most before they are compressed. A larger record forms a batch alone. With a producer id
    they are transactional, with sequence numbers from 0."""
    transactional = producer_id >= 0
    sequence = 0 if transactional else -1
    whole = encode_records(records)
    fits = len(whole[0]) + layout.HEADER_BYTES <= bytes_max or len(records) == 1
    batches = []
    for part in [whole] if fits else map(encode_records, split(records, bytes_max)):
        batches.append(
            encode_batch(part, producer_id, producer_epoch, sequence, transactional=transactional, compression=compression)
        )
        sequence += part[1] if transactional else 0
    return batches


def read_batches(data: bytes | memoryview, *, aborted: Collection[tuple[int, int]] = ()) -> list[StoredRecord]:
    """Decode the complete batches in `data`, without control records and records of aborted transactions.

    `aborted` lists (producer id, first offset), as in a fetch response for read_committed. An incomplete last batch is
    ignored. The first batch may begin before the requested offset; the caller must skip those records. A batch with a correct
    checksum but undecodable records becomes one record without a value (see `fetched.py`). Raises `CorruptBatch` for a wrong
    checksum or structure, or another format."""
    records: list[StoredRecord] = []
    try:
        for batch, _, is_visible in visible_batches(bytes(data), aborted):
            if is_visible:
                records.extend([StoredRecord(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch.decode()])
    except Exception as broken:  # any, because these are bytes of others
        raise CorruptBatch(f"invalid record batch: {broken}") from broken
    return records


def end_of_batches(data: bytes) -> int:
    """The offset after the last complete batch in `data`, control batches included; 0 if there is none."""
    after = 0
    for base_offset, start, _ in layout.whole_batches(data):
        after = base_offset + layout.last_offset_delta(data, start) + 1
    return after
