"""Compaction: the plan, the retained records (compared with a model), and what consumers see, across restarts and crashes."""

import asyncio
import random
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.broker import BrokerServer, BrokerSettings
from hub.broker.batches import check_batch, is_intact, marker_batch, placed, read_header, sealed
from hub.broker.compaction import (
    HASH_BYTES,
    KEY_OVERHEAD_BYTES,
    CleaningFilter,
    Rules,
    Spans,
    add_span,
    map_keys,
    plan_cleaning,
)
from hub.broker.errors import MalformedBatch
from hub.broker.files import FileStorage
from hub.broker.log import AbortedTransaction, LogKey, PartitionLog, SegmentView
from hub.broker.records import all_keyed, first_record_from
from hub.broker.segment import LogTail
from hub.broker.segments import SegmentStore
from hub.broker.topic_settings import typed
from hub.protocol import ErrorCode
from hub.protocol.batch_layout import whole_batches

from .client import STARTED_MS, until
from .test_restart import crash

NOW = 1_000_000
SIZES: dict[str, Any] = {"journal_file_bytes": 50_000, "checkpoint_bytes": 20_000}
SMALL = {"cleanup.policy": "compact", "segment.bytes": "5000", "min.cleanable.dirty.ratio": "0.01"}
Pair = tuple[bytes | None, bytes | None]
Values = dict[bytes | None, bytes | None]


def keyed(
    pairs: Sequence[Pair],
    base: int = 0,
    *,
    producer_id: int = -1,
    sequence: int = -1,
    codec: int = 0,
    transactional: bool = False,
) -> bytes:
    """A batch of (key, value), placed at an offset."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=int(transactional),
        producer_id=producer_id,
        producer_epoch=0 if producer_id >= 0 else -1,
        base_sequence=sequence,
        batch_size=1 << 30,
    )
    for index, (key, value) in enumerate(pairs):
        assert builder.append(index, STARTED_MS + index, key, value, [("h", b"x")]) is not None
    return placed(bytes(builder.build()), base)


def contents(batches: Sequence[bytes]) -> dict[int, Pair]:
    """(key, value) by offset; every batch must be sound."""
    found: dict[int, Pair] = {}
    for raw in batches:
        header = read_header(raw)
        assert is_intact(raw, header)
        assert header.length + 12 == len(raw)
        if not header.control:
            for record in DefaultRecordBatch(raw):
                assert header.base_offset <= record.offset <= header.last_offset
                assert record.timestamp == STARTED_MS + record.offset - header.base_offset
                assert record.headers == [("h", b"x")]
                found[record.offset] = (record.key, record.value)
    return found


# --- the plan


def view(base: int, *, size: int = 100, created_ms: int = NOW, newest_ms: int = NOW, closed: bool = True) -> SegmentView:
    """A segment of ten offsets."""
    return SegmentView(base, base + 10, size, newest_ms, created_ms, closed)


def planned(segments: list[SegmentView], spans: Spans | None = None, *, limit: int = 1000, **configs: str) -> Any:
    values = {"cleanup_policy": "compact", **configs}
    chosen = typed({key.replace("_", "."): value for key, value in values.items()})
    return plan_cleaning(segments, spans or [], chosen, start=0, limit=limit, now_ms=NOW)


def test_only_closed_segments_before_the_last_stable_offset_are_cleaned() -> None:
    segments = [view(0), view(10), view(20, closed=False)]
    assert planned(segments)[:2] == (0, 20)
    assert planned(segments, limit=19)[:2] == (0, 10)
    assert planned(segments, limit=9) is None
    assert planned(segments, cleanup_policy="delete") is None


def test_a_log_is_cleaned_when_enough_of_it_was_never_cleaned() -> None:
    segments = [view(0), view(10), view(20)]
    assert planned(segments, [(20, 1)]) is None
    assert planned(segments, [(20, 1)], min_cleanable_dirty_ratio="0.3")[:2] == (20, 30)
    assert planned(segments[:2], [(10, 1)], min_cleanable_dirty_ratio="0.5")[:2] == (10, 20), "half of it is enough"
    assert planned(segments, [(10, 1)])[:2] == (10, 30)
    assert planned(segments, [(30, 1)], min_cleanable_dirty_ratio="0") is None


def test_lags_of_compaction() -> None:
    segments = [view(0, newest_ms=NOW - 500), view(10, newest_ms=NOW - 10)]
    assert planned(segments, min_compaction_lag_ms="100")[:2] == (0, 10)
    assert planned(segments, min_compaction_lag_ms="600") is None
    old = [view(0), view(10, created_ms=NOW - 900), view(20, created_ms=NOW - 800, closed=False)]
    assert planned(old, [(10, 1)], max_compaction_lag_ms="901", min_cleanable_dirty_ratio="0.9") is None
    assert planned(old, [(10, 1)], max_compaction_lag_ms="900", min_cleanable_dirty_ratio="0.9")[:2] == (10, 20)
    assert planned(old, [(10, 1)], max_compaction_lag_ms="800", min_cleanable_dirty_ratio="0.9")[:2] == (10, 30)


def test_a_time_of_cleaning_whose_tombstones_may_go_is_not_replaced_by_a_later_one() -> None:
    retention_ms, cleaned_ms = 32_000, 64_000
    spans = [(10, cleaned_ms), (20, cleaned_ms + 1)]
    assert add_span(spans, 30, cleaned_ms + retention_ms - 1, retention_ms)[0] == (20, cleaned_ms + 1)
    assert add_span(spans, 30, cleaned_ms + retention_ms, retention_ms)[0] == (10, cleaned_ms)


@pytest.mark.parametrize(
    ("offset", "now_ms", "may"), [(9, 199, False), (9, 200, True), (10, 300, False), (19, 301, True), (20, 999, False)]
)
def test_a_tombstone_may_go_after_its_retention_since_the_cleaning_that_kept_it(offset: int, now_ms: int, may: bool) -> None:
    rules = Rules(0, 30, (), [(10, 100), (20, 201)], 100, now_ms)
    assert rules.may_forget(offset) is may


def test_the_map_of_keys_ends_where_its_memory_is_full() -> None:
    batches = [keyed([(b"k%d" % number, b"v")], number) for number in range(10)]
    room = 2 + KEY_OVERHEAD_BYTES + HASH_BYTES
    rules = Rules(0, 10, (), [], 1000, NOW)
    for keys in (1, 3, 4):
        assert map_keys(batches, rules, lambda: None, bytes_max=keys * room).end == keys


def test_a_cleaning_pauses_while_it_compares_hashes() -> None:
    pauses = []
    batches = [keyed([(b"k%d" % number, b"v")], number) for number in range(3)]
    keys = map_keys(batches, Rules(0, 3, (), [], 1000, NOW), lambda: None, bytes_max=1 << 20)
    assert keys.supersedes(array("q", [hash(b"k1")]), lambda: pauses.append(1))
    assert len(pauses) == 1
    assert not keys.supersedes(array("q", [hash(b"another")]), lambda: pauses.append(1))
    assert len(pauses) == 2


def test_times_of_cleaning_are_few_and_never_earlier_than_they_were() -> None:
    spans: Spans = []
    for number in range(1, 2000):
        spans = add_span(spans, number, number * 10, 3200)
        assert len(spans) < 40
        ends = [end for end, _ in spans]
        assert ends == sorted(set(ends))
        assert ends[-1] == number
        for offset in range(0, number, 37):
            noted = next(time_ms for end, time_ms in spans if offset < end)
            true = (offset + 1) * 10
            expired = number * 10 - 3200
            assert true <= noted <= true + 100 or noted <= expired


# --- what stays


def cleaned(
    batches: Sequence[bytes],
    *,
    dirty_from: int = 0,
    spans: Spans | None = None,
    now_ms: int = NOW,
    aborted: Any = (),
    **options: Any,
) -> tuple[list[bytes], int]:
    """(batches that stay, where the pass ended)."""
    end = read_header(batches[-1]).last_offset + 1
    rules = Rules(dirty_from, end, aborted, spans or [], options.get("delete_retention_ms", 1000), now_ms)
    keys = map_keys(batches, rules, lambda: None, bytes_max=options.get("bytes_max", 1 << 20))
    keep = CleaningFilter(keys, rules, lambda: None)
    kept = [keep.apply(raw, last=number == len(batches)) for number, raw in enumerate(batches, 1)]
    return [raw for raw in kept if raw is not None], keys.end


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_the_last_value_of_every_key_stays_at_its_offset(codec: int) -> None:
    batches = [
        keyed([(b"a", b"1"), (b"b", b"1"), (b"a", b"2")], 0, codec=codec),
        keyed([(b"c", b"1" * 5000), (b"b", b"2")], 3, codec=codec),
        keyed([(b"d", None)], 5, codec=codec),
    ]
    kept, end = cleaned(batches)
    assert contents(kept) == {2: (b"a", b"2"), 3: (b"c", b"1" * 5000), 4: (b"b", b"2"), 5: (b"d", None)}
    assert end == 6
    assert [read_header(raw)[10:13][0] for raw in kept] == [-1] * 3
    first = read_header(kept[0])
    assert (first.base_offset, first.last_offset_delta, first.record_count) == (0, 2, 1)
    assert first.max_timestamp_ms == STARTED_MS + 2
    assert kept[1:] == batches[1:]


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_what_remains_of_a_compressed_batch_is_compressed_if_that_is_smaller(codec: int) -> None:
    batch = keyed([(b"a", b"1" * 5_000), (b"b", b"1" * 5_000), (b"c", bytes(range(20)))], 0, codec=codec)
    for superseded, expected in (([b"a"], codec), ([b"a", b"b"], 0)):
        raw, *_ = cleaned([batch, keyed([(key, b"2") for key in superseded], 3)])[0]
        header = read_header(raw)
        assert (header.attributes & 7, header.record_count) == (expected, 3 - len(superseded))
        assert contents([raw])[2] == (b"c", bytes(range(20)))


def test_what_was_cleaned_before_gives_way_to_newer_values() -> None:
    batches = [keyed([(b"a", b"1"), (b"b", b"1")], 0), keyed([(b"a", b"2")], 2)]
    kept, _ = cleaned(batches, dirty_from=2, spans=[(2, 1)])
    assert contents(kept) == {1: (b"b", b"1"), 2: (b"a", b"2")}


def test_tombstones_stay_for_their_time_after_the_cleaning_that_saw_them_first() -> None:
    batches = [keyed([(b"a", None), (b"b", b"1")], 0), keyed([(b"c", b"1")], 2)]
    assert set(contents(cleaned(batches, delete_retention_ms=0)[0])) == {0, 1, 2}
    spans = [(2, NOW - 999)]
    assert set(contents(cleaned(batches, dirty_from=2, spans=spans)[0])) == {0, 1, 2}
    assert set(contents(cleaned(batches, dirty_from=2, spans=spans, now_ms=NOW + 1)[0])) == {1, 2}


def test_aborted_records_go_and_count_for_nothing() -> None:
    batches = [
        keyed([(b"a", b"good")], 0),
        keyed([(b"a", b"bad"), (b"b", b"bad")], 1, producer_id=7, sequence=0, transactional=True),
        marker_batch(3, 7, 0, commit=False, timestamp_ms=NOW),
        keyed([(b"b", b"good")], 4, producer_id=7, sequence=2, transactional=True),
        marker_batch(5, 7, 0, commit=True, timestamp_ms=NOW),
        keyed([(b"c", b"1")], 6),
    ]
    aborted = [AbortedTransaction(7, 1, 3)]
    kept, _ = cleaned(batches, aborted=aborted)
    assert contents(kept) == {0: (b"a", b"good"), 4: (b"b", b"good"), 6: (b"c", b"1")}
    assert [read_header(raw).base_offset for raw in kept] == [0, 3, 4, 5, 6]
    again, _ = cleaned([*kept, keyed([(b"b", b"new")], 7)], dirty_from=7, spans=[(7, NOW - 5000)])
    assert [read_header(raw).base_offset for raw in again] == [0, 6, 7]


def test_a_marker_stays_as_long_as_anything_of_its_transaction_does() -> None:
    batches = [
        keyed([(b"a", b"1")], 0, producer_id=7, sequence=0, transactional=True),
        marker_batch(1, 7, 0, commit=True, timestamp_ms=NOW),
        keyed([(b"b", b"1")], 2),
    ]
    kept, _ = cleaned(batches, dirty_from=2, spans=[(2, NOW - 5000)])
    assert [read_header(raw).base_offset for raw in kept] == [0, 1, 2]


def test_the_last_batch_stays_without_records_so_that_readers_get_to_the_end() -> None:
    gone = keyed([(b"a", b"x"), (b"b", b"x")], 2, producer_id=7, sequence=0, transactional=True)
    kept, _ = cleaned([keyed([(b"a", b"1"), (b"b", b"1")], 0), gone], aborted=[AbortedTransaction(7, 2, 4)])
    last = read_header(kept[-1])
    assert (last.base_offset, last.last_offset, last.record_count, last.max_timestamp_ms) == (2, 3, 0, -1)
    assert (last.producer_id, last.base_sequence) == (7, 0)
    assert set(contents(kept)) == {0, 1}
    following, _ = cleaned([*kept, keyed([(b"z", b"1")], 5)], dirty_from=4, spans=[(4, NOW)])
    assert [read_header(raw).base_offset for raw in following] == [0, 5]


def test_a_batch_whose_records_cannot_be_read_stays() -> None:
    raw = keyed([(b"a", b"1")], 0)
    header = read_header(raw)
    broken = sealed(header, b"\x0a\xff\xff\xff\xff\xff")
    kept, _ = cleaned([broken, keyed([(b"b", b"1")], 1)])
    assert kept[0] == broken


@pytest.mark.parametrize("delta", [1, 1000, -9000], ids=["next", "far", "before"])
def test_a_record_that_claims_an_offset_outside_its_batch_neither_stops_compaction_nor_touches_others(delta: int) -> None:
    """Brokers take such a batch: only whoever takes its records apart can see it."""
    base = 10_000
    good = keyed([(b"k%d" % number, b"1") for number in range(base)])
    plain = keyed([(b"evil", b"1")], base)
    zigzag = (delta << 1) ^ (delta >> 63)
    varint = bytes([zigzag & 0x7F | 0x80, zigzag >> 7 & 0x7F | 0x80, zigzag >> 14])
    body = b"\0\0" + varint + b"\x08evil\x021\0"
    hostile = sealed(read_header(plain), bytes([len(body) * 2]) + body)
    assert check_batch(hostile, 1 << 20)[0] is ErrorCode.NONE
    assert all_keyed(hostile, read_header(hostile))
    kept, end = cleaned([good, hostile, keyed([(b"evil", b"2"), (b"k7", b"2")], base + 1)], bytes_max=1 << 24)
    assert end == base + 3
    assert hostile in kept
    left = {key: value for raw in kept if raw != hostile for key, value in contents([raw]).values()}
    assert left == {**{b"k%d" % number: b"1" for number in range(base)}, b"k7": b"2", b"evil": b"2"}


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_expands_without_end_is_refused_and_stays_where_it_is_found(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = keyed([(b"a", bytes(2_000_000))], 0, codec=codec)
    assert len(bomb) < 200_000
    assert all_keyed(bomb, read_header(bomb))
    monkeypatch.setattr("hub.decompression.DECOMPRESSED_BYTES_MAX", 1_000_000)
    assert not all_keyed(bomb, read_header(bomb))
    with pytest.raises(MalformedBatch, match="TooLargeDecompressed"):
        first_record_from(bomb, 0, 0, 0)
    kept, _ = cleaned([bomb, keyed([(b"a", b"1")], 1)])
    assert kept[0] == bomb


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_log_in_any_number_of_passes_keeps_the_last_value_of_every_key(data: st.DataObject) -> None:
    """Several rounds over a growing log; with a small map each round takes several passes."""
    batches: list[bytes] = []
    model: dict[bytes, bytes | None] = {}
    offset = dirty_from = 0
    spans: Spans = []
    keys = st.sampled_from([b"a", b"b", b"c", b"d" * 40, b""])
    values = st.one_of(st.none(), st.binary(max_size=80))
    for _ in range(data.draw(st.integers(1, 3))):
        for _ in range(data.draw(st.integers(1, 6))):
            pairs = data.draw(st.lists(st.tuples(keys, values), min_size=1, max_size=70))
            batches.append(keyed(pairs, offset, codec=data.draw(st.sampled_from([0, 0, 1, 4]))))
            offset += len(pairs)
            model.update(pairs)
        bytes_max = data.draw(st.sampled_from([1, 400, 1 << 20]))
        while dirty_from < offset:
            before = dirty_from
            batches, dirty_from = cleaned(batches, dirty_from=dirty_from, spans=spans, bytes_max=bytes_max)
            assert dirty_from > before
            spans = add_span(spans, dirty_from, NOW, 1000)
        records = contents(batches)
        assert {key: value for _, (key, value) in sorted(records.items())} == model
        assert len(records) == len(model)
        assert read_header(batches[-1]).last_offset == offset - 1


# --- on files


async def started(directory: Path | None, sizes: dict[str, Any] = SIZES, **options: Any) -> BrokerServer:
    storage = FileStorage(directory, **sizes) if directory else None
    chosen = BrokerSettings(**{"retention_check_seconds": 0.05, "cleaner_share": 1.0, **options})
    server = BrokerServer(directory, storage=storage, settings=chosen)
    await server.start()
    return server


def log_of(server: BrokerServer, topic: str = "t") -> PartitionLog:
    return server.broker.state.topics[topic].logs[0]


def last_values(server: BrokerServer, topic: str = "t") -> Values:
    """The last value of every key that a committed reader finds, from the log's start to its end."""
    log = log_of(server, topic)
    offset, end = log.start, server.local.end(topic, 0)
    found: Values = {}
    while offset < end:
        data, aborted, *_ = server.local.fetch(topic, 0, offset, max_bytes=3000)
        assert data, f"nothing at {offset}, the end is {end}"
        dead = {producer_id for producer_id, _ in aborted}
        for base, begin, stop in whole_batches(data):
            header = read_header(data, begin)
            assert header.last_offset >= offset
            offset = base + header.last_offset_delta + 1
            if not header.control and not (header.transactional and header.producer_id in dead):
                found |= {record.key: record.value for record in DefaultRecordBatch(data[begin:stop])}
    return found


async def fill(server: BrokerServer, model: Values, dice: random.Random, count: int) -> None:
    """Keyed batches; some values are tombstones."""
    for _ in range(count):
        pairs = [
            (b"key-%d" % dice.randrange(60), None if dice.random() < 0.1 else b"%d" % dice.randrange(10**9) * 3)
            for _ in range(dice.randrange(1, 12))
        ]
        await server.local.append("t", 0, keyed(pairs))
        model.update(pairs)


def bytes_of_files(directory: Path) -> int:
    """Bytes of the segment files; those that are removed meanwhile do not count."""
    size = 0
    for path in list((directory / "logs").rglob("*.log")):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def is_compacted(server: BrokerServer) -> bool:
    """What is on files is little more than one value per key."""
    return log_of(server).file_bytes < 30_000


async def test_a_compacted_topic_stays_small_and_whole_over_restarts_and_crashes(tmp_path: Path) -> None:
    dice, model = random.Random(4), Values()
    directory = tmp_path / "0"
    server = await started(directory)
    await server.local.create_topic("t", 1, SMALL)
    for generation in range(1, 5):
        await fill(server, model, dice, 500)
        end = log_of(server).end
        await until(lambda: is_compacted(server), seconds=60)  # noqa: B023
        assert last_values(server) == model
        assert log_of(server).end == end
        left = crash(server, directory) if generation % 2 else directory
        await server.stop()
        if left is not directory:
            directory = left.rename(tmp_path / str(generation))
        server = await started(directory)
        assert last_values(server) == model
        assert log_of(server).end == end
        await until(lambda: is_compacted(server) and bytes_of_files(directory) < 60_000, seconds=60)  # noqa: B023
    await server.stop()


async def test_a_small_map_takes_several_passes(tmp_path: Path) -> None:
    dice, model = random.Random(5), Values()
    server = await started(tmp_path, cleaner_map_bytes=2000)
    await server.local.create_topic("t", 1, SMALL)
    await fill(server, model, dice, 600)
    await until(lambda: is_compacted(server), seconds=60)
    assert last_values(server) == model
    await server.stop()


async def test_tombstones_go_when_their_time_is_over(tmp_path: Path) -> None:
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, {**SMALL, "delete.retention.ms": "0"})
    for number in range(300):
        await server.local.append("t", 0, keyed([(b"gone-%d" % number, b"x" * 50), (b"gone-%d" % number, None)]))
    for number in range(2000):
        if log_of(server).file_bytes < 12_000 and number > 200 and b"gone-0" not in last_values(server):
            break
        await server.local.append("t", 0, keyed([(b"kept", b"x" * 200)]))
        await asyncio.sleep(0)
    found = last_values(server)
    assert b"gone-0" not in found
    assert found[b"kept"] == b"x" * 200
    await server.stop()


async def test_records_that_are_overdue_are_compacted_though_little_is_written(tmp_path: Path) -> None:
    server = await started(tmp_path, sizes={})
    await server.local.create_topic("t", 1, {"cleanup.policy": "compact", "max.compaction.lag.ms": "1"})
    for number in range(50):
        await server.local.append("t", 0, keyed([(b"k", b"%d" % number)]))
    await until(lambda: 0 < log_of(server).file_bytes < 200 and not log_of(server).memory_bytes, seconds=60)
    assert last_values(server) == {b"k": b"49"}
    assert await server.local.append("t", 0, keyed([(b"k", b"50")])) == 50
    await server.stop()


async def test_a_steady_trickle_does_not_bring_a_checkpoint_with_every_look(tmp_path: Path) -> None:
    """What a checkpoint leaves in memory is new, however long the broker has been running."""
    server = await started(tmp_path, retention_check_seconds=3600)
    await server.local.create_topic("t", 1, {"cleanup.policy": "compact", "max.compaction.lag.ms": "600000"})
    log, core = log_of(server), server.broker
    await server.local.append("t", 0, keyed([(b"k", b"1")]))
    log.memory_since_ms -= 3_600_000
    plan = core.plan_checkpoint(clean=False)
    await server.local.append("t", 0, keyed([(b"k", b"2")]))
    core.checkpointed(plan)
    assert log.memory_bytes > 0
    assert core.state.clock.now_ms() - log.memory_since_ms < 600_000
    await server.stop()


async def test_an_open_transaction_holds_compaction_back_and_an_aborted_one_leaves_nothing(tmp_path: Path) -> None:
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, SMALL)
    log, state = log_of(server), server.broker.state
    await server.local.append("t", 0, keyed([(b"a", b"good")]))
    _, producer_id, epoch = await server.local.init_producer("tx", timeout_ms=60_000)
    raw = keyed([(b"a", b"bad")], producer_id=producer_id, sequence=0, transactional=True)
    server.broker.transactions.check_produce("tx", producer_id, epoch, "t", log, implicit=True)
    state.append(log, raw, read_header(raw))
    for number in range(300):
        await server.local.append("t", 0, keyed([(b"b", b"%d" % number * 50)]))
    await until(lambda: log.file_bytes > 30_000, seconds=60)
    assert server._housekeeper is not None
    await server._housekeeper.compact()
    assert log.file_bytes > 30_000
    server.broker.transactions.end("tx", producer_id, epoch, commit=False, bump=True)
    await server.local.stable()
    for number in range(300, 400):
        await server.local.append("t", 0, keyed([(b"b", b"%d" % number * 50)]))
    await until(lambda: log.file_bytes < 30_000 and not log.aborted, seconds=60)
    assert last_values(server) == {b"a": b"good", b"b": b"399" * 50}
    await server.stop()


async def test_a_batch_sent_again_is_recognised_though_compaction_removed_it(tmp_path: Path) -> None:
    from hub.protocol import ErrorCode

    server = await started(tmp_path)
    await server.local.create_topic("t", 1, SMALL)
    log = log_of(server)
    raw = keyed([(b"k", b"first")], producer_id=77, sequence=0)
    server.broker.state.append(log, raw, read_header(raw))
    for number in range(400):
        await server.local.append("t", 0, keyed([(b"k", b"%d" % number * 30)]))
    await until(lambda: 0 < log.file_bytes < 20_000 and log.memory_start > 300, seconds=60)
    await server.stop()
    server = await started(tmp_path)
    log = log_of(server)
    assert log.check_producer(read_header(raw)) == (ErrorCode.NONE, 0)
    following = keyed([(b"k", b"second")], producer_id=77, sequence=1)
    assert log.check_producer(read_header(following)) == (ErrorCode.NONE, None)
    await server.stop()


async def test_damage_is_never_compacted_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = await started(tmp_path, retention_check_seconds=3600)
    await server.local.create_topic("t", 1, {**SMALL, "cleanup.policy": "delete"})
    for number in range(300):
        await server.local.append("t", 0, keyed([(b"k", b"%d" % number * 30)]))
    log = log_of(server)
    await until(lambda: log.file_bytes > 20_000, seconds=60)
    assert server._flusher is not None
    await server._flusher.in_background(lambda: None)
    segment = min((tmp_path / "logs").rglob("*.log"))
    raw = bytearray(segment.read_bytes())
    raw[100] ^= 1
    segment.write_bytes(raw)
    server.broker.state.record("configs", log.key.topic_number, SMALL)
    await until(lambda: "damaged at byte" in caplog.text, seconds=60)
    assert segment.read_bytes() == raw
    assert await server.local.append("t", 0, keyed([(b"k", b"goes on")])) == 300
    await server.stop()


@pytest.mark.parametrize("moment", ["written", "swapped", "noted"])
async def test_a_crash_at_any_step_of_a_cleaning_finds_one_of_both_logs(tmp_path: Path, moment: str) -> None:
    """The directory as it is when new files are written, are in the table, and are noted as cleaned, before any checkpoint."""
    dice, model = random.Random(6), Values()
    directory = tmp_path / "data"
    server = await started(directory, retention_check_seconds=3600)
    await server.local.create_topic("t", 1, {**SMALL, "min.compaction.lag.ms": "3600000"})
    await fill(server, model, dice, 300)
    store, flusher = server._storage.segments, server._flusher  # type: ignore[union-attr]
    assert store is not None
    assert flusher is not None
    copies: list[Path] = []
    names = {"written": "replace", "swapped": "replace", "noted": "set_cleaned"}
    step = getattr(store, names[moment])

    def stopped(*arguments: Any) -> Any:
        done = step(*arguments) if moment != "written" else None
        if not copies:
            import shutil

            copies.append(Path(shutil.copytree(directory, tmp_path / "crashed")))
        return step(*arguments) if moment == "written" else done

    setattr(store, names[moment], stopped)
    server.broker.state.record("configs", log_of(server).key.topic_number, SMALL)
    await until(lambda: bool(copies), seconds=60)
    await server.stop()
    (crashed,) = copies
    again = await started(crashed, retention_check_seconds=3600)
    assert last_values(again) == model
    assert again.local.end("t", 0) == server.local.end("t", 0)
    named = {segment.path for segment in again._storage.segments.segments(log_of(again).key)}  # type: ignore[union-attr]
    assert set((crashed / "logs").rglob("*.log")) == named
    await again.stop()


async def test_a_cleaning_on_a_full_disk_leaves_no_file_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = await started(tmp_path, retention_check_seconds=3600)
    await server.local.create_topic("t", 1, {**SMALL, "cleanup.policy": "delete"})
    model = Values()
    await fill(server, model, random.Random(7), 300)
    log = log_of(server)
    await until(lambda: log.file_bytes > 20_000, seconds=60)
    directory = tmp_path / "logs" / f"{log.key.topic_number}-0"
    new = directory / f"{0:020d}-1.log"
    new.symlink_to("/dev/full")  # every write fails with ENOSPC
    server.broker.state.record("configs", log.key.topic_number, SMALL)
    await until(lambda: "No space left on device" in caplog.text, seconds=60)
    assert not new.is_symlink()
    assert last_values(server) == model
    await server.stop()


def test_a_file_that_a_cleaning_began_in_a_deleted_log_does_not_keep_the_files_of_others(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, segment_bytes=1 << 20)
    store.restore([])
    for number in (1, 2):
        store.append(LogTail(LogKey(number, 0), 0, 1, [keyed([(b"k", b"v")])], [0], [1], 1 << 20, 1 << 40, 1))
    (tmp_path / "1-0" / f"{0:020d}-1.log").write_bytes(b"half of it")
    store.leave_out_before({})
    store.remove_garbage()
    assert list(tmp_path.rglob("*")) == []
    store.close()


async def test_a_topic_that_is_compacted_and_limited_loses_its_front(tmp_path: Path) -> None:
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, {**SMALL, "cleanup.policy": "compact,delete", "retention.bytes": "20000"})
    model: Values = {}
    for number in range(1000):
        await server.local.append("t", 0, keyed([(b"%d" % number, b"x" * 200)]))
        model[b"%d" % number] = b"x" * 200
    log = log_of(server)
    await until(lambda: log.file_bytes + log.memory_bytes < 20_000 + 5000 + SIZES["checkpoint_bytes"], seconds=60)
    found = last_values(server)
    assert set(found) == {b"%d" % number for number in range(log.start, 1000)}
    await server.stop()


async def test_a_broker_in_memory_compacts_too() -> None:
    dice, model = random.Random(7), Values()
    server = await started(None)
    await server.local.create_topic("t", 1, SMALL)
    await fill(server, model, dice, 600)
    await until(lambda: log_of(server).memory_bytes < 20_000, seconds=60)
    assert last_values(server) == model
    assert await server.local.append("t", 0, keyed([(b"next", b"x")])) == log_of(server).end - 1
    await server.stop()


async def test_clients_that_read_from_the_start_find_the_last_value_of_every_key(tmp_path: Path) -> None:
    """Idempotent and transactional producers, compressed batches, aborted transactions, tombstones, with aiokafka."""
    server = await started(tmp_path)
    await server.local.create_topic("t", 1, SMALL)
    model: dict[bytes, bytes | None] = {}
    dice = random.Random(8)
    plain = AIOKafkaProducer(bootstrap_servers=server.bootstrap, enable_idempotence=True, compression_type="zstd")
    transactional = AIOKafkaProducer(bootstrap_servers=server.bootstrap, transactional_id="tx", compression_type="gzip")
    await plain.start()
    await transactional.start()
    for number in range(120):
        key, value = b"k%d" % dice.randrange(20), None if number % 13 == 0 else dice.randbytes(300)
        if number % 3:
            await plain.send_and_wait("t", value, key=key)
            model[key] = value
            continue
        await transactional.begin_transaction()
        await transactional.send_and_wait("t", value, key=key)
        if number % 2:
            await transactional.abort_transaction()
        else:
            await transactional.commit_transaction()
            model[key] = value
    await plain.send_and_wait("t", b"the end", key=b"end")
    model[b"end"] = b"the end"
    await plain.stop()
    await transactional.stop()
    log = log_of(server)
    await until(lambda: 0 < log.file_bytes < 15_000, seconds=60)
    consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, isolation_level="read_committed")
    await consumer.start()
    place = TopicPartition("t", 0)
    consumer.assign([place])
    await consumer.seek_to_beginning(place)
    found: Values = {}
    count = 0
    while b"end" not in found:
        record = await asyncio.wait_for(consumer.getone(), 60)
        found[record.key] = record.value
        count += 1
    await consumer.stop()
    assert found == model
    assert count < 121
    await server.stop()
