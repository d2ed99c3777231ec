"""Reading only the wanted records of fetched batches: the same result as decoding all of them."""

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from crc32c import crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from hub.kafka import (
    Chunk,
    ChunkReader,
    Cluster,
    CorruptBatch,
    Fetcher,
    Kip890Session,
    Record,
    RecordPicker,
    Unwalkable,
    build_batch,
    end_of_batches,
    read_headers,
)
from hub.kafka import TopicPartition as Place
from hub.kafka.encoding import COMPRESSIONS
from hub.kafka.fetch_buffer import PartitionBuffer
from hub.kafka.fetched import UNREADABLE, FetchedBatch, FetchedBatches, record_at
from hub.kafka.header_walk import HeaderWalk
from hub.protocol.fetch import FetchedPartition
from tests.conformance.session.worlds import World
from tests.kafka.test_codec import control, placed
from tests.kafka.test_fetched import NOW_MS

PLACE = Place("events", 0)
NAME = "kind"
WANTED, MALFORMED = "wanted", "malformed"


class KindRule:
    """Wants the records whose first header `kind` is w..., and those that have none."""

    header = NAME.encode()
    next_header = b"a"
    routes = {None: MALFORMED, b"x": None, b"y": None, b"w": WANTED}
    narrows = False

    def unknown(self, value: bytes) -> str | None:
        return WANTED if value.startswith(b"w") else None

    def narrow(self, route: Any, value: bytes | None, data: bytes, span: tuple[int, int]) -> Any:
        raise AssertionError("not needed")

    def route(self, headers: Any) -> str | None:
        for name, value in headers:
            if name == NAME:
                return self.routes[value] if value in self.routes else self.unknown(value)
        return MALFORMED


class ColourRule(KindRule):
    """Wants those of them whose last header `colour` is not red."""

    narrows = True

    def narrow(self, route: Any, value: bytes | None, data: bytes, span: tuple[int, int]) -> Any:
        return route if read_headers(data, span, {b"colour": "colour"}).get("colour") != b"red" else None

    def route(self, headers: Any) -> str | None:
        colours = [value for name, value in headers if name == "colour" and value is not None]
        return None if colours[-1:] == [b"red"] else super().route(headers)


class Picked(NamedTuple):
    """A record with its route."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    route: Any


def picked(record: Any, route: Any) -> Picked:
    return Picked(record.offset, record.timestamp, record.timestamp_type, record.key, record.value, tuple(record.headers), route)


kinds = st.sampled_from([b"x", b"y", b"w", b"wide", b"unknown", b"", b"\xff", b"x" * 70, None])
header = (
    st.tuples(st.just(NAME), kinds)
    | st.tuples(st.just("colour"), st.sampled_from([b"red", b"blue", None]))
    | st.tuples(
        st.sampled_from(["", "kin", "kinds", "é", "a", "n" * 63, "n" * 64, "n" * 200]),
        st.none() | st.binary(max_size=20) | st.just(b"\x08kind\x02w"),
    )
)
texts = st.none() | st.binary(max_size=90) | st.sampled_from([b"v" * 9_000, b"v" * 20_000])
records = st.builds(Record, texts, texts, st.lists(header, max_size=8), st.integers(0, 1 << 45))
batches_of_records = st.lists(records, min_size=1, max_size=20)
rules = st.sampled_from([KindRule(), ColourRule()])


def only(data: bytes) -> FetchedBatch:
    """The batch in `data`."""
    batch = FetchedBatches(data).next_batch()
    assert isinstance(batch, FetchedBatch)
    return batch


def decoded(batch: FetchedBatch, rule: KindRule) -> list[Picked]:
    """The wanted records by the general decoder."""
    found = ((record, rule.route(record.headers)) for record in batch)
    return [picked(record, route) for record, route in found if route is not None]


def walked(batch: FetchedBatch, rule: KindRule, least: int = 0) -> list[Picked]:
    """The wanted records without decoding the others."""
    view = batch.view()
    _, found = HeaderWalk(rule).find(view, least)
    return [picked(record or record_at(view, at), route) for record, route, _, at in found]


@given(batches_of_records, st.sampled_from(sorted(COMPRESSIONS)), rules, st.integers(0, 1 << 40))
def test_the_walk_and_the_decoder_want_the_same_records(
    written: list[Record], compression: str, rule: KindRule, offset: int
) -> None:
    data = placed(build_batch(written, compression=compression), offset)
    assert walked(only(data), rule) == decoded(only(data), rule)


@given(batches_of_records, rules, st.integers(0, 22))
def test_records_before_the_offset_are_left_out(written: list[Record], rule: KindRule, least: int) -> None:
    data = placed(build_batch(written), 7)
    expected = [one for one in decoded(only(data), rule) if one.offset >= 7 + least]
    assert walked(only(data), rule, 7 + least) == expected
    count, found = RecordPicker(rule).pick(only(data), 7 + least)
    assert [picked(record, route) for record, route, *_ in found] == expected
    assert count == max(0, len(written) - least)


def varint(number: int, padding: int = 0) -> bytes:
    """A zigzag varint with this many superfluous bytes."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 127 or padding:
        padding -= number <= 127
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def sized(content: bytes | None, padding: int) -> bytes:
    return varint(-1, padding) if content is None else varint(len(content), padding) + content


def padded_batch(written: Sequence[Record], padding: int, deltas: Sequence[int] = range(100)) -> bytes:
    """A batch whose varints are longer than necessary. `deltas`: the offsets of the records."""
    body = b""
    for delta, record in zip(deltas, written, strict=False):
        fields = b"\0" + varint(0, padding) + varint(delta, padding) + sized(record.key, padding) + sized(record.value, padding)
        fields += varint(len(list(record.headers)), padding)
        for name, value in record.headers:
            fields += sized(name.encode(), padding) + sized(value, padding)
        body += varint(len(fields), padding) + fields
    return with_body(build_batch(written), body)


def with_body(batch: bytes, body: bytes) -> bytes:
    """The batch with other records, and a valid checksum."""
    whole = bytearray(batch[:61] + body)
    struct.pack_into(">i", whole, 8, len(whole) - 12)
    struct.pack_into(">I", whole, 17, crc32c(bytes(whole[21:])))
    return bytes(whole)


@given(batches_of_records, st.integers(0, 2), rules)
def test_numbers_may_be_longer_than_necessary(written: list[Record], padding: int, rule: KindRule) -> None:
    data = padded_batch(written, padding)
    assert walked(only(data), rule) == decoded(only(data), rule)


def test_a_null_value_whose_length_is_longer_than_necessary_remains_null() -> None:
    data = padded_batch([Record(b"k", None, [(NAME, b"w"), ("a", b"1"), ("b", b"2")], 0)], 0)
    body = data[61:]
    padded = body.replace(varint(1) + b"k" + varint(-1), varint(1) + b"k" + varint(-1, 1))
    longer = with_body(data, varint((body[0] >> 1) + 1) + padded[1:])
    [(record, _, _, _)] = HeaderWalk(KindRule()).find(only(longer).view(), 0)[1]
    assert record is not None, "made without the decoder"
    assert record.value is None
    assert walked(only(longer), KindRule()) == decoded(only(longer), KindRule())


def test_offsets_that_do_not_increase_are_read_once() -> None:
    unwanted = [Record(None, b"v", [(NAME, b"x")], 0)] * 20
    data = padded_batch([*unwanted, *[Record(None, b"%d" % n, [(NAME, b"w")], 0) for n in range(2)]], 0, [*range(20), 19, 25])
    plain = RecordPicker(KindRule())
    plain._dense = 1
    for picker in (RecordPicker(KindRule()), plain):
        count, found = picker.pick(only(data), 0)
        assert (count, [(ordinal, record.offset) for record, _, ordinal, _ in found]) == (21, [(21, 25)])


def test_a_batch_that_counts_fewer_records_than_it_has_is_for_the_decoder() -> None:
    data = bytearray(build_batch([Record(None, b"v", [(NAME, b"x")], 0)] * 3))
    struct.pack_into(">i", data, 57, 2)
    view = only(with_body(bytes(data), bytes(data[61:]))).view()
    with pytest.raises(Unwalkable, match="end of their batch"):
        HeaderWalk(KindRule()).find(view, 0)


spoilings = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4)


@given(batches_of_records, spoilings, st.integers(0, 40), rules)
@example([Record(b"k", b"v", [(NAME, b"x")], 0)], [(0, 1)], 0, KindRule())
def test_of_records_that_are_written_broken_the_picker_returns_those_of_the_decoder_or_sound_ones(
    written: list[Record], spoiled: list[tuple[int, int]], cut: int, rule: KindRule
) -> None:
    whole = build_batch(written)
    body = bytearray(whole[61 : len(whole) - min(cut, len(whole) - 62)])
    for at, byte in spoiled:
        body[at % len(body)] = byte
    data = with_body(whole, bytes(body))
    expected = decoded(only(data), rule)
    count, found = RecordPicker(rule).pick(only(data), 0)
    assert len(found) <= count or [record.headers[0][0] for record, *_ in found] == [UNREADABLE]
    if not any(name == UNREADABLE for one in expected for name, _ in one.headers):
        assert [picked(record, route) for record, route, *_ in found] == expected


@pytest.mark.parametrize("at", range(26))
def test_the_walk_never_reads_beyond_the_records_of_its_batch(at: int) -> None:
    batch = build_batch([Record(b"k", b"v", [("a", b"1"), (NAME, b"x")], 0)])
    view = only(with_body(batch, batch[61 : len(batch) - at] if at else batch[61:])).view()
    following = view._replace(data=view.data + build_batch([Record(None, b"v" * 300, [(NAME, b"w")], 0)]))
    if at:
        with pytest.raises(Unwalkable):
            HeaderWalk(KindRule()).find(following, 0)
    else:
        assert HeaderWalk(KindRule()).find(following, 0) == (1, [])


def test_a_record_that_claims_too_many_headers_costs_nothing() -> None:
    body = b"\0" + varint(0) + varint(0) + varint(-1) + varint(-1) + varint(1 << 40)
    view = only(with_body(build_batch([Record(None, None, (), 0)]), varint(len(body)) + body)).view()
    with pytest.raises(Unwalkable, match="number of headers"):
        HeaderWalk(KindRule()).find(view, 0)


# A fetched partition

rare = st.sampled_from([b"x"] * 15 + [b"w"]).map(lambda kind: Record(None, b"v", [("a", None), (NAME, kind)], 5))
sparse_batches = st.lists(rare, min_size=8, max_size=30)
transaction = st.tuples(
    batches_of_records | sparse_batches, st.sampled_from([None, 7, 8]), st.sampled_from(["none", "lz4"]), st.booleans()
)
logs = st.lists(transaction, max_size=4)


def stored(log: Sequence[tuple[list[Record], int | None, str, bool]]) -> tuple[bytes, list[tuple[int, int, int]], int]:
    """The log as a fetch answer: its bytes, the aborted transactions (producer, first offset, offset of the marker), its
    end. Each batch of a producer is one transaction."""
    data, aborted, offset = b"", [], 3
    for written, producer, compression, commits in log:
        about: dict[str, Any] = {} if producer is None else {"producer_id": producer, "producer_epoch": 0, "transactional": True}
        data += placed(build_batch(written, compression=compression, **about), offset)
        if producer is not None:
            data += control(producer, offset + len(written), commits)
            if not commits:
                aborted.append((producer, offset, offset + len(written)))
        offset += len(written) + (producer is not None)
    return data, aborted, offset


def answer(data: bytes, aborted: list[tuple[int, int, int]], offset: int) -> tuple[bytes, list[tuple[int, int]]]:
    """What a broker returns: it begins with the batch that has the offset."""
    while data and end_of_batches(data[: length_of(data)]) <= offset:
        data = data[length_of(data) :]
    return data, [(producer, first) for producer, first, marker in aborted if marker >= offset]


def in_buffer(data: bytes, aborted: list[tuple[int, int, int]], offset: int) -> PartitionBuffer:
    """A partition with this fetch answer."""
    data, overlapping = answer(data, aborted, offset)
    buffer = PartitionBuffer(PLACE, offset, 1 << 20)
    buffer.add(FetchedPartition(0, 1 << 40, 1 << 40, 0, overlapping, data), 0, 0.0, bytes_max=1 << 20)
    return buffer


def length_of(data: bytes) -> int:
    """The length of the first batch."""
    return 12 + int(struct.unpack_from(">i", data, 8)[0])


ONE = [Record(None, b"v", [(NAME, b"w")], 0)]


@given(logs, st.integers(0, 60), st.integers(1, 40), rules)
@example([(ONE, 7, "none", False), (ONE, 8, "none", False), (ONE, 7, "none", True)], 0, 1, KindRule())
def test_chunks_have_the_wanted_records_of_committed_transactions(
    log: list[tuple[list[Record], int | None, str, bool]], skipped: int, limit: int, rule: KindRule
) -> None:
    data, aborted, end = stored(log)
    left, overlapping = answer(data, aborted, 3 + skipped)
    plain = PartitionRecords(PLACE, FetchedBatches(left), overlapping, 3 + skipped, None, None, True, READ_COMMITTED)
    expected = [(one.offset, rule.route(one.headers)) for one in plain]
    wanted = [one for one in expected if one[1] is not None]
    buffer = in_buffer(data, aborted, 3 + skipped)
    reader = ChunkReader(buffer.take, rule)
    chunks: list[Chunk] = []
    while read := reader.read(limit):
        assert sum(len(chunk.wanted) for chunk in read) <= limit
        assert (reader.held is None) == (read[-1].next_offset == buffer.position)
        chunks += read
    assert found_in(chunks) == wanted
    assert sum(chunk.size for chunk in chunks) == len(expected)
    assert buffer.position == max(end, 3 + skipped)
    if chunks:  # a reader that begins in the middle gets the rest
        middle = chunks[len(chunks) // 2].next_offset
        rest = ChunkReader(in_buffer(data, aborted, middle).take, rule).read(1_000)
        assert found_in(rest) == [(offset, route) for offset, route in wanted if offset >= middle]


def found_in(chunks: Sequence[Chunk]) -> list[tuple[int, Any]]:
    return [(record.offset, route) for chunk in chunks for record, route, *_ in chunk.wanted]


def test_a_read_ends_when_many_records_were_passed_over() -> None:
    unwanted = build_batch([Record(None, b"v", [(NAME, b"x")], 0)] * 900)
    reader = ChunkReader(in_buffer(b"".join(placed(unwanted, 900 * n) for n in range(4)), [], 0).take, KindRule())
    assert [[chunk.size for chunk in reader.read(10)] for _ in range(3)] == [[900, 900, 900], [900], []]


def test_records_before_a_batch_with_a_wrong_checksum_are_returned_first() -> None:
    sound = build_batch([Record(None, b"1", [(NAME, b"w")], 0), Record(None, b"2", [(NAME, b"x")], 0)])
    broken = bytearray(placed(build_batch([Record(None, b"3", [(NAME, b"w")], 0)]), 2))
    broken[17] ^= 1
    reader = ChunkReader(in_buffer(sound + bytes(broken), [], 0).take, KindRule())
    (chunk,) = reader.read(10)
    assert (chunk.size, chunk.next_offset, [record.value for record, *_ in chunk.wanted]) == (2, 2, [b"1"])
    with pytest.raises(CorruptBatch):
        reader.read(10)


def test_a_batch_that_cannot_be_decompressed_is_one_record() -> None:
    batch = bytearray(build_batch([Record(None, b"v", [(NAME, b"x")], 0)] * 3))
    struct.pack_into(">h", batch, 21, 4)
    data = with_body(bytes(batch), bytes(batch[61:]))
    (chunk,) = ChunkReader(in_buffer(data, [], 0).take, KindRule()).read(10)
    [(record, route, *_)] = chunk.wanted
    assert (record.offset, route, record.headers[0][0], chunk.next_offset) == (2, MALFORMED, UNREADABLE, 3)


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """A new topic of one partition."""
    return await World(bootstrap, Kip890Session).topic()


async def test_chunks_are_read_from_a_topic(bootstrap: str, topic: str) -> None:
    cluster = Cluster.of(bootstrap)
    async with open_session(cluster) as session:
        for first in range(0, 300, 100):
            await session.commit({Place(topic, 0): [some_record(number) for number in range(first, first + 100)]})
    fetcher = Fetcher(cluster)
    reader = ChunkReader(fetcher.take, KindRule())
    chunks: list[Chunk] = []
    try:
        await fetcher.open({Place(topic, 0): 0})
        while not chunks or chunks[-1].next_offset < 302:
            while read := reader.read(2):
                assert sum(len(chunk.wanted) for chunk in read) <= 2
                chunks += read
            await fetcher.wait(1)
    finally:
        await fetcher.close()
    assert sum(chunk.size for chunk in chunks) == 300
    assert [int(record.value) for chunk in chunks for record, *_ in chunk.wanted] == list(range(0, 300, 50))


def some_record(number: int) -> Record:
    """Every fiftieth is wanted."""
    return Record(b"key", b"%d" % number, [("a", b"1"), (NAME, b"x" if number % 50 else b"w")], NOW_MS)


@asynccontextmanager
async def open_session(cluster: Cluster) -> AsyncIterator[Kip890Session]:
    """A session that is open within the block."""
    session = Kip890Session(cluster, "picking")
    await session.open()
    try:
        yield session
    finally:
        await session.close()
