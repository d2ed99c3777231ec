"""A consumer that returns only the records that a rule wants, in chunks; the others are skipped without decoding them.

Fetching, positions, groups and commits are those of aiokafka. Only the decoding of a fetched partition is replaced: `getmany` of
a consumer with a `RecordPicker` returns `Chunk`s instead of records, and its `max_records` counts chunks.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException

from .fetched import FetchedBatch, record_at
from .header_walk import HeaderWalk, RecordRule

CHUNK_RECORDS = 2_000
"""A chunk ends with the batch in which it reaches this number of records."""
DENSE = 8
"""If more than one of this many records is wanted and must be decoded, decoding all of them costs less than finding those that
are."""
DECODED_BATCHES = 16
"""After such a batch, the number of batches that are decoded without an attempt."""


class Chunk(NamedTuple):
    """Records that follow each other in a partition. `size`: how many were read; `next_offset`: the offset after them;
    `wanted`: each wanted record, with its route."""

    size: int
    next_offset: int
    wanted: list[tuple[Any, Any]]


class RecordPicker:
    """Picks the records that `rule` wants. `limit`: how many of them the next chunk may have, at least 1."""

    def __init__(self, rule: RecordRule, limit: int = 500) -> None:
        self.rule = rule
        self.limit = limit
        self._walker = HeaderWalk(rule)
        self._dense = 0

    def attach(self, consumer: Any) -> None:
        """Let a consumer of `make_consumer` return chunks. To be called before it is started."""
        consumer._key_deserializer = self  # handed to the decoding of fetched partitions, see `partition_records`

    def pick(self, batch: Any, from_offset: int) -> tuple[int, list[tuple[int, Any, Any]]]:
        """Returns how many records of the batch have an offset of at least `from_offset`, and those that are wanted: the ordinal
        number, from 1, the record, its route."""
        if isinstance(batch, FetchedBatch):
            if not self._dense:
                found = self._walk(batch, from_offset)
                if found is not None:
                    return found
                self._dense = DECODED_BATCHES
            self._dense -= 1
        return self._decode(batch, from_offset)

    def _walk(self, batch: FetchedBatch, from_offset: int) -> tuple[int, list[tuple[int, Any, Any]]] | None:
        """None if the batch must be decoded: it is not valid, or decoding costs less."""
        try:
            view = batch.view()
            count, found = self._walker.find(view, from_offset)
            if [one.record for one in found].count(None) * DENSE > count:
                return None
            return count, [(ordinal, record or record_at(view, at), route) for ordinal, at, route, record in found]
        except Exception:  # the general decoder determines what is wrong with the batch
            return None

    def _decode(self, batch: Any, from_offset: int) -> tuple[int, list[tuple[int, Any, Any]]]:
        route_of, count, wanted = self.rule.route, 0, []
        for record in batch.decode() if isinstance(batch, FetchedBatch) else batch:
            if record.offset < from_offset:
                continue
            from_offset, count = record.offset + 1, count + 1
            route = route_of(record.headers)
            if route is not None:
                wanted.append((count, record, route))
        return count, wanted


class PickedRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """The chunks of one fetched partition."""

    def __init__(self, picker: RecordPicker, *fetched: Any) -> None:
        self._picker = picker
        self.next_fetch_offset: int
        super().__init__(*fetched)

    def _unpack_records(self) -> Iterator[Chunk]:
        picker, count = self._picker, 0
        wanted: list[tuple[Any, Any]] = []
        batches = self._visible_batches()
        while True:
            try:
                batch = next(batches, None)
            except CorruptRecordException:
                if count:  # the records before it are valid
                    yield Chunk(count, self.next_fetch_offset, wanted)
                raise
            if batch is None:
                break
            read, passed = 0, picker.pick(batch, self.next_fetch_offset)
            if len(wanted) + len(passed[1]) < picker.limit:  # no chunk ends within this batch
                wanted += [(record, route) for _, record, route in passed[1]]
                passed = passed[0], []
            for ordinal, record, route in passed[1]:
                wanted.append((record, route))
                count, read = count + ordinal - read, ordinal
                self.next_fetch_offset = record.offset + 1
                if len(wanted) >= picker.limit:
                    yield Chunk(count, self.next_fetch_offset, wanted)
                    count, wanted = 0, []
            count += passed[0] - read
            self.next_fetch_offset = batch.next_offset
            if count >= CHUNK_RECORDS:
                yield Chunk(count, self.next_fetch_offset, wanted)
                count, wanted = 0, []
        if count:
            yield Chunk(count, self.next_fetch_offset, wanted)

    def _visible_batches(self) -> Iterator[Any]:
        """The batches with records, without those of aborted transactions. As in aiokafka's `PartitionRecords`."""
        records = self._records
        while records.has_next():
            batch = records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not self._is_aborted(batch) and not batch.is_control_batch:
                yield batch
            else:
                self.next_fetch_offset = batch.next_offset

    def _is_aborted(self, batch: Any) -> bool:
        if self._isolation_level != READ_COMMITTED or batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and self._contains_abort_marker(batch):
            self._aborted_producers.discard(batch.producer_id)
        return batch.is_transactional and batch.producer_id in self._aborted_producers


def partition_records(
    partition: Any, batches: Any, aborted: Any, offset: int, key_deserializer: Any, *settings: Any
) -> PartitionRecords:
    """What decodes the `batches` of a fetched partition; replaces aiokafka's `PartitionRecords`, whose arguments it takes."""
    if isinstance(key_deserializer, RecordPicker):
        return PickedRecords(key_deserializer, partition, batches, aborted, offset, None, *settings)
    return PartitionRecords(partition, batches, aborted, offset, key_deserializer, *settings)
