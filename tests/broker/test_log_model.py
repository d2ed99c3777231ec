"""The log in memory against a model: any sequence of appends, syncs and deletions, and what each reader sees."""

from itertools import takewhile
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.broker.batches import marker_batch, placed, read_header
from hub.broker.log import LogKey, PartitionLog
from hub.broker.topic_settings import typed

from .client import STARTED_MS, batch


class Written(NamedTuple):
    """A batch as the model knows it."""

    base: int
    last: int
    raw: bytes
    newest_ms: int


class Model:
    """What a log holds, and which of it each reader may see; without any index."""

    def __init__(self) -> None:
        self.in_files: list[Written] = []
        self.in_memory: list[Written] = []
        self.start = self.end = self.stable = 0
        self.open: dict[int, int] = {}
        self.ended: list[tuple[int, int, int, bool]] = []
        """(producer id, first offset, offset of the marker, whether committed)."""

    @property
    def written(self) -> list[Written]:
        """All batches."""
        return self.in_files + self.in_memory

    def visible_end(self, *, committed: bool, unsynced: bool) -> int:
        """The end of what a reader sees: an open transaction, or one whose marker is not on disk, hides what follows."""
        ends = [self.end if unsynced else self.stable]
        if committed:
            ends += self.open.values()
            if not unsynced:
                ends += [first for _, first, marker, _ in self.ended if marker >= self.stable]
        return min(ends)

    def read(self, offset: int, max_bytes: int, end: int) -> list[Written]:
        """Whole batches from the one with `offset`, or the next one: one, and as many more as fit; of the files or of memory."""
        found: list[Written] = []
        in_files = [one for one in self.in_files if one.last >= offset and one.base < end]
        for one in in_files or self.in_memory:
            if one.last >= offset and one.base < end:
                if found and sum(len(before.raw) for before in found) + len(one.raw) > max_bytes:
                    break
                found.append(one)
        return found if offset < end else []

    def aborted(self, offset: int, read: list[Written], *, unsynced: bool) -> list[tuple[int, int]]:
        """(producer id, first offset) of the aborted transactions that a reader of these batches needs."""
        following = [one.base for one in self.in_memory if one.base > read[-1].base]
        upper = (
            self.visible_end(committed=True, unsynced=unsynced) if read[-1] in self.in_files else min(following, default=self.end)
        )
        return [
            (producer_id, first)
            for producer_id, first, marker, commit in self.ended
            if not commit and marker >= max(offset, self.start) and first < upper
        ]


def check(log: PartitionLog, model: Model, offset: int, max_bytes: int) -> None:
    """Every reader of the log sees what the model says."""
    assert (log.start, log.end, log.stable_end) == (model.start, model.end, model.stable)
    assert log.memory_bytes == sum(len(one.raw) for one in model.in_memory)
    assert log.memory_start == (model.in_memory[0].base if model.in_memory else model.end)
    for committed in (True, False):
        for unsynced in (True, False):
            end = model.visible_end(committed=committed, unsynced=unsynced)
            assert log.visible_end(committed=committed, unsynced=unsynced) == end
            expected = model.read(offset, max_bytes, end)
            found = log.read(offset, max_bytes, committed=committed, unsynced=unsynced)
            assert found.data == b"".join(one.raw for one in expected)
            if committed and expected:
                assert found.aborted == model.aborted(offset, expected, unsynced=unsynced)
            else:
                assert committed or not found.aborted
        end = model.visible_end(committed=committed, unsynced=False)
        seen = [one for one in model.written if one.base < end]
        assert log.max_timestamp_ms(committed=committed) == max((one.newest_ms for one in seen), default=-1)
        for newest_ms in {one.newest_ms for one in model.written}:
            for wanted_ms in (newest_ms, newest_ms + 1):
                first = next((one for one in seen if one.newest_ms >= wanted_ms and one.last >= model.start), None)
                answer = log.offset_for_timestamp(wanted_ms, committed=committed)
                assert answer == (None if first is None else (first.base, first.raw))


def check_views(log: PartitionLog, model: Model, segment_bytes: int) -> None:
    """The parts of the log in memory: as many whole batches as fit, at least one."""
    parts: list[list[Written]] = []
    for one in model.in_memory:
        if parts and sum(len(before.raw) for before in parts[-1]) + len(one.raw) <= segment_bytes:
            parts[-1].append(one)
        else:
            parts.append([one])
    following = [*(part[0].base for part in parts[1:]), model.end][: len(parts)]
    assert [(view.base, view.end, view.size, view.max_timestamp_ms, view.closed) for view in log.memory_views(segment_bytes)] == [
        (part[0].base, end, sum(len(one.raw) for one in part), max(one.newest_ms for one in part), part is not parts[-1])
        for part, end in zip(parts, following, strict=True)
    ]


class Files:
    """The batches of the model that are in files."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def read(self, key: LogKey, offset: int, max_bytes: int, end: int) -> bytes:
        """See `LogReader`."""
        data = b""
        for one in self._model.in_files:
            if one.last >= offset and one.base < end:
                if data and len(data) + len(one.raw) > max_bytes:
                    break
                data += one.raw
        return data

    def offset_for_timestamp(self, key: LogKey, timestamp_ms: int) -> int | None:
        """See `LogReader`."""
        early = list(takewhile(lambda one: one.newest_ms < timestamp_ms, self._model.in_files))
        if len(early) == len(self._model.in_files):
            return None
        return early[-1].base if early else self._model.in_files[0].base

    def max_timestamp_ms(self, key: LogKey, start: int, end: int) -> int:
        """See `LogReader`."""
        return max((one.newest_ms for one in self._model.in_files if one.last >= start and one.base < end), default=-1)


KINDS = [*["plain", "transactional"] * 3, "commit", "abort", "sync", "delete", "write", "write", "compact"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_readers_of_any_log_see_what_they_may(data: st.DataObject) -> None:
    model = Model()
    log = PartitionLog(LogKey(0, 0), Files(model), typed({}))
    for _ in range(data.draw(st.integers(1, 20))):
        match data.draw(st.sampled_from(KINDS)):
            case "sync":
                model.stable = data.draw(st.sampled_from([model.stable, model.end, *(one.base for one in model.written)]))
                model.stable = max(model.stable, log.stable_end)
                log.advance(model.stable)
            case "delete":
                model.start = data.draw(st.integers(model.start, max(model.start, log.visible_end(committed=True))))
                log.delete_before(model.start)
                model.in_memory = [one for one in model.in_memory if one.last >= model.start]
                model.in_files[:] = [one for one in model.in_files if one.last >= model.start]
            case "write":
                end = data.draw(st.sampled_from([model.end, *(one.base for one in model.in_memory)]))
                written = [one for one in model.in_memory if one.base < end]
                assert log.written(end, STARTED_MS) == sum(len(one.raw) for one in written)
                model.in_memory = model.in_memory[len(written) :]
                model.in_files += written
            case "compact":
                model.in_files[:] = [one for one in model.in_files if data.draw(st.booleans())]
            case kind:
                append(log, model, data, kind)
        offset = data.draw(st.integers(model.start, model.end))
        check(log, model, offset, data.draw(st.sampled_from([1, 100, 150, 250, 1 << 20])))
        check_views(log, model, data.draw(st.sampled_from([1, 100, 160, 300, 1 << 20])))
    log.advance(model.end)
    copy = PartitionLog(LogKey(0, 0), Files(Model()), typed({}))
    copy.restore(log.snapshot())
    assert copy.snapshot() == log.snapshot()
    assert (copy.stable_end, copy.memory_start, copy.memory_bytes) == (log.end, log.end, 0)


def append(log: PartitionLog, model: Model, data: st.DataObject, kind: str) -> None:
    """Append a batch of this kind to both."""
    base, producer_id = model.end, data.draw(st.sampled_from([7, 8]))
    newest_ms = STARTED_MS + data.draw(st.integers(0, 5))
    if kind in {"commit", "abort"}:
        raw = marker_batch(base, producer_id, 0, commit=kind == "commit", timestamp_ms=newest_ms)
        if (first := model.open.pop(producer_id, None)) is not None:
            model.ended.append((producer_id, first, base, kind == "commit"))
    else:
        count = data.draw(st.integers(1, 3))
        transactional = kind == "transactional"
        values = [b"v" * data.draw(st.sampled_from([0, 30]))] * count
        sender = producer_id if transactional else -1
        raw = batch(values, producer_id=sender, epoch=0, sequence=base, transactional=transactional, timestamp_ms=newest_ms)
        raw = placed(raw, base)
        if transactional:
            model.open.setdefault(producer_id, base)
    header = read_header(raw)
    log.append(raw, header, STARTED_MS)
    model.end = base + header.last_offset_delta + 1
    model.in_memory.append(Written(base, model.end - 1, raw, header.max_timestamp_ms))
