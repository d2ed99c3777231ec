"""Segment files: reading over gaps in offsets, and tables that earlier releases wrote."""

import random
import struct
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from hub.broker.batches import placed, read_header
from hub.broker.cleaning import read_batches
from hub.broker.errors import StorageDamaged
from hub.broker.log import LogKey
from hub.broker.segment import LogEntry, LogTail, SegmentEntry
from hub.broker.segments import SegmentStore
from hub.protocol.batch_layout import BASE_OFFSET, HEADER_BYTES, whole_batches

from .client import batch

KEY = LogKey(1, 0)


def tail_of(batches: list[bytes], end: int, *, segment_bytes: int) -> LogTail:
    headers = [read_header(raw) for raw in batches]
    bases, newest = [header.base_offset for header in headers], [header.max_timestamp_ms for header in headers]
    return LogTail(KEY, bases[0], end, batches, bases, newest, segment_bytes, 1 << 60, 0)


@pytest.mark.parametrize("seed", range(8))
def test_every_offset_leads_to_the_batch_that_holds_it_or_the_next_one(tmp_path: Path, seed: int) -> None:
    """Small and large batches, gaps between them and at the ends of segments; read in small and large steps."""
    dice = random.Random(seed)
    batches, offset = [], 0
    for _ in range(120):
        offset += dice.choice([0, 0, 0, 1, 7, 40])
        values = [bytes(dice.choice([10, 300, 90_000 if dice.random() < 0.1 else 500]))] * dice.randrange(1, 4)
        batches.append(placed(batch(values), offset))
        offset += len(values)
    store = SegmentStore(tmp_path, segment_bytes=1 << 31)
    cut = dice.randrange(1, len(batches))
    limit = dice.choice([3000, 40_000, 1 << 20])
    store.append(tail_of(batches[:cut], read_header(batches[cut]).base_offset, segment_bytes=limit))
    store.append(tail_of(batches[cut:], offset, segment_bytes=limit))
    places = [(read_header(raw).base_offset, read_header(raw).last_offset, raw) for raw in batches]
    for wanted in range(offset):
        found = store.read(KEY, wanted, dice.choice([1, 5000, 200_000]), offset)
        expected = next((raw for _, last, raw in places if last >= wanted))
        _, begin, stop = next(whole_batches(found))
        assert (begin, found[:stop]) == (0, expected)
        end = dice.randrange(wanted, offset + 1)
        bases = [base for base, *_ in whole_batches(store.read(KEY, wanted, 1 << 20, end))]
        assert bases == sorted(bases)
        assert all(base < end for base in bases)
        assert bool(bases) == any(last >= wanted and base < end for base, last, _ in places)
    assert store.read(KEY, offset, 1000, offset + 1) == b""
    store.close()


@pytest.mark.parametrize("length", [10, -40], ids=["shorter than a header", "negative"])
def test_a_batch_with_a_damaged_length_is_an_error_for_readers_and_for_compaction(tmp_path: Path, length: int) -> None:
    store = SegmentStore(tmp_path, segment_bytes=1 << 31)
    batches = [placed(batch([bytes(4000)]), number) for number in range(600)]
    store.append(tail_of(batches, 600, segment_bytes=1 << 30))
    (segment,) = store.segments(KEY)
    with segment.path.open("r+b") as file:
        file.seek(len(batches[0]) * 5 + BASE_OFFSET.size)
        file.write(struct.pack(">i", length))
    assert store.read(KEY, 4, 1, 600) == batches[4]
    with pytest.raises(StorageDamaged, match="is damaged at byte"):
        store.read(KEY, 5, 1, 600)
    with pytest.raises(StorageDamaged, match="is damaged at byte"):
        list(read_batches(segment, lambda: None))
    store.close()


def test_a_table_of_an_earlier_release_is_taken_over(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, segment_bytes=1 << 31)
    raw = placed(batch([b"x"]), 0)
    store.append(tail_of([raw], 1, segment_bytes=1000))
    store.close()
    before = msgspec.msgpack.encode([(1, 0, [(0, len(raw), 1, 5)])])
    again = SegmentStore(tmp_path, segment_bytes=1 << 31)
    again.restore(msgspec.msgpack.decode(before, type=list[LogEntry]))
    assert again.read(KEY, 0, 1, 1) == raw
    (view,) = again.views(KEY)
    assert (view.base, view.end, view.size, view.max_timestamp_ms) == (0, 1, len(raw), 5)
    assert view.created_ms > 0
    assert again.cleaned(KEY) == []
    assert again.table() == [LogEntry(1, 0, [SegmentEntry(0, len(raw), 1, 5, 0, view.created_ms)])]
    again.close()


def test_a_segment_that_ends_with_less_than_a_header_is_an_error_for_compaction(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, segment_bytes=1 << 31)
    store.append(tail_of([placed(batch([b"value"]), 0)], 1, segment_bytes=1 << 30))
    (segment,) = store.segments(KEY)
    with segment.path.open("ab") as file:
        file.write(bytes(HEADER_BYTES - 1))
    with pytest.raises(StorageDamaged, match=f"is damaged at byte {segment.size}"):
        list(read_batches(replace(segment, size=segment.size + HEADER_BYTES - 1), lambda: None))
    store.close()
