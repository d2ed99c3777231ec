"""The pending journal block: changes that are in memory but not yet on disk, and the responses that wait for them.

Every change of durable state goes through `append` (record batches) or `record` (everything else). Both change memory at once
and add an entry to the pending block. Changes become visible to clients, and responses that promise durability are sent, only
after the block is written. Replay calls the same functions with the entries read from the journal.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from .batches import BatchHeader, placed, read_header, stamped
from .errors import StorageDamaged
from .log import LogKey, PartitionLog
from .timing import Clock, Deferred

_ENTRY = struct.Struct(">BI")
_LOG = struct.Struct(">II")
_APPENDED = struct.Struct(">BIII")
"""The head of an entry for a batch: kind, length of the rest, and the key of its log."""
_APPEND, _RECORD = 1, 2


@dataclass(slots=True)
class PendingBlock:
    """The content of one journal block, and the responses that wait for it."""

    parts: list[bytes]
    marks: list[tuple[PartitionLog, int]]
    waiting: list[tuple[Deferred, Any]]


class Pending:
    """The pending block. The function registered for an operation applies its entries."""

    def __init__(self, clock: Clock, find_log: Callable[[LogKey], PartitionLog | None]) -> None:
        self.bytes = 0
        """Size of the block so far, in bytes."""
        self.appended_bytes = self.appended_records = 0
        """Size and records of the batches that were appended since the start, without those of the replay."""
        self.on_flush_needed: Callable[[bool], None] = lambda urgent: None
        """Called when there is something to write; `urgent` if a response waits for it."""
        self._clock = clock
        self._find_log = find_log
        self._parts: list[bytes] = []
        self._touched: dict[PartitionLog, None] = {}
        self._waiting: list[tuple[Deferred, Any]] = []
        self._appliers: dict[str, Callable[..., None]] = {}

    def register(self, operation: str, apply: Callable[..., None]) -> None:
        """Register the function that `record(operation, *arguments)` calls with `arguments`."""
        self._appliers[operation] = apply

    # --- changing durable state

    def record(self, operation: str, *arguments: Any) -> None:
        """Apply a change and add it to the block."""
        body = msgspec.msgpack.encode((operation, *arguments))
        self._parts += (_ENTRY.pack(_RECORD, len(body)), body)
        self.bytes += len(body)
        self._appliers[operation](*arguments)
        self.on_flush_needed(False)

    def append(self, log: PartitionLog, batch: bytes, header: BatchHeader) -> int:
        """Append a checked batch; returns its base offset."""
        base = self._add(log, batch, header, self._clock.now_ms())
        self.on_flush_needed(False)
        return base

    def append_all(self, batches: Iterable[tuple[PartitionLog, bytes, BatchHeader]]) -> list[int]:
        """Append checked batches; returns their base offsets."""
        now_ms = self._clock.now_ms()
        bases = [self._add(log, batch, header, now_ms) for log, batch, header in batches]
        self.on_flush_needed(False)
        return bases

    def _add(self, log: PartitionLog, batch: bytes, header: BatchHeader, now_ms: int) -> int:
        base = log.end
        if log.settings.append_time:
            batch, header = stamped(batch, header, now_ms)
        batch = placed(batch, base)
        size = len(batch)
        self._parts += (_APPENDED.pack(_APPEND, size + _LOG.size, *log.key), batch)
        self.bytes += size
        self.appended_bytes += size
        self.appended_records += header.record_count
        log.append(batch, header, now_ms)
        self._touched[log] = None
        if log.append_waiters:
            for wake in tuple(log.append_waiters):
                wake()
        return base

    def request_flush(self) -> None:
        """Request that all changes so far are written now, although no response waits for them."""
        self.on_flush_needed(True)

    def when_stable(self, value: Any) -> Deferred:
        """A response that is resolved with `value` when all changes so far are on disk."""
        deferred = Deferred()
        self._waiting.append((deferred, value))
        self.on_flush_needed(True)
        return deferred

    # --- writing

    @property
    def is_due(self) -> bool:
        """Whether there is something to write or a response waits."""
        return bool(self._parts or self._waiting)

    def cut(self) -> PendingBlock:
        """Take the block; the next change starts a new one."""
        block = PendingBlock(self._parts, [(log, log.end) for log in self._touched], self._waiting)
        self._parts, self._touched, self._waiting, self.bytes = [], {}, [], 0
        return block

    @staticmethod
    def written(block: PendingBlock) -> None:
        """Call when the block is on disk: makes it visible to readers and resolves the responses that waited.

        Readers are woken first, those of a transaction in the order of its batches: the content of a block (a command, a result)
        is usually more urgent than its acknowledgement, and each response that is sent delays the next one. If some cannot be
        answered, all others are, and an ExceptionGroup is raised."""
        woken: dict[Callable[[], None], None] = {}
        for log, end in block.marks:
            log.advance(end)
            if log.waiters:
                woken.update(log.waiters)
        failures: list[Exception] = []
        for wake in woken:
            try:
                wake()
            except Exception as failure:  # a segment that cannot be read, for example
                failures.append(failure)
        for deferred, value in block.waiting:
            deferred.resolve(value)
        if failures:
            raise ExceptionGroup("readers could not be answered", failures)

    # --- replay

    def replay(self, payload: bytes) -> None:
        """Apply the entries of a block read from the journal. Raises `StorageDamaged`."""
        at, size = 0, len(payload)
        while at < size:
            kind, length = _ENTRY.unpack_from(payload, at)
            at += _ENTRY.size
            if kind == _APPEND:
                log = self._find_log(LogKey(*_LOG.unpack_from(payload, at)))
                if log is not None:
                    self._replay_batch(log, payload[at + _LOG.size : at + length])
            else:
                operation, *arguments = msgspec.msgpack.decode(payload[at : at + length])
                self._appliers[operation](*arguments)
            at += length

    def _replay_batch(self, log: PartitionLog, batch: bytes) -> None:
        header = read_header(batch)
        if header.base_offset != log.end:
            raise StorageDamaged(
                f"{log.key}: the journal continues at offset {header.base_offset}, but the log ends at {log.end}"
            )
        log.append(batch, header, self._clock.now_ms())
        log.advance(log.end)
