"""Picks the wanted records of fetched batches; the others are not decoded."""

from collections.abc import Callable
from typing import NamedTuple

from ..protocol import TopicPartition
from .fetch_buffer import TakenBatch
from .fetched import FetchedBatch, record_at
from .header_walk import Found, HeaderWalk, RecordRule

CHUNK_RECORDS = 2_000
"""`ChunkReader.read` returns after the batch with which it has read this number of records."""
DENSE = 8
"""If more than one of this many records is wanted and must be decoded, decoding all of them costs less than finding those that
are."""
DECODED_BATCHES = 16
"""After such a batch, the number of batches that are decoded without an attempt."""


class Chunk(NamedTuple):
    """Records that follow each other in a partition. `size`: how many were read; `next_offset`: the offset after them;
    `wanted`: the wanted ones."""

    partition: TopicPartition
    size: int
    next_offset: int
    wanted: list[Found]


class RecordPicker:
    """Picks the records that `rule` wants."""

    def __init__(self, rule: RecordRule) -> None:
        self.rule = rule
        self._walker = HeaderWalk(rule)
        self._dense = 0

    def pick(self, batch: FetchedBatch, from_offset: int) -> tuple[int, list[Found]]:
        """Returns how many records of the batch have an offset of at least `from_offset`, and those that are wanted."""
        if not self._dense:
            found = self._walk(batch, from_offset)
            if found is not None:
                return found
            self._dense = DECODED_BATCHES
        self._dense -= 1
        return self._decode(batch, from_offset)

    def _walk(self, batch: FetchedBatch, from_offset: int) -> tuple[int, list[Found]] | None:
        """None if the batch must be decoded: it is not valid, or decoding costs less."""
        try:
            view = batch.view()
            count, found = self._walker.find(view, from_offset)
            if undecoded := [record for record, _, _, _ in found].count(None):
                if undecoded * DENSE > count:
                    return None
                found = [(record or record_at(view, at), route, ordinal, at) for record, route, ordinal, at in found]
            return count, found
        except Exception:  # the general decoder determines what is wrong with the batch
            return None

    def _decode(self, batch: FetchedBatch, from_offset: int) -> tuple[int, list[Found]]:
        route_of, count, wanted = self.rule.route, 0, list[Found]()
        for record in batch.decode():
            if record.offset < from_offset:
                continue
            from_offset, count = record.offset + 1, count + 1
            route = route_of(record.headers)
            if route is not None:
                wanted.append((record, route, count, 0))
        return count, wanted


class _HeldBatch:
    """A batch of which only a part was returned."""

    def __init__(self, taken: TakenBatch, size: int, found: list[Found]) -> None:
        self._taken, self._size, self._found = taken, size, found
        self._returned = self._passed = 0
        """How many of the wanted records were returned; the ordinal number of the last of them."""

    @property
    def partition(self) -> TopicPartition:
        return self._taken.partition

    def part(self, limit: int) -> tuple[Chunk, bool]:
        """The next chunk of up to `limit` wanted records, and whether it is the last."""
        begin, passed = self._returned, self._passed
        found = self._found[begin : begin + limit]
        self._returned = begin + len(found)
        if is_last := self._returned == len(self._found):
            ordinal, next_offset = self._size, self._taken.next_offset
        else:
            last, _, ordinal, _ = found[-1]
            next_offset = last.offset + 1
        self._passed = ordinal
        return Chunk(self.partition, ordinal - passed, next_offset, found), is_last


class ChunkReader:
    """The wanted records of the batches that `take` (of a `Fetcher`) returns."""

    def __init__(self, take: Callable[[], TakenBatch | None], rule: RecordRule) -> None:
        self._take = take
        self._picker = RecordPicker(rule)
        self._held: _HeldBatch | None = None
        self._failure: Exception | None = None

    @property
    def held(self) -> TopicPartition | None:
        """The partition with a batch that was taken, but returned only in part."""
        return None if self._held is None else self._held.partition

    def read(self, limit: int) -> list[Chunk]:
        """The next chunks, with up to `limit` wanted records, which is at least 1. Empty if there is no batch at present. Raises
        what `take` raises, after the batches before it were returned."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        chunks: list[Chunk] = []
        read = 0
        while limit > 0 and read < CHUNK_RECORDS:
            try:
                chunk = self._next(limit)
            except Exception as error:
                if not chunks:
                    raise
                self._failure = error
                break
            if chunk is None:
                break
            chunks.append(chunk)
            read += chunk.size
            limit -= len(chunk.wanted)
        return chunks

    def _next(self, limit: int) -> Chunk | None:
        held = self._held
        if held is None:
            taken = self._take()
            if taken is None:
                return None
            size, found = self._picker.pick(taken.batch, taken.from_offset)
            if len(found) <= limit:
                return Chunk(taken.partition, size, taken.next_offset, found)
            held = _HeldBatch(taken, size, found)
        chunk, is_last = held.part(limit)
        self._held = None if is_last else held
        return chunk
