"""The records of an idempotent producer for one partition: which are sent next, which are acknowledged, and which must be sent
again. Without I/O; `producer` drives it.

Records leave in batches, at most IN_FLIGHT_BATCHES_MAX after the first one that is not acknowledged: brokers recognise
repetitions of the last five batches of a producer (https://kafka.apache.org/documentation/#producerconfigs_enable.idempotence).
After a failure nothing is sent until no batch is in flight; then all unacknowledged batches are sent again, unchanged and in
order. Only with a new producer id do they get other sequence numbers. Until a partition has acknowledged the first batch with
an id, it gets no other one: it would store the second batch although it refused the first.
"""

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..protocol import ErrorCode, TopicPartition, name_of
from .codec import BATCH_BYTES_MAX, build_batch
from .errors import RecordRejected, RecordTooLarge
from .records import Record

IN_FLIGHT_BATCHES_MAX = 5
COMPRESSION = "lz4"
"""Of batches from 1 KiB on, see `codec`."""
INVALID_RECORD = (TypeError, ValueError, OverflowError, AttributeError, struct.error)
"""What the encoder raises for values of a wrong type or range."""
SEQUENCE_MASK = 0x7FFFFFFF
STORED = {ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER}
TOO_LARGE = {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE}
IDENTITY_UNKNOWN = {
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
    ErrorCode.UNKNOWN_PRODUCER_ID,
    ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.INVALID_PRODUCER_ID_MAPPING,
}
"""The partition does not know the producer, or not all of its batches: the next ones need a new producer id."""
PASSING = {
    ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.BROKER_NOT_AVAILABLE,
    ErrorCode.REPLICA_NOT_AVAILABLE,
    ErrorCode.NETWORK_EXCEPTION,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode.NOT_CONTROLLER,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
}
"""Errors after which the same batch is sent again. Most are retriable in Kafka; the others depend on the state of the broker or
on its settings (a full disk, an access control list), which an operator may correct, and not on the records."""


class IdempotentIdentity(NamedTuple):
    """A producer id that a broker assigned, and its epoch."""

    producer_id: int
    epoch: int


OnDone = Callable[[Exception | None], object]
"""Called once: with None when the record is stored, or with the reason why it will never be."""


class QueuedRecord(NamedTuple):
    """A record to send, with an upper bound of its size in bytes."""

    record: Record
    size: int
    on_done: OnDone


class OutgoingBatch:
    """Records that are sent together. `data` is the encoded batch, empty until it is sent with the current identity. `stored`:
    it is acknowledged, but a batch before it is not."""

    __slots__ = ("data", "records", "stored")

    def __init__(self, records: Sequence[QueuedRecord]) -> None:
        self.records = records
        self.data = b""
        self.stored = False

    def encode(self, identity: IdempotentIdentity, base_sequence: int) -> None:
        """Set `data`. Raises one of INVALID_RECORD."""
        self.data = build_batch(
            [queued.record for queued in self.records],
            producer_id=identity.producer_id,
            producer_epoch=identity.epoch,
            base_sequence=base_sequence,
            compression=COMPRESSION,
        )

    def done(self, error: Exception | None) -> None:
        """Call the callbacks of all records."""
        for queued in self.records:
            queued.on_done(error)


class PartitionQueue:
    """The records for `partition`. The caller takes batches, and reports the end of each one: `stored`, `answered` or
    `lost`."""

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.identity: IdempotentIdentity | None = None
        self.identity_refused = False
        """A new identity is needed before the next batch (`renew`)."""
        self.failed = False
        """A batch failed: nothing is sent until the caller has found the reason and calls `resume`."""
        self.failures = 0
        """Consecutive failures, for the backoff."""
        self.reason = ""
        """The last failure."""
        self.in_flight = 0
        """Batches that were taken and have not ended."""
        self._known = False
        """The partition has acknowledged a batch with this identity."""
        self._next_sequence = 0
        self._waiting: deque[QueuedRecord] = deque()
        self._discarded: set[OnDone] = set()
        """Callbacks of records in `_waiting` that must not be sent."""
        self._unacknowledged: deque[OutgoingBatch] = deque()
        self._again: deque[OutgoingBatch] = deque()
        """Those of `_unacknowledged` that must be sent again."""

    @property
    def has_work(self) -> bool:
        """Whether a record is neither stored nor rejected."""
        return bool(self._unacknowledged) or self._has_waiting()

    @property
    def sendable(self) -> bool:
        """Whether `take` returns a batch."""
        if not (self._waiting or self._again):
            return False
        if self.failed or self.identity is None or self.identity_refused:
            return False
        if not self._known and self.in_flight:
            return False
        return bool(self._again) or (len(self._unacknowledged) < IN_FLIGHT_BATCHES_MAX and self._has_waiting())

    def append(self, queued: QueuedRecord) -> None:
        """Add a record after all others."""
        self._waiting.append(queued)

    def discard(self, on_done: OnDone) -> None:
        """Do not send the records with this callback that were never sent; it may still be called for those that were. No other
        record may be added with it."""
        self._discarded.add(on_done)
        if len(self._discarded) * 2 >= len(self._waiting):  # so that many calls do not take quadratic time
            self._remove_discarded()

    def _remove_discarded(self) -> None:
        self._waiting = deque(queued for queued in self._waiting if queued.on_done not in self._discarded)
        self._discarded.clear()

    def _has_waiting(self) -> bool:
        """Whether a record waits that is not discarded."""
        waiting = self._waiting
        if self._discarded:
            while waiting and waiting[0].on_done in self._discarded:
                waiting.popleft()
        return bool(waiting)

    # --- sending

    def take(self, bytes_max: int) -> OutgoingBatch | None:
        """The next batch to send; None if there is none, or if nothing may be sent at present. New batches have about `bytes_max`
        at most; a larger record forms a batch alone. Records that cannot be encoded are rejected with one of INVALID_RECORD."""
        while self.sendable:
            assert self.identity is not None
            again = self._again
            if not again:
                batch = OutgoingBatch(self._cut(bytes_max))
                self._unacknowledged.append(batch)
                again.append(batch)
            batch = again[0]
            try:
                if not batch.data:
                    batch.encode(self.identity, self._next_sequence)
                    self._next_sequence = (self._next_sequence + len(batch.records)) & SEQUENCE_MASK
            except INVALID_RECORD:
                self._reject_invalid(batch)
                continue
            again.popleft()
            self.in_flight += 1
            return batch
        return None

    def _cut(self, bytes_max: int) -> list[QueuedRecord]:
        """Remove the records of the next batch."""
        if self._discarded:
            self._remove_discarded()
        waiting = self._waiting
        records = [waiting.popleft()]
        size = records[0].size
        while waiting and (size := size + waiting[0].size) <= bytes_max:
            records.append(waiting.popleft())
        return records

    def _reject_invalid(self, batch: OutgoingBatch) -> None:
        """Reject the records of the first batch that cannot be encoded, and keep the others. Call it in the handler of the
        exception, which is raised again if each record alone can be encoded."""
        invalid = [(queued, error) for queued in batch.records if (error := _why_invalid(queued.record))]
        if not invalid:
            raise
        rejected = {id(queued) for queued, _ in invalid}
        batch.records = [queued for queued in batch.records if id(queued) not in rejected]
        if not batch.records:
            self._unacknowledged.remove(batch)
            self._again.popleft()
        for queued, error in invalid:
            queued.on_done(error)

    # --- ends

    def stored(self, batch: OutgoingBatch) -> None:
        """The leader has stored a batch."""
        self.in_flight -= 1
        self._known = batch.stored = True
        if not self.failed:
            self.failures = 0
        self._settle()

    def answered(self, batch: OutgoingBatch, leader: str, code: int, message: str) -> None:
        """The leader answered with an error code and, in case of an error, with a message.

        Records that it rejects finally get a RecordTooLarge or RecordRejected."""
        if code in STORED:
            self.stored(batch)
            return
        self.in_flight -= 1
        self._fail(f"{name_of(code)} {message}".strip())
        if code in PASSING:
            return
        first = self._unacknowledged[0] is batch  # what follows a failed batch is out of order, and is sent again with it
        if code in IDENTITY_UNKNOWN:
            self.identity_refused |= first
        else:
            self.identity_refused = True  # the sequence number of a batch that is not stored would be missing
            self.failures = 0  # it need not be sent again
            self._reject(batch, leader, too_large=code in TOO_LARGE)

    def _settle(self) -> None:
        """Records are reported as stored in the order in which they were posted."""
        unacknowledged = self._unacknowledged
        while unacknowledged and unacknowledged[0].stored:
            unacknowledged.popleft().done(None)

    def _reject(self, batch: OutgoingBatch, leader: str, *, too_large: bool) -> None:
        """Replace a rejected batch by two halves, until the record that is rejected is alone."""
        at = self._unacknowledged.index(batch)
        del self._unacknowledged[at]
        half = len(batch.records) // 2
        if half:
            self._unacknowledged.insert(at, OutgoingBatch(batch.records[half:]))
            self._unacknowledged.insert(at, OutgoingBatch(batch.records[:half]))
            return
        topic, partition = self.partition
        ((record, *_),) = batch.records
        if too_large:
            batch.done(RecordTooLarge(topic, len(record.value or b""), BATCH_BYTES_MAX))
        else:
            batch.done(RecordRejected(topic, partition, leader, self.reason))
        self._settle()

    def lost(self, reason: str) -> None:
        """The outcome of a batch is unknown: there was no response, for this `reason`."""
        self.in_flight -= 1
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self.failures += not self.failed
        self.failed = True
        self.reason = reason

    # --- after a failure

    def delay(self, reason: str) -> None:
        """Note that the caller found no leader or identity: the next attempt is made after a longer backoff."""
        self.failures += 1
        self.reason = reason

    def renew(self, identity: IdempotentIdentity) -> None:
        """Use a new identity, also for the unacknowledged batches: their sequence numbers begin at 0 again."""
        assert not self.in_flight
        self.identity, self.identity_refused, self._known, self._next_sequence = identity, False, False, 0
        for batch in self._unacknowledged:
            batch.data = b""

    def resume(self) -> None:
        """Send the unacknowledged batches again."""
        assert not self.in_flight
        self.failed = False
        self._again = deque(batch for batch in self._unacknowledged if not batch.stored)

    def abandon(self, error: Exception) -> None:
        """Call the callbacks of all records: nothing more is sent."""
        self._remove_discarded()
        queued, self._waiting = self._waiting, deque()
        batches, self._unacknowledged = self._unacknowledged, deque()
        self._again.clear()
        for batch in (*batches, OutgoingBatch(queued)):
            batch.done(error)


def _why_invalid(record: Record) -> Exception | None:
    """Why a record cannot be encoded; None if it can."""
    try:
        build_batch([record])
    except INVALID_RECORD as error:
        return error
    return None
