"""The transaction coordinator: producer ids, epochs, commits and aborts.

Both versions of the protocol are supported. In version 1 the producer first adds partitions and groups (AddPartitionsToTxn,
AddOffsetsToTxn) and keeps its epoch over many transactions. In version 2 (KIP-890; Produce v12, TxnOffsetCommit v5, EndTxn v5)
they are added implicitly, and the producer gets a new epoch with every transaction, so a delayed request of an earlier
transaction cannot affect a later one.

The single node writes the markers of all partitions in the block that ends the transaction, so a producer never waits for the
markers of an earlier one. Open transactions are not stored here: after a restart they are derived from the logs, and every
transaction that may have been open is aborted with a new epoch before clients can connect. Therefore produce requests inside a
transaction need no sync.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..protocol import ErrorCode
from .batches import BatchHeader, marker_batch, read_header
from .log import PartitionLog
from .state import BrokerState
from .timing import Timer

Offset = tuple[str, int, int, int, str | None]
"""(topic, partition, committed offset, leader epoch, metadata)"""


class EndedTransaction(NamedTuple):
    """How the last transaction (protocol version 2) ended, because its EndTxn may be retried."""

    producer_id: int
    epoch: int
    commit: bool


class ProducerIdentity(NamedTuple):
    """Result of initialising a producer or ending a transaction."""

    error: ErrorCode
    producer_id: int = -1
    epoch: int = -1


@dataclass(slots=True)
class Transactional:
    """The state of one transactional id."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    used_ms: int
    """When its last transaction ended or a producer initialised it, in ms."""
    ended: EndedTransaction | None = None
    previous_producer_id: int = -1
    open: bool = False
    partitions: dict[tuple[str, int], PartitionLog] = field(default_factory=dict)
    offsets: dict[str, list[Offset]] = field(default_factory=dict)
    """Offsets to commit with the transaction, by group."""
    timer: Timer | None = None


class TransactionCoordinator:
    """The transactional ids and producer ids of the broker."""

    def __init__(self, state: BrokerState, commit_offsets: Callable[[str, list[Offset]], None]) -> None:
        self._state = state
        self._commit_offsets = commit_offsets
        self._by_id: dict[str, Transactional] = {}
        self._next_producer_id = 1000
        state.pending.register("transactional", self._apply)
        state.pending.register("producer_id", self._apply_producer_id)
        state.pending.register("forget_transactional", self._apply_forget)

    # --- identities

    def init_producer(
        self, transactional_id: str | None, timeout_ms: int, producer_id: int = -1, epoch: int = -1
    ) -> ProducerIdentity:
        """A new producer identity. With a transactional id, also abort the open transaction of its predecessor and fence it."""
        if transactional_id is None:
            return ProducerIdentity(ErrorCode.NONE, self._new_producer_id(), 0)
        if not transactional_id:
            return ProducerIdentity(ErrorCode.INVALID_REQUEST)
        if not 0 < timeout_ms <= self._state.settings.transaction_timeout_ms_max:
            return ProducerIdentity(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        entry = self._by_id.get(transactional_id)
        if entry is None:
            self._store(transactional_id, self._new_producer_id(), 0, timeout_ms, None)
        else:
            if producer_id >= 0 and (entry.producer_id, entry.epoch) != (producer_id, epoch):
                return ProducerIdentity(ErrorCode.PRODUCER_FENCED)
            self._fence(entry, timeout_ms)
        entry = self._by_id[transactional_id]
        return ProducerIdentity(ErrorCode.NONE, entry.producer_id, entry.epoch)

    def _new_producer_id(self) -> int:
        producer_id = self._next_producer_id
        self._state.record("producer_id", producer_id + 1)
        return producer_id

    def _fence(self, entry: Transactional, timeout_ms: int, used_ms: int | None = None) -> None:
        """Give the transactional id a new identity, and abort its open transaction with markers that fence the old identity.
        `used_ms`: time of last use, if not now."""
        if entry.open:
            self._write_markers(entry, entry.epoch + 1, commit=False)
            self._close(entry)
        self._store(entry.transactional_id, *self._next_identity(entry), timeout_ms, None, used_ms)

    def _next_identity(self, entry: Transactional) -> tuple[int, int]:
        if entry.epoch >= self._state.settings.producer_epoch_max - 1:
            return self._new_producer_id(), 0
        return entry.producer_id, entry.epoch + 1

    def _store(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        timeout_ms: int,
        ended: EndedTransaction | None,
        used_ms: int | None = None,
    ) -> None:
        used_ms = self._state.clock.now_ms() if used_ms is None else used_ms
        self._state.record("transactional", transactional_id, producer_id, epoch, timeout_ms, ended, used_ms)

    def _apply(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        timeout_ms: int,
        ended: tuple[int, int, bool] | None,
        used_ms: int = -1,
    ) -> None:
        if used_ms < 0:  # written by a release that did not store it
            used_ms = self._state.clock.now_ms()
        entry = self._by_id.get(transactional_id)
        if entry is None:
            entry = self._by_id[transactional_id] = Transactional(transactional_id, producer_id, epoch, timeout_ms, used_ms)
        entry.used_ms = used_ms
        if entry.producer_id != producer_id:
            entry.previous_producer_id = entry.producer_id
        entry.producer_id, entry.epoch, entry.timeout_ms = producer_id, epoch, timeout_ms
        entry.ended = None if ended is None else EndedTransaction(*ended)

    def expire(self, before_ms: int) -> None:
        """Remove the transactional ids that were not used since `before_ms`. A producer that uses one later gets
        INVALID_PRODUCER_ID_MAPPING and must initialise again."""
        idle = [entry.transactional_id for entry in self._by_id.values() if not entry.open and entry.used_ms < before_ms]
        for transactional_id in idle:
            self._state.record("forget_transactional", transactional_id)

    def _apply_forget(self, transactional_id: str) -> None:
        self._by_id.pop(transactional_id, None)

    def _apply_producer_id(self, next_producer_id: int) -> None:
        self._next_producer_id = max(self._next_producer_id, next_producer_id)

    # --- inside a transaction

    def check(self, transactional_id: str | None, producer_id: int, epoch: int) -> tuple[ErrorCode, Transactional | None]:
        """Check that this producer currently owns the transactional id. PRODUCER_FENCED for any other epoch."""
        entry = self._by_id.get(transactional_id) if transactional_id else None
        if entry is None or entry.producer_id != producer_id:
            fenced = entry is not None and entry.previous_producer_id == producer_id
            return (ErrorCode.PRODUCER_FENCED if fenced else ErrorCode.INVALID_PRODUCER_ID_MAPPING), None
        if entry.epoch != epoch:
            return ErrorCode.PRODUCER_FENCED, None
        return ErrorCode.NONE, entry

    def add_partitions(self, entry: Transactional, partitions: Iterable[tuple[str, int, PartitionLog]]) -> None:
        """Add partitions to the open transaction; starts one if none is open."""
        self._begin(entry)
        for topic, partition, log in partitions:
            entry.partitions[topic, partition] = log

    def add_group(self, entry: Transactional, group: str) -> None:
        """Add a group, whose offsets will be committed with the transaction."""
        self._begin(entry)
        entry.offsets.setdefault(group, [])

    def check_produce(
        self, transactional_id: str | None, producer_id: int, epoch: int, topic: str, log: PartitionLog, *, implicit: bool
    ) -> ErrorCode:
        """Check that a transactional batch may be appended to the log; `implicit` adds its partition to the transaction."""
        error, entry = self.check(transactional_id, producer_id, epoch)
        if entry is None:
            return ErrorCode.INVALID_PRODUCER_EPOCH if error is ErrorCode.PRODUCER_FENCED else error
        key = (topic, log.key.partition)
        if entry.partitions.get(key) is not log:
            if not implicit:
                return ErrorCode.INVALID_TXN_STATE
            self.add_partitions(entry, [(*key, log)])
        return ErrorCode.NONE

    def add_offsets(self, entry: Transactional, group: str, offsets: list[Offset], *, implicit: bool) -> ErrorCode:
        """Add offsets that take effect when the transaction commits."""
        if group not in entry.offsets:
            if not implicit:
                return ErrorCode.INVALID_TXN_STATE
            self.add_group(entry, group)
        entry.offsets[group] += offsets
        return ErrorCode.NONE

    def has_pending_offsets(self, group: str, topic: str, partition: int) -> bool:
        """Whether an open transaction has an uncommitted offset for this partition."""
        return any(
            offset[:2] == (topic, partition)
            for entry in self._by_id.values()
            if entry.open
            for offset in entry.offsets.get(group, ())
        )

    def _begin(self, entry: Transactional) -> None:
        if not entry.open:
            entry.open, entry.ended = True, None
            entry.timer = self._state.timers.after(entry.timeout_ms / 1000, lambda: self._time_out(entry))

    def _time_out(self, entry: Transactional) -> None:
        if entry.open:
            self._fence(entry, entry.timeout_ms)

    # --- ending

    def end(self, transactional_id: str, producer_id: int, epoch: int, *, commit: bool, bump: bool) -> ProducerIdentity:
        """Commit or abort a transaction. `bump`: protocol version 2, in which the result has the identity for the next one."""
        entry = self._by_id.get(transactional_id)
        if bump and entry is not None and entry.ended is not None and entry.ended[:2] == (producer_id, epoch):
            error = ErrorCode.NONE if commit == entry.ended.commit else ErrorCode.INVALID_TXN_STATE
            return ProducerIdentity(error, entry.producer_id, entry.epoch)
        error, entry = self.check(transactional_id, producer_id, epoch)
        if entry is None:
            return ProducerIdentity(error)
        if bump:
            return self._end_and_bump(entry, commit=commit)
        if not entry.open:
            repeated = entry.ended == (producer_id, epoch, commit)
            return ProducerIdentity(ErrorCode.NONE if repeated else ErrorCode.INVALID_TXN_STATE)
        self._write_markers(entry, entry.epoch, commit=commit)
        self._close(entry)
        self._store(transactional_id, producer_id, epoch, entry.timeout_ms, EndedTransaction(producer_id, epoch, commit))
        return ProducerIdentity(ErrorCode.NONE, producer_id, epoch)

    def _end_and_bump(self, entry: Transactional, *, commit: bool) -> ProducerIdentity:
        if not entry.open and commit:
            return ProducerIdentity(ErrorCode.INVALID_TXN_STATE)
        self._write_markers(entry, entry.epoch + 1, commit=commit)
        self._close(entry)
        ended = EndedTransaction(entry.producer_id, entry.epoch, commit)
        self._store(entry.transactional_id, *self._next_identity(entry), entry.timeout_ms, ended)
        return ProducerIdentity(ErrorCode.NONE, entry.producer_id, entry.epoch)

    def append_owned(
        self, entry: Transactional, batches: list[tuple[PartitionLog, bytes, BatchHeader]], marked: Iterable[PartitionLog]
    ) -> list[int]:
        """Append checked batches without producer ids in one journal block, for the owner of a transactional id that has no
        open transaction, and commit markers to the logs `marked`. Returns the base offsets of the batches."""
        marker = self._marker(entry.producer_id, entry.epoch, commit=True)
        offsets = self._state.append_all([*batches, *[(log, *marker) for log in marked]])
        entry.used_ms = self._state.clock.now_ms()
        return offsets[: len(batches)]

    def _write_markers(self, entry: Transactional, epoch: int, *, commit: bool) -> None:
        marker = self._marker(entry.producer_id, epoch, commit=commit)
        for log in entry.partitions.values():
            if self._state.topics.hold(log):
                self._state.append(log, *marker)
        if commit:
            for group, offsets in entry.offsets.items():
                self._commit_offsets(group, offsets)

    def _marker(self, producer_id: int, epoch: int, *, commit: bool) -> tuple[bytes, BatchHeader]:
        """The commit or abort marker of a transaction, to be appended to each of its logs."""
        marker = marker_batch(0, producer_id, epoch, commit=commit, timestamp_ms=self._state.clock.now_ms())
        return marker, read_header(marker)

    def _close(self, entry: Transactional) -> None:
        entry.open, entry.partitions, entry.offsets = False, {}, {}
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    # --- restarts

    def abort_open(self) -> None:
        """Abort every open transaction and fence its producer, for an orderly shutdown."""
        for entry in list(self._by_id.values()):
            if entry.open:
                self._fence(entry, entry.timeout_ms)

    def resolve_after_restart(self, *, clean: bool) -> None:
        """Abort open transactions. After a crash every transactional id gets a new epoch: it may have had a transaction of
        which nothing reached the disk, and its producer must not continue that."""
        left: dict[int, list[PartitionLog]] = {}
        for log in self._state.topics.logs():
            for producer_id in log.open:
                left.setdefault(producer_id, []).append(log)
        owners = {entry.producer_id: entry for entry in self._by_id.values()}
        for producer_id, logs in left.items():
            for log in logs:
                epoch = log.producers[producer_id].epoch + 1
                self._state.append(log, *self._marker(producer_id, min(epoch, 32767), commit=False))
        for producer_id, entry in owners.items():
            if not clean or producer_id in left:
                self._fence(entry, entry.timeout_ms, entry.used_ms)

    # --- checkpoints

    def snapshot(self) -> dict[str, Any]:
        """Identities, for a checkpoint; open transactions are derived from the logs."""
        return {
            "next_producer_id": self._next_producer_id,
            "ids": [(e.transactional_id, e.producer_id, e.epoch, e.timeout_ms, e.ended, e.used_ms) for e in self._by_id.values()],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Inverse of `snapshot`."""
        self._next_producer_id = snapshot["next_producer_id"]
        for entry in snapshot["ids"]:
            self._apply(*entry)
