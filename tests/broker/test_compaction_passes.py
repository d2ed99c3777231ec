"""The two passes of a cleaning: the map of the dirty part, and segments that are kept without being read."""

from array import array
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.broker import compaction
from hub.broker.batches import marker_batch, read_header, sealed
from hub.broker.compaction import (
    HASH_BYTES,
    KEY_OVERHEAD_BYTES,
    TOMBSTONE,
    VALUE,
    CleaningFilter,
    Contents,
    KeyMap,
    Rules,
    Spans,
    add_span,
    map_keys,
    plan_cleaning,
)
from hub.broker.log import AbortedTransaction
from hub.broker.topic_settings import typed

from .test_compaction import NOW, Pair, contents, keyed, planned, view

START = 100


def never() -> None:
    """A pause that is not counted."""


def mapped(batches: Sequence[bytes], *, start: int = START, aborted: Sequence[AbortedTransaction] = ()) -> KeyMap:
    """The map of these batches, the dirty part from `start` on."""
    end = read_header(batches[-1]).last_offset + 1
    return map_keys(batches, Rules(start, end, aborted, [], 1000, NOW), never, bytes_max=1 << 20)


# --- the plan


def test_a_segment_is_cleaned_from_the_moment_its_limits_are_reached() -> None:
    segments = [view(0), view(10)]
    assert planned(segments, limit=20)[:2] == (0, 20), "the last stable offset is the end of a segment"
    aged = [view(0), view(10, created_ms=NOW - 500, closed=False)]
    assert planned(aged, segment_ms="500")[:2] == (0, 20), "it is as old as a segment gets"
    assert planned(aged, segment_ms="501")[:2] == (0, 10)
    recent = [view(0, newest_ms=NOW - 100), view(10, newest_ms=NOW - 99)]
    assert planned(recent, min_compaction_lag_ms="100")[:2] == (0, 10)
    assert planned([view(0, newest_ms=NOW + 100)])[:2] == (0, 10), "without a lag the time of records does not count"


def test_a_plan_counts_segments_and_bytes_of_the_dirty_part_alone() -> None:
    segments = [view(0, size=300), view(10), view(20), view(30, closed=False)]
    assert planned(segments, [(10, 1)], min_cleanable_dirty_ratio="0.4") == (10, 30, 2)
    assert planned(segments, [(10, 1)], min_cleanable_dirty_ratio="0.41") is None
    assert planned(segments, [(15, 1)], min_cleanable_dirty_ratio="0.4") == (15, 30, 2), "a segment cleaned in part is dirty"
    assert planned(segments) == (0, 30, 3)


def test_a_plan_begins_at_the_start_of_the_log() -> None:
    chosen = typed({"cleanup.policy": "compact"})
    segments = [view(40), view(50)]
    assert plan_cleaning(segments, [], chosen, start=40, limit=1000, now_ms=NOW) == (40, 60, 2)
    assert plan_cleaning(segments, [(20, 1)], chosen, start=40, limit=1000, now_ms=NOW) == (40, 60, 2)
    assert plan_cleaning(segments, [(50, 1)], chosen, start=40, limit=1000, now_ms=NOW) == (50, 60, 1)


# --- times of cleanings


def test_cleanings_of_one_step_are_one_span() -> None:
    retention_ms, first_ms = 3200, 64_000
    spans = add_span([], 10, first_ms, retention_ms)
    assert add_span(spans, 20, first_ms + 99, retention_ms) == [(20, first_ms + 99)]
    assert add_span(spans, 20, first_ms + 100, retention_ms) == [(10, first_ms), (20, first_ms + 100)]


def test_spans_whose_tombstones_may_go_are_one() -> None:
    spans = [(10, 1000), (20, 5000), (30, 9000)]
    assert add_span(spans, 40, 5000 + 3200, 3200) == [(20, 5000), (30, 9000), (40, 8200)]
    assert add_span(spans, 40, 5000 + 3199, 3200) == [(10, 1000), (20, 5000), (30, 9000), (40, 8199)]


def test_without_a_retention_all_spans_are_one() -> None:
    assert add_span([(10, 1000)], 20, 1001, 0) == [(20, 1001)]


# --- aborted transactions


def test_a_transaction_is_aborted_from_its_first_offset_to_its_last() -> None:
    rules = Rules(0, 100, [AbortedTransaction(7, 10, 20), AbortedTransaction(7, 40, 50)], [], 1000, NOW)

    def aborted(offset: int, producer_id: int = 7, *, transactional: bool = True) -> bool:
        raw = keyed([(b"a", b"1")], offset, producer_id=producer_id, sequence=0, transactional=transactional)
        return rules.is_aborted(read_header(raw))

    assert [offset for offset in (9, 10, 20, 21, 39, 40, 50, 51) if aborted(offset)] == [10, 20, 40, 50]
    assert not aborted(15, producer_id=8)
    assert not aborted(15, transactional=False)


# --- the map of keys


def test_the_map_says_what_stays_by_offset() -> None:
    keys = mapped([keyed([(b"a", b"1"), (b"b", b"1"), (b"a", None)], START), keyed([(b"c", b"1")], START + 5)])
    assert keys.which_stay(START, START + 5) == bytes([0, VALUE, TOMBSTONE, 0, 0, VALUE])
    assert keys.which_stay(START + 1, START + 2) == bytes([VALUE, TOMBSTONE])
    assert [offset for offset in range(START, START + 8) if keys.stays(offset)] == [101, 102, 105, 106, 107]
    assert [keys.has(key) for key in (b"a", b"b", b"c", b"d")] == [True, True, True, False]


def test_offsets_before_the_dirty_part_are_not_in_the_map() -> None:
    straddling = keyed([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")], START - 2)
    before = keyed([(b"x", b"1"), (b"y", b"1")], START - 4)
    keys = mapped([before, straddling, keyed([(b"d", b"1")], START + 1)])
    assert [keys.has(key) for key in (b"a", b"b", b"c", b"d", b"x", b"y")] == [False, False, True, True, False, False]
    assert keys.which_stay(START, START + 1) == bytes([VALUE, VALUE])


def test_a_batch_that_ends_where_the_dirty_part_begins_is_in_it() -> None:
    keys = mapped([keyed([(b"a", b"1"), (b"b", b"1")], START - 1)])
    assert (keys.has(b"a"), keys.has(b"b"), keys.end) == (False, True, START + 1)


def test_the_share_that_stays_estimates_the_size_of_a_segment() -> None:
    batches = [keyed([(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"a", b"3")], START)]
    keys = mapped(batches)
    assert keys.share(START, START + 4) == 0.5
    assert keys.share(START + 2, START + 4) == 1.0
    assert keys.share(START, START + 2) == 0.0
    assert keys.share(START, START) == 1.0
    assert keys.share(START - 1, START + 4) == 1.0, "part of it was cleaned before"
    assert keys.share(START, START + 5) == 1.0, "part of it is beyond the map"
    keep = CleaningFilter(keys, Rules(START, START + 4, (), [], 1000, NOW), never)
    assert keep.expected(START, START + 4, 1001) == 500
    assert keep.expected(START - 1, START + 4, 1001) == 1001


def test_the_map_is_full_at_its_bytes_or_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = keyed([(b"key", b"1"), (b"key", b"2")], START)
    room = 3 + KEY_OVERHEAD_BYTES + 2 * HASH_BYTES
    for bytes_max, full in ((room, True), (room + 1, False)):
        keys = KeyMap(START, bytes_max=bytes_max)
        keys.add(read_header(raw), raw[61:], never)
        assert keys.is_full is full
    for offsets_max, full in ((2, True), (3, False)):
        monkeypatch.setattr(compaction, "OFFSETS_MAX", offsets_max)
        keys = KeyMap(START, bytes_max=1 << 20)
        keys.add(read_header(raw), raw[61:], never)
        assert keys.is_full is full


def test_a_gap_takes_room_in_the_map() -> None:
    keys = KeyMap(START, bytes_max=10 * HASH_BYTES)
    keys.cover(START + 9)
    assert not keys.is_full
    keys.cover(START + 5)
    assert (keys.end, keys.is_full) == (START + 9, False)
    keys.cover(START + 10)
    assert (keys.end, keys.is_full, keys.which_stay(START, START + 9)) == (START + 10, True, bytes(10))


def test_a_batch_that_cannot_be_read_stays_whole_beside_others() -> None:
    broken = sealed(read_header(keyed([(b"a", b"1"), (b"b", b"1")], START + 1)), b"\x0a\xff\xff\xff\xff\xff")
    marker = marker_batch(START + 3, 7, 0, commit=True, timestamp_ms=NOW)
    keys = mapped([keyed([(b"k", b"1")], START), broken, marker, keyed([(b"k", b"2")], START + 4)])
    assert keys.which_stay(START, START + 4) == bytes([0, 1, 1, 0, VALUE])
    assert keys.hashes(START + 1, bytes([1, 1])) is None
    hashes = keys.hashes(START + 4, bytes([VALUE]))
    assert hashes is not None
    assert list(hashes) == [hash(b"k")]


def test_a_batch_that_cannot_be_read_at_the_border_of_the_dirty_part_stays_in_it() -> None:
    broken = sealed(read_header(keyed([(b"a", b"1"), (b"b", b"1")], START - 1)), b"\x0a\xff\xff\xff\xff\xff")
    keys = mapped([broken, keyed([(b"k", b"2")], START + 1)])
    assert keys.which_stay(START, START + 1) == bytes([1, VALUE])


def test_hashes_are_those_of_the_records_that_stay() -> None:
    keys = mapped([keyed([(b"a", b"1"), (b"b", b"1"), (b"a", b"2")], START)])
    hashes = keys.hashes(START, keys.which_stay(START, START + 2))
    assert hashes is not None
    assert list(hashes) == [hash(b"b"), hash(b"a")]
    after = keys.hashes(START + 1, keys.which_stay(START + 1, START + 2))
    assert after is not None
    assert list(after) == [hash(b"b"), hash(b"a")]


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_a_segment_is_read_if_one_of_its_keys_was_written_again(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "HASHES_AT_ONCE", at_once)
    newer = [b"k%d" % number for number in range(5)]
    keys = mapped([keyed([(key, b"1") for key in newer], START)])
    pauses: list[int] = []
    for key in newer:
        assert keys.supersedes(array("q", [hash(b"x"), hash(b"y"), hash(key)]), never)
        assert keys.supersedes(array("q", [hash(key), hash(b"y")]), never)
    assert not keys.supersedes(array("q", map(hash, (b"x", b"y", b"z"))), lambda: pauses.append(1))
    assert len(pauses) == -(-3 // at_once)
    assert not keys.supersedes(array("q"), never)


def test_a_superseded_record_of_the_dirty_part_supersedes_nothing() -> None:
    keys = mapped([keyed([(b"a", b"1"), (None, b"1")], START)])
    assert not keys.supersedes(array("q", [0]), never), "a record without a key has no hash"


def test_the_map_pauses_between_records_and_while_it_is_released() -> None:
    raw = keyed([(b"k%d" % number, b"v") for number in range(2 * compaction.RECORDS_BETWEEN_PAUSES + 1)], START)
    pauses: list[int] = []
    keys = KeyMap(START, bytes_max=1 << 20)
    keys.add(read_header(raw), raw[61:], lambda: pauses.append(1))
    assert len(pauses) == 2
    assert keys.supersedes(array("q", [hash(b"k1")]), never)
    pauses.clear()
    keys.release(lambda: pauses.append(1))
    assert len(pauses) > 1, "in steps"


def test_a_pass_ends_before_the_batch_for_which_the_map_has_no_room() -> None:
    batches = [keyed([(b"k%d" % number, b"v")], START + number) for number in range(3)]
    room = 2 + KEY_OVERHEAD_BYTES + HASH_BYTES
    keys = map_keys(batches, Rules(START, START + 10, (), [], 1000, NOW), never, bytes_max=3 * room)
    assert keys.end == START + 10, "full, but nothing is left to read"
    keys = map_keys(batches, Rules(START, START + 10, (), [], 1000, NOW), never, bytes_max=2 * room)
    assert keys.end == START + 2


def test_offsets_without_keys_fill_the_map_too() -> None:
    rules = Rules(START, START + 30, [AbortedTransaction(7, START, START + 30)], [], 1000, NOW)
    markers = [marker_batch(START + number, 7, 0, commit=True, timestamp_ms=NOW) for number in range(10)]
    assert map_keys(markers, rules, never, bytes_max=4 * HASH_BYTES).end == START + 4
    three = [(b"a", b"1")] * 3
    aborted = [
        keyed(three, START + first, producer_id=7, sequence=first, transactional=True) for first in range(0, 30, len(three))
    ]
    assert map_keys(aborted, rules, never, bytes_max=4 * HASH_BYTES).end == START + 6


def test_markers_and_aborted_records_have_no_keys() -> None:
    batches = [
        keyed([(b"a", b"1")], START, producer_id=7, sequence=0, transactional=True),
        marker_batch(START + 1, 7, 0, commit=False, timestamp_ms=NOW),
        keyed([(b"b", b"1")], START + 2, producer_id=7, sequence=1, transactional=True),
        marker_batch(START + 3, 7, 0, commit=True, timestamp_ms=NOW),
    ]
    keys = mapped(batches, aborted=[AbortedTransaction(7, START, START + 1)])
    assert (keys.has(b"a"), keys.has(b"b")) == (False, True)
    assert keys.which_stay(START, START + 3) == bytes([0, 0, VALUE, 0])


# --- what stays


def filtered(
    batches: Sequence[bytes], *, dirty_from: int, spans: Spans, aborted: Sequence[AbortedTransaction] = ()
) -> tuple[list[bytes], Contents]:
    """What a cleaning retains of these batches, and what it notes of them."""
    end = read_header(batches[-1]).last_offset + 1
    rules = Rules(dirty_from, end, aborted, spans, 1000, NOW)
    keep = CleaningFilter(map_keys(batches, rules, never, bytes_max=1 << 20), rules, never)
    kept = [keep.apply(raw, last=raw is batches[-1]) for raw in batches]
    noted = keep.take_contents()
    assert noted is not None
    return [raw for raw in kept if raw is not None], noted


def test_the_contents_of_what_stays_are_noted() -> None:
    before = keyed([(b"a", b"1"), (b"x", None), (b"b", b"1")], 10)
    dirty = keyed([(b"c", b"1"), (b"y", None), (b"b", b"2")], 13)
    _, noted = filtered([before, dirty], dirty_from=13, spans=[(13, NOW)])
    assert list(noted.hashes) == [hash(b"a"), hash(b"x"), hash(b"c"), hash(b"y"), hash(b"b")]
    assert (noted.forgettable, noted.transactions) == (14, {})
    _, noted = filtered([before, keyed([(b"c", b"1")], 13)], dirty_from=13, spans=[(13, NOW)])
    assert noted.forgettable == 11
    _, noted = filtered([keyed([(b"a", b"1")], 10)], dirty_from=10, spans=[])
    assert noted.forgettable == -1


def test_a_marker_that_its_records_need_is_not_noted_as_forgettable() -> None:
    records = keyed([(b"a", b"1")], 10, producer_id=7, sequence=0, transactional=True)
    marker = marker_batch(11, 7, 0, commit=True, timestamp_ms=NOW)
    _, noted = filtered([records], dirty_from=10, spans=[])
    assert noted.transactions == {7: True}
    _, noted = filtered([records, marker], dirty_from=10, spans=[])
    assert (noted.forgettable, noted.transactions) == (-1, {7: False})
    _, noted = filtered([marker_batch(10, 7, 0, commit=True, timestamp_ms=NOW)], dirty_from=10, spans=[])
    assert (noted.forgettable, noted.transactions) == (10, {7: False})


def test_a_marker_is_needed_by_its_own_transaction_alone() -> None:
    batches = [
        keyed([(b"a", b"1")], 0, producer_id=7, sequence=0, transactional=True),
        marker_batch(1, 7, 0, commit=True, timestamp_ms=NOW),
        marker_batch(2, 7, 0, commit=True, timestamp_ms=NOW),
        keyed([(b"b", b"1")], 3),
    ]
    kept, _ = filtered(batches, dirty_from=3, spans=[(3, NOW - 1000)])
    assert [read_header(raw).base_offset for raw in kept] == [0, 1, 3]
    kept, _ = filtered(batches, dirty_from=2, spans=[(2, NOW - 1000)])
    assert [read_header(raw).base_offset for raw in kept] == [0, 1, 2, 3], "a marker of the dirty part stays"


def test_the_first_record_of_the_dirty_part_stays_though_its_batch_began_before() -> None:
    kept, _ = filtered([keyed([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")], 9)], dirty_from=10, spans=[(10, NOW)])
    assert contents(kept) == {9: (b"a", b"1"), 10: (b"b", b"1"), 11: (b"c", b"1")}


def test_a_batch_with_gaps_loses_the_records_that_are_superseded() -> None:
    raw = keyed([(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"c", b"1")], 10)
    (gapped, _), _ = filtered([raw, keyed([(b"z", b"1")], 14)], dirty_from=10, spans=[])
    assert set(contents([gapped])) == {11, 12, 13}
    kept, _ = filtered([gapped, keyed([(b"b", b"2")], 14)], dirty_from=10, spans=[])
    assert contents(kept) == {11: (b"a", b"2"), 13: (b"c", b"1"), 14: (b"b", b"2")}


def test_both_passes_pause() -> None:
    pauses: list[int] = []
    count = 2 * compaction.RECORDS_BETWEEN_PAUSES + 1
    before, dirty = keyed([(b"k%d" % number, b"v") for number in range(count)], 0), keyed([(b"k", b"1")], count)
    rules = Rules(count, count + 1, (), [(count, NOW)], 1000, NOW)
    keys = map_keys([before, dirty], rules, lambda: pauses.append(1), bytes_max=1 << 20)
    assert len(pauses) == 1, "after each batch of the dirty part"
    keep = CleaningFilter(keys, rules, lambda: pauses.append(1))
    keep.apply(before, last=False)
    assert len(pauses) == 3, "after so many records of a batch"


# --- segments that are not read

Segmented = list[tuple[list[bytes], Contents | None]]
"""Segments: their batches, and what is known of their contents."""


def rules_until(
    end: int, *, dirty_from: int, now_ms: int, aborted: Sequence[AbortedTransaction] = (), spans: Sequence[tuple[int, int]] = ()
) -> Rules:
    """The rules of a cleaning up to `end`."""
    return Rules(dirty_from, end, aborted, list(spans), 1000, now_ms)


def clean(segments: Segmented, rules_of: Callable[[int], Rules], *, trusting: bool) -> tuple[Segmented, int]:
    """The segments after a cleaning, and how many were not read: none unless it is `trusting` in what is known of them."""
    end = read_header(segments[-1][0][-1]).last_offset + 1
    rules = rules_of(end)
    keys = map_keys([raw for batches, _ in segments for raw in batches], rules, never, bytes_max=1 << 20)
    keep = CleaningFilter(keys, rules, never)
    found: Segmented = []
    unread = 0
    for number, (batches, known) in enumerate(segments, 1):
        if trusting and keep.leaves(known, read_header(batches[-1]).last_offset + 1):
            assert known is not None
            keep.pass_over(known)
            found.append((batches, known))
            unread += 1
            continue
        keep.take_contents()
        kept = [keep.apply(raw, last=number == len(segments) and raw is batches[-1]) for raw in batches]
        left = [raw for raw in kept if raw is not None]
        known = keep.take_contents()
        if left:
            found.append((left, known))
    return found, unread


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_segment_that_is_not_read_would_not_have_changed(data: st.DataObject) -> None:
    """Two logs of the same records: one is read as a whole by every cleaning, the other only where its contents changed (that
    segments are then left unread is shown by the tests below)."""
    aborted: list[AbortedTransaction] = []
    trusting: Segmented = []
    reading: Segmented = []
    spans: Spans = []
    offset, now_ms, open_since = 0, NOW, -1
    pairs = st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.sampled_from([None, b"1", b"2"])), min_size=1, max_size=3
    )
    for _ in range(data.draw(st.integers(2, 6))):
        dirty_from = offset
        for _ in range(data.draw(st.integers(1, 2))):
            batches = []
            for kind in data.draw(
                st.lists(st.sampled_from(["plain", "plain", "transactional", "commit", "abort"]), min_size=1, max_size=4)
            ):
                if kind in {"commit", "abort"}:
                    batches.append(marker_batch(offset, 7, 0, commit=kind == "commit", timestamp_ms=now_ms))
                    if kind == "abort" and open_since >= 0:
                        aborted.append(AbortedTransaction(7, open_since, offset))
                    open_since, offset = -1, offset + 1
                    continue
                some: list[Pair] = [(key, value) for key, value in data.draw(pairs)]
                transactional = kind == "transactional"
                batches.append(
                    keyed(
                        some,
                        offset,
                        producer_id=7 if transactional else -1,
                        sequence=0 if transactional else -1,
                        transactional=transactional,
                    )
                )
                if transactional and open_since < 0:
                    open_since = offset
                offset += len(some)
            trusting.append((batches, None))
            reading.append((batches, None))
        if open_since >= 0:
            end = [marker_batch(offset, 7, 0, commit=True, timestamp_ms=now_ms)]
            trusting.append((end, None))
            reading.append((end, None))
            open_since, offset = -1, offset + 1
        now_ms += data.draw(st.sampled_from([1, 400, 1000, 3000]))
        rules_of = partial(rules_until, dirty_from=dirty_from, aborted=tuple(aborted), spans=tuple(spans), now_ms=now_ms)
        trusting, _ = clean(trusting, rules_of, trusting=True)
        reading, _ = clean(reading, rules_of, trusting=False)
        assert [batches for batches, _ in trusting] == [batches for batches, _ in reading]
        spans = add_span(spans, offset, now_ms, 1000)


def test_segments_that_nothing_supersedes_are_not_read() -> None:
    segments: Segmented = [([keyed([(b"k%d" % number, b"1")], number)], None) for number in range(4)]
    segments, unread = clean(segments, partial(rules_until, dirty_from=0, now_ms=NOW), trusting=True)
    assert unread == 0
    grown: Segmented = [*segments, ([keyed([(b"k1", b"2")], 4)], None)]
    after, unread = clean(grown, partial(rules_until, dirty_from=4, now_ms=NOW, spans=[(4, NOW)]), trusting=True)
    assert unread == 3
    assert contents([raw for batches, _ in after for raw in batches]) == {
        0: (b"k0", b"1"),
        2: (b"k2", b"1"),
        3: (b"k3", b"1"),
        4: (b"k1", b"2"),
    }


def test_a_segment_without_tombstones_is_not_read_however_old_it_is() -> None:
    segments: Segmented = [
        ([keyed([(b"a", b"1")], 0)], None),
        ([keyed([(b"x", None)], 1)], None),
        ([keyed([(b"b", b"1")], 2, producer_id=7, sequence=0, transactional=True)], None),
        ([marker_batch(3, 7, 0, commit=True, timestamp_ms=NOW)], None),
    ]
    segments, _ = clean(segments, partial(rules_until, dirty_from=0, now_ms=NOW), trusting=True)
    grown: Segmented = [*segments, ([keyed([(b"c", b"1")], 4)], None)]
    rules_of = partial(rules_until, dirty_from=4, now_ms=NOW + 1000, spans=[(4, NOW)])
    after, unread = clean(grown, rules_of, trusting=True)
    assert [read_header(raw).base_offset for batches, _ in after for raw in batches] == [0, 2, 3, 4]
    assert unread == 2
