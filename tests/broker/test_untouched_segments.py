"""Cleaning skips segments without superseded or expired records, and retains the same records as if it read all segments."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.broker import cleaning
from hub.broker.batches import marker_batch, placed, read_header
from hub.broker.compaction import CleaningFilter, Pause, Rules, Spans, add_span
from hub.broker.log import LogKey
from hub.broker.segment import LogTail, Segment
from hub.broker.segments import SegmentStore
from hub.protocol.batch_layout import whole_batches

from .test_compaction import Pair, contents, keyed

KEY = LogKey(1, 0)
SEGMENT_BYTES = 3_000
RETENTION_MS = 100


class CleanedLog:
    """A log's segments, and its cleanings. `remembers`: whether it knows what its segments hold."""

    def __init__(self, directory: Path, *, remembers: bool = True) -> None:
        self.store = SegmentStore(directory, segment_bytes=SEGMENT_BYTES)
        self.spans: Spans = []
        self.end = 0
        self._remembers = remembers

    def append(self, batch: bytes) -> None:
        batch = placed(batch, self.end)
        header = read_header(batch)
        self.end = header.last_offset + 1
        self.store.append(
            LogTail(KEY, header.base_offset, self.end, [batch], [header.base_offset], [1], SEGMENT_BYTES, 1 << 40, 0)
        )

    def clean(self, now_ms: int, *, bytes_max: int = 1 << 20) -> None:
        self.store.seal(KEY)
        while not self.spans or self.spans[-1][0] < self.end:
            self._pass(now_ms, bytes_max)

    def _pass(self, now_ms: int, bytes_max: int) -> None:
        segments, dirty_from = self.store.segments(KEY), self.spans[-1][0] if self.spans else 0
        if not self._remembers:
            for segment in segments:
                segment.contents = None
        rules = Rules(dirty_from, self.end, (), self.spans, RETENTION_MS, now_ms)
        keys = cleaning.find_keys(segments, rules, lambda: None, bytes_max=bytes_max)
        segments = [segment for segment in segments if segment.base < keys.end]
        keep = CleaningFilter(keys, rules, lambda: None)
        for made in cleaning.rewrite(segments, keep, lambda: None, segment_bytes=SEGMENT_BYTES, now_ms=now_ms):
            assert self.store.replace(KEY, made.old, made.new)
        self.spans = add_span(self.spans, keys.end, now_ms, RETENTION_MS)

    def batches(self) -> list[bytes]:
        files = [segment.path.read_bytes() for segment in self.store.segments(KEY)]
        return [data[begin:end] for data in files for _, begin, end in whole_batches(data)]

    def records(self) -> dict[int, Pair]:
        return contents([batch for batch in self.batches() if not read_header(batch).control])

    def markers(self) -> set[int]:
        """Offsets of the markers of transactions."""
        return {header.base_offset for header in map(read_header, self.batches()) if header.control}

    def has_markers(self) -> bool:
        """Whether the marker of every transaction is there of which something is."""
        markers = self.markers()
        data = [header for header in map(read_header, self.batches()) if header.transactional and not header.control]
        return all(header.last_offset + 1 in markers for header in data if header.record_count)


@st.composite
def rounds(draw: st.DrawFn) -> list[tuple[int, int, list[tuple[list[Pair], int]]]]:
    """Rounds of (milliseconds since the last one, bytes for the map of keys, batches of (pairs, producer))."""
    keys: st.SearchStrategy[bytes | None] = st.integers(0, 60).map(lambda number: b"%d" % number)
    pairs = st.lists(st.tuples(keys, st.none() | st.binary(max_size=300)), min_size=1, max_size=8)
    batches = st.lists(st.tuples(pairs, st.sampled_from([-1, 5, 6])), min_size=1, max_size=12)
    one = st.tuples(st.sampled_from([1, 40, 120]), st.sampled_from([2_000, 1 << 20]), batches)
    return draw(st.lists(one, min_size=1, max_size=6))


@settings(max_examples=60, deadline=None)
@given(rounds=rounds())
def test_the_same_records_stay_whether_segments_are_remembered_or_read(
    tmp_path_factory: pytest.TempPathFactory, rounds: Sequence[tuple[int, int, list[tuple[list[Pair], int]]]]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    logs = [CleanedLog(folder / "remembered"), CleanedLog(folder / "read", remembers=False)]
    now_ms = 0
    model: dict[bytes | None, bytes | None] = {}
    for later_ms, bytes_max, batches in rounds:
        now_ms += later_ms
        for log in logs:
            for pairs, producer in batches:
                log.append(keyed(pairs, producer_id=producer, sequence=0 if producer >= 0 else -1, transactional=producer >= 0))
                if producer >= 0:
                    log.append(marker_batch(0, producer, 0, commit=True, timestamp_ms=1))
        for pairs, _ in batches:
            model.update(pairs)
        for log in logs:
            log.clean(now_ms, bytes_max=bytes_max)
        remembered, read = logs
        found, exact = remembered.records(), read.records()
        assert {key: value for key, value in model.items() if value is not None} == {
            key: value for key, value in dict(found.values()).items() if value is not None
        }
        assert exact.items() <= found.items()  # tombstones may stay until all of their segment are over
        assert all(value is None for offset, (_, value) in found.items() if offset not in exact)
        assert remembered.markers() >= read.markers()
        assert all(log.has_markers() for log in logs)


def test_what_is_not_superseded_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CleanedLog(tmp_path)
    for number in range(40):
        log.append(keyed([(b"%d" % number, bytes(500))]))
    log.clean(1)
    before = log.store.segments(KEY)
    read: list[Path] = []
    whole = cleaning.read_batches

    def noted(segment: Segment, pause: Pause) -> Iterator[cleaning.BatchRead]:
        read.append(segment.path)
        return whole(segment, pause)

    monkeypatch.setattr(cleaning, "read_batches", noted)
    log.append(keyed([(b"17", b"again")]))
    log.clean(2)
    touched = [segment.path for segment in before if segment.base <= 17 < segment.end]
    dirty = [path for path in read if path not in {segment.path for segment in before}]
    assert [path for path in read if path not in dirty] == touched
    assert len(dirty) == 2  # once for its keys, once for what stays
    assert dict(log.records().values()) == {b"%d" % number: b"again" if number == 17 else bytes(500) for number in range(40)}
    assert sum(segment in before for segment in log.store.segments(KEY)) == len(before) - 1


def test_tombstones_and_markers_of_a_segment_that_was_left_alone_go_when_their_time_is_over(tmp_path: Path) -> None:
    log = CleanedLog(tmp_path)
    for number in range(40):
        log.append(keyed([(b"%d" % number, bytes(500))], producer_id=5, sequence=0, transactional=True))
        log.append(marker_batch(0, 5, 0, commit=True, timestamp_ms=1))
    for number in range(30):
        log.append(keyed([(b"%d" % number, None)]))
    log.clean(1)
    assert sum(value is None for _, value in log.records().values()) == 30
    assert len(log.markers()) == 40
    log.append(keyed([(b"a", b"1")]))
    log.clean(1 + RETENTION_MS // 2)
    assert sum(value is None for _, value in log.records().values()) == 30
    log.append(keyed([(b"a", b"2")]))
    log.clean(1 + RETENTION_MS)
    assert sum(value is None for _, value in log.records().values()) == 0
    assert len(log.markers()) == 10  # those of what is still there


def test_the_memory_for_what_segments_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.broker.segments.CONTENTS_BYTES_MAX", 80)
    log = CleanedLog(tmp_path)
    for number in range(40):
        log.append(keyed([(b"%d" % number, bytes(500))]))
    log.clean(1)
    log.store.set_cleaned(KEY, log.spans)
    held = [len(segment.contents.hashes) for segment in log.store.segments(KEY) if segment.contents is not None]
    assert 0 < sum(held) <= 10
    log.append(keyed([(b"17", b"again")]))
    log.clean(2)
    assert dict(log.records().values())[b"17"] == b"again"
