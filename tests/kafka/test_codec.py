"""Encoding and decoding of record batches."""

import struct
from contextlib import suppress
from random import Random

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kio.records.readers import read_batch
from msgspec.structs import replace

from hub.kafka import CorruptBatch, EncodedHeaders, Record, build_batch, build_batches, read_batches
from hub.kafka.codec import end_of_batches, size_of, split
from hub.kafka.encoding import COMPRESSIONS, HeaderTemplate, encode_headers
from hub.kafka.fetched import visible_batches
from hub.protocol.batch_layout import HEADER_BYTES, whole_batches

texts = st.binary(max_size=300)
headers = st.lists(st.tuples(st.text(max_size=20), texts), max_size=4)
record_values = st.builds(Record, st.none() | texts, st.none() | texts, headers, st.integers(0, 1 << 45))
record_lists = st.lists(record_values, min_size=1, max_size=30)


def placed(batch: bytes, offset: int) -> bytes:
    """The batch as a broker stores it: only the base offset changes."""
    return struct.pack(">q", offset) + batch[8:]


def control(producer_id: int, offset: int, commit: bool) -> bytes:
    """A transaction marker, made by hand: the builder makes none."""
    key, value = struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0)
    batch = bytearray(build_batch([Record(key, value, (), 1)], producer_id=producer_id, producer_epoch=0, transactional=True))
    struct.pack_into(">h", batch, 21, 0x30)
    from aiokafka.record.util import calc_crc32c

    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return placed(bytes(batch), offset)


def without_records(batch: bytes) -> bytes:
    """What compaction leaves of a batch when all its records are removed."""
    empty = bytearray(batch[:61])
    struct.pack_into(">i", empty, 8, len(empty) - 12)
    struct.pack_into(">i", empty, 57, 0)
    struct.pack_into(">I", empty, 17, crc32c(bytes(empty[21:])))
    return bytes(empty)


def test_a_control_batch_without_records_is_skipped() -> None:
    identity = {"producer_epoch": 0, "base_sequence": 0, "transactional": True}
    lost, kept = (build_batch([Record(b"k", name, (), 1)], producer_id=1, **identity) for name in (b"lost", b"kept"))  # type: ignore[arg-type]
    batches = [placed(lost, 0), without_records(control(1, 1, commit=False)), control(1, 2, commit=False), placed(kept, 3)]
    stored = b"".join(batches)
    assert [record.value for record in read_batches(stored, aborted=[(1, 0)])] == [b"kept"]
    assert [(end, visible) for _, end, visible in visible_batches(stored, [(1, 0)])] == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
    ]


@given(record_lists, st.sampled_from(sorted(COMPRESSIONS)))
def test_what_is_built_is_read(records: list[Record], compression: str) -> None:
    stored = read_batches(build_batch(records, compression=compression))
    assert [(r.key, r.value, list(r.headers), r.timestamp_ms) for r in stored] == [
        (r.key, r.value, r.headers, r.timestamp_ms) for r in records
    ]
    assert [r.offset for r in stored] == list(range(len(records)))


@given(record_lists)
def test_size_of_is_an_upper_bound(records: list[Record]) -> None:
    assert len(build_batch(records)) <= 61 + sum(map(size_of, records))


@given(record_lists, st.integers(1, 2_000))
def test_runs_keep_every_record_in_order_and_stay_within_the_limit(records: list[Record], bytes_max: int) -> None:
    runs = split(records, bytes_max)
    assert [record for run in runs for record in run] == records
    assert all(len(run) == 1 or sum(map(size_of, run)) <= bytes_max for run in runs)


fields = st.none() | texts | st.sampled_from([bytes(size) for size in (63, 64, 8_191, 8_192)])
any_headers = st.lists(st.tuples(st.text(max_size=20), fields), max_size=4) | st.just([("h", b"1")] * 70)
any_records = st.lists(st.builds(Record, fields, fields, any_headers, st.integers(0, 1 << 45)), min_size=1, max_size=80)


@given(any_records, st.integers(-1, 1 << 40), st.integers(-1, 32767), st.integers(-1, (1 << 31) - 1), st.booleans())
def test_a_batch_has_the_bytes_that_the_builder_of_aiokafka_makes(
    records: list[Record], producer_id: int, epoch: int, sequence: int, transactional: bool
) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer_id, epoch, sequence, 1 << 30)
    for offset, record in enumerate(records):
        builder.append(offset, record.timestamp_ms, record.key, record.value, record.headers)
    about = {"producer_id": producer_id, "producer_epoch": epoch, "base_sequence": sequence, "transactional": transactional}
    assert build_batch(records, **about) == bytes(builder.build())  # type: ignore[arg-type]
    encoded = [replace(record, headers=EncodedHeaders(encode_headers(record.headers))) for record in records]
    assert build_batch(encoded, **about) == build_batch(records, **about)  # type: ignore[arg-type]
    assert [list(record.headers) for record in encoded] == [list(record.headers) for record in records]


@given(headers, st.text(max_size=20), texts, headers)
def test_a_template_encodes_the_constant_headers_a_value_and_further_headers(
    constant: list[tuple[str, bytes]], name: str, value: bytes, further: list[tuple[str, bytes]]
) -> None:
    template = HeaderTemplate(constant, name)
    for _ in range(2):
        filled = template.fill(value, *further)
        assert list(filled) == [*constant, (name, value), *further]
        assert filled == EncodedHeaders(encode_headers(list(filled)))


@given(any_records)
def test_the_bound_of_a_size_holds_for_records_with_plain_and_with_encoded_headers(records: list[Record]) -> None:
    for record in records:
        encoded = replace(record, headers=EncodedHeaders(encode_headers(record.headers)))
        size = len(build_batch([record])) - HEADER_BYTES
        assert size <= size_of(encoded)
        assert size <= size_of(record)


@given(record_lists, record_lists, st.integers(-70, 60))
def test_batches_are_walked_up_to_one_that_is_incomplete_or_has_no_valid_length(
    first: list[Record], second: list[Record], length: int
) -> None:
    one, two = placed(build_batch(first), 10), placed(build_batch(second), 10 + len(first))
    both = [(10, 0, len(one)), (10 + len(first), len(one), len(one) + len(two))]
    assert list(whole_batches(one + two)) == both
    assert list(whole_batches(one + two, len(one))) == both[1:]
    assert end_of_batches(one + two) == 10 + len(first) + len(second)
    broken = two[:8] + struct.pack(">i", min(length, HEADER_BYTES - 13)) + two[12:]
    for rest in (two[:-1], two[:HEADER_BYTES], two[:5], broken):
        assert list(whole_batches(one + rest)) == both[:1]
        assert end_of_batches(one + rest) == 10 + len(first)


def codec_of(batch: bytes) -> int:
    return batch[22] & 7


@pytest.mark.parametrize("compression", sorted(set(COMPRESSIONS) - {"none"}))
def test_a_batch_is_compressed_from_a_size_on_and_if_that_makes_it_smaller(compression: str) -> None:
    small, repeated = [Record(None, b"a" * 900, (), 1)], [Record(None, b"a" * 1_100, (), 1)]
    random = [Record(None, Random(1).randbytes(2_000), (), 1)]
    assert build_batch(small, compression=compression) == build_batch(small)
    assert build_batch(random, compression=compression) == build_batch(random)
    batch = build_batch(repeated, compression=compression)
    assert codec_of(batch) == COMPRESSIONS[compression]
    assert len(batch) < 300


def test_an_independent_reader_sees_the_same_records_in_a_compressed_batch() -> None:
    records = [Record(b"k", b"v" * 2_000, [("h", b"1")], 1_700_000_000_000), Record(None, None, (), 1_700_000_000_005)]
    about = {"producer_id": 7, "producer_epoch": 3, "base_sequence": 11, "transactional": True}
    batch = build_batch(records, compression="lz4", **about)  # type: ignore[arg-type]
    read = DefaultRecordBatch(batch)
    assert read.validate_crc()
    assert (codec_of(batch), read.producer_id, read.producer_epoch, read.base_sequence) == (3, 7, 3, 11)
    assert (read.is_transactional, read.next_offset) == (True, 2)
    assert [(r.key, r.value, r.timestamp) for r in read] == [(r.key, r.value, r.timestamp_ms) for r in records]


def test_an_independent_reader_sees_the_same_batch() -> None:
    records = [Record(b"k", b"v", [("h", b"1")], 1_700_000_000_000), Record(None, None, (), 1_700_000_000_005)]
    batch = build_batch(records, producer_id=7, producer_epoch=3, base_sequence=11, transactional=True)
    read = _read_with_kio(batch)
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (7, 3, 11)
    assert [(r.key, r.value) for r in read.records] == [(b"k", b"v"), (None, None)]


def _read_with_kio(batch: bytes):  # type: ignore[no-untyped-def]
    read = read_batch(batch, 0)
    return read[0] if isinstance(read, tuple) else read


def test_sequences_go_on_over_the_batches_of_one_transaction() -> None:
    records = [Record(None, bytes(100), (), n) for n in range(50)]
    batches = build_batches(records, 1_000, producer_id=1, producer_epoch=0)
    sequences = [struct.unpack_from(">i", batch, 53)[0] for batch in batches]
    counts = [struct.unpack_from(">i", batch, 57)[0] for batch in batches]
    assert sequences == [sum(counts[:n]) for n in range(len(batches))]
    assert sum(counts) == 50
    assert max(map(len, batches)) <= 1_100


def test_batches_are_split_by_their_size_before_compression() -> None:
    records = [Record(None, bytes(1_000), (), n) for n in range(50)]
    batches = build_batches(records, 10_000, producer_id=1, producer_epoch=0, compression="lz4")
    assert {codec_of(batch) for batch in batches} == {3}
    assert len(batches) == len(build_batches(records, 10_000, producer_id=1, producer_epoch=0))
    assert [record.timestamp_ms for batch in batches for record in read_batches(batch)] == list(range(50))


def test_compressed_and_other_batches_are_read_in_order() -> None:
    def batch(offset: int, compression: str, producer: int = 1) -> bytes:
        records = [Record(None, b"%d" % offset * 1_000, (), 1)]
        return placed(
            build_batch(records, compression=compression, producer_id=producer, producer_epoch=0, transactional=True), offset
        )

    log = b"".join(
        [
            batch(0, "none"),
            batch(1, "lz4"),
            batch(2, "zstd", producer=2),
            control(1, 3, commit=True),
            batch(4, "lz4", producer=2),
            control(2, 5, commit=False),
            batch(6, "none"),
        ]
    )
    assert [r.offset for r in read_batches(log)] == [0, 1, 2, 4, 6]
    assert [r.offset for r in read_batches(log, aborted=[(2, 2)])] == [0, 1, 6]
    damaged = bytearray(log)
    damaged[len(batch(0, "none")) + 80] ^= 1
    with pytest.raises(CorruptBatch, match="offset 1 has a wrong checksum"):
        read_batches(bytes(damaged))


def test_several_batches_and_a_cut_off_last_one_are_read() -> None:
    one, two = build_batch([Record(b"a", b"1", (), 1)]), placed(build_batch([Record(b"b", b"2", (), 1)] * 2), 1)
    assert [r.offset for r in read_batches(one + two)] == [0, 1, 2]
    assert [r.offset for r in read_batches(memoryview(one + two[:-1]))] == [0]
    assert read_batches(b"") == []


def test_aborted_transactions_and_markers_are_left_out() -> None:
    def batch(producer: int, offset: int) -> bytes:
        return placed(
            build_batch([Record(b"k", b"%d" % offset, (), 1)], producer_id=producer, producer_epoch=0, transactional=True),
            offset,
        )

    log = b"".join(
        [
            batch(1, 0),
            batch(2, 1),
            control(1, 2, commit=False),
            batch(1, 3),
            control(2, 4, commit=True),
            control(1, 5, commit=True),
            batch(2, 6),
            control(2, 7, commit=False),
        ]
    )
    assert [r.offset for r in read_batches(log, aborted=[(2, 6), (1, 0)])] == [1, 3]
    assert [r.offset for r in read_batches(log)] == [0, 1, 3, 6]


@given(st.data())
def test_a_changed_bit_is_found(data: st.DataObject) -> None:
    batch = bytearray(build_batch([Record(b"key", b"value" * 20, [("h", b"x")], 5)] * 3))
    position = data.draw(st.integers(21, len(batch) - 1))
    batch[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptBatch):
        read_batches(bytes(batch))


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_taken_for_a_cut_off_batch(data: bytes) -> None:
    with suppress(CorruptBatch):
        assert read_batches(data) == []


def test_eight_mebibytes_fit_in_one_batch() -> None:
    records = [Record(None, bytes(1 << 20), (), n) for n in range(8)]
    assert [r.value for r in read_batches(build_batch(records))] == [r.value for r in records]


def test_a_batch_of_a_format_before_kafka_0_11_is_refused_by_name() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 0)
    builder.append(0, timestamp=5, key=b"k", value=b"v")
    with pytest.raises(CorruptBatch, match="a batch has format 1; only format 2 is supported"):
        read_batches(bytes(builder.build()))


def test_a_batch_has_at_least_one_record() -> None:
    with pytest.raises(ValueError, match="at least one"):
        build_batch([])
