"""Decoding of fetched batches, including records with header names that are not UTF-8."""

import asyncio
import struct
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.util import calc_crc32c
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kio.static.primitive import i16, i32

from hub.kafka import Cluster, CorruptBatch, Kip890Session, PartitionReader, Record, build_batch, read_batches
from hub.kafka.encoding import COMPRESSIONS
from hub.kafka.fetched import UNREADABLE, FetchedBatches, read_leniently
from tests.broker.client import RawClient, kio_class
from tests.conformance.session.worlds import World

PLACEHOLDER = "-placeholder-"
NAME = b"\xff\xfe\xc3(\xed\xa0\x80 plain"
SHOWN = NAME.decode(errors="replace")
NOT_LEADER = 6
NOW_MS = time.time_ns() // 1_000_000  # Apache Kafka deletes older records after some seconds

texts = st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | texts), max_size=3)
records_of_any_kind = st.lists(
    st.builds(Record, st.none() | texts, st.none() | texts, headers, st.integers(NOW_MS, NOW_MS + 10_000)),
    min_size=1,
    max_size=20,
)


def with_a_broken_name(compression: str = "none") -> bytes:
    """A batch of three records; the second has a header whose name is not UTF-8."""
    before, after = Record(b"k", b"before", [("a", b"1")], NOW_MS), Record(None, b"after", [("b", None)], NOW_MS + 5)
    broken = Record(None, b"broken", [("ce_type", b"t"), (PLACEHOLDER, None)], NOW_MS + 3)
    plain = bytearray(build_batch([before, broken, after]))
    assert len(NAME) == len(PLACEHOLDER)
    whole = bytearray(plain.replace(PLACEHOLDER.encode(), NAME))
    if compression != "none":
        whole = bytearray(compressed(bytes(whole), compression))
    struct.pack_into(">I", whole, 17, calc_crc32c(bytes(whole[21:])))
    return bytes(whole)


def compressed(batch: bytes, compression: str) -> bytes:
    """The batch with its records compressed."""
    import aiokafka.codec

    body = getattr(aiokafka.codec, f"{compression}_encode")(batch[61:])
    attributes = struct.pack(">h", COMPRESSIONS[compression])
    return batch[:8] + struct.pack(">i", 49 + len(body)) + batch[12:21] + attributes + batch[23:61] + bytes(body)


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
def test_a_header_whose_name_is_not_utf8_stops_nobody(compression: str) -> None:
    batch = with_a_broken_name(compression)
    found = read_batches(batch + build_batch([Record(None, b"next", [], NOW_MS)]))
    assert [record.value for record in found] == [b"before", b"broken", b"after", b"next"]
    assert found[1].headers == [("ce_type", b"t"), (SHOWN, None)]
    assert [record.timestamp_ms - NOW_MS for record in found] == [0, 3, 5, 0]
    assert [record.offset for record in found] == [0, 1, 2, 0]


@given(records_of_any_kind)
def test_both_readers_see_the_same(records: list[Record]) -> None:
    batch = build_batch(records)
    (compiled,) = [list(each) for each in every(batch)]
    names = ("offset", "timestamp", "timestamp_type", "key", "value", "headers")
    lenient = read_leniently(batch)
    assert [[getattr(record, name) for name in names] for record in lenient] == [
        [getattr(record, name) for name in names] for record in compiled
    ]


def every(data: bytes) -> list[Any]:
    """The batches in these bytes."""
    batches, found = FetchedBatches(data), []
    while batches.has_next():
        found.append(batches.next_batch())
    return found


@given(st.binary(max_size=60), st.integers(0, 200))
def test_records_that_cannot_be_taken_apart_are_corrupt_and_nothing_else(rubbish: bytes, at: int) -> None:
    batch = bytearray(with_a_broken_name())
    batch[61 + at % (len(batch) - 61) :] = rubbish
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    for read in (read_leniently, lambda data: [list(each) for each in every(data)]):
        with suppress(CorruptRecordException):
            read(bytes(batch))


@pytest.mark.parametrize("compression", sorted(set(COMPRESSIONS) - {"none"}))
def test_records_that_expand_beyond_the_bound_are_left_out_and_the_next_is_read(
    compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.decompression.DECOMPRESSED_BYTES_MAX", 1 << 20)
    bomb = build_batch(
        [Record(None, b"a" * 700_000, [], NOW_MS), Record(None, b"b" * 700_000, [], NOW_MS)], compression=compression
    )
    assert len(bomb) < 100_000
    fits = build_batch([Record(None, b"a" * 1_000_000, [], NOW_MS)], compression=compression)
    found = read_batches(bomb + fits)
    assert [(record.offset, record.value and len(record.value)) for record in found] == [(1, None), (0, 1_000_000)]
    assert dict(found[0].headers)[UNREADABLE]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 7])
def test_what_cannot_be_decompressed_is_one_record_that_says_so(codec: int) -> None:
    batch = bytearray(build_batch([Record(None, b"v", [], NOW_MS)] * 3))
    struct.pack_into(">h", batch, 21, codec)
    (fetched,) = every(bytes(batch))
    [record] = list(fetched)
    assert (record.offset, record.value, [name for name, _ in record.headers]) == (2, None, [UNREADABLE])


@pytest.mark.parametrize("at", [61, 62, 63, 70])
def test_records_that_a_producer_wrote_broken_are_left_out_and_the_next_batch_is_read(at: int) -> None:
    batch = bytearray(build_batch([Record(b"key", b"value", [("h", b"x")], NOW_MS)] * 3))
    batch[at] ^= 0x7F
    struct.pack_into(">I", batch, 17, crc32c(bytes(batch[21:])))
    found = read_batches(bytes(batch) + build_batch([Record(None, b"next", [], NOW_MS)]))
    assert found[-1].value == b"next"
    assert len(found) == 4 or (len(found) == 2 and UNREADABLE in dict(found[0].headers))
    batch[17] ^= 1
    with pytest.raises(CorruptBatch):
        read_batches(bytes(batch))


@pytest.fixture
async def topic(bootstrap: str) -> tuple[str, str]:
    """A broker and a new topic of one partition."""
    return bootstrap, await World(bootstrap, Kip890Session).topic()


async def test_a_consumer_reads_past_such_a_record(topic: tuple[str, str]) -> None:
    bootstrap, name = topic
    ((host, port),) = Cluster.of(bootstrap).addresses
    async with RawClient(host, port) as client:
        for batch in (with_a_broken_name(), build_batch([Record(None, b"next", [], NOW_MS)])):
            await produce(client, name, batch)
    async with PartitionReader(Cluster.of(bootstrap)) as reader, asyncio.timeout(60):
        await reader.open(name, 0, 0)
        values: list[bytes | None] = []
        while len(values) < 4:
            values += [record.value for record in await reader.read(10, 200)]
    assert values == [b"before", b"broken", b"after", b"next"]


async def produce(client: RawClient, topic: str, batch: bytes) -> None:
    """Append one batch as it is."""
    partition = kio_class("produce", 3, "request", "PartitionProduceData")(index=i32(0), records=batch)
    data = kio_class("produce", 3, "request", "TopicProduceData")(name=topic, partition_data=(partition,))
    request = {"transactional_id": None, "acks": i16(-1), "timeout": timedelta(seconds=5), "topic_data": (data,)}
    async with asyncio.timeout(60):
        while (error := (await client.ask("produce", 3, **request)).responses[0].partition_responses[0].error_code) != 0:
            assert error == NOT_LEADER  # a new topic takes a moment
            await asyncio.sleep(0.02)
