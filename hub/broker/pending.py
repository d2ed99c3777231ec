"""The pending journal block: what has changed in memory and is not on disk yet, and who waits for it.

Every change of durable state goes through `append` (record batches) or `record` (everything else): both change memory
at once and add an entry to the pending block. Nothing is visible to clients, and no answer that promises durability
leaves, before the block is written. Replay runs the same functions on the entries read back.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from .batches import BatchHeader, placed, read_header, stamped
from .errors import StorageDamaged
from .log import LogKey, PartitionLog
from .timing import Clock, Deferred

_ENTRY = struct.Struct(">BI")
_LOG = struct.Struct(">II")
_APPEND, _RECORD = 1, 2


@dataclass(slots=True)
class PendingBlock:
    """What one journal block holds, and who waits for it."""

    parts: list[bytes]
    marks: list[tuple[PartitionLog, int]]
    waiting: list[tuple[Deferred, Any]]


class Pending:
    """See the module. Entries of one kind are applied by the function that was registered for it."""

    def __init__(self, clock: Clock, find_log: Callable[[LogKey], PartitionLog | None]) -> None:
        self.bytes = 0
        """Size of the block so far."""
        self.on_flush_needed: Callable[[bool], None] = lambda urgent: None
        """Called when there is something to write; urgent when somebody waits for it."""
        self._clock = clock
        self._find_log = find_log
        self._parts: list[bytes] = []
        self._touched: dict[PartitionLog, None] = {}
        self._waiting: list[tuple[Deferred, Any]] = []
        self._appliers: dict[str, Callable[..., None]] = {}

    def register(self, operation: str, apply: Callable[..., None]) -> None:
        """Make `apply(*arguments)` the function behind `record(operation, *arguments)`."""
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
        base, now_ms = log.end, self._clock.now_ms()
        if log.settings.append_time:
            batch, header = stamped(batch, header, now_ms)
        batch = placed(batch, base)
        self._parts += (_ENTRY.pack(_APPEND, len(batch) + _LOG.size), _LOG.pack(*log.key), batch)
        self.bytes += len(batch)
        log.append(batch, header, now_ms)
        self._touched[log] = None
        for wake in tuple(log.append_waiters):
            wake()
        self.on_flush_needed(False)
        return base

    def when_stable(self, value: Any) -> Deferred:
        """An answer that is given once everything done so far is on disk."""
        deferred = Deferred()
        self._waiting.append((deferred, value))
        self.on_flush_needed(True)
        return deferred

    # --- writing it

    @property
    def is_due(self) -> bool:
        """Something is to be written or somebody waits."""
        return bool(self._parts or self._waiting)

    def cut(self) -> PendingBlock:
        """Take the block; the next change starts another."""
        block = PendingBlock(self._parts, [(log, log.end) for log in self._touched], self._waiting)
        self._parts, self._touched, self._waiting, self.bytes = [], {}, [], 0
        return block

    @staticmethod
    def written(block: PendingBlock) -> None:
        """The block is on disk: show it to readers and give the answers that waited for it."""
        woken: dict[Callable[[], None], None] = {}
        for log, end in block.marks:
            log.advance(end)
            woken.update(log.waiters)
        for deferred, value in block.waiting:
            deferred.resolve(value)
        for wake in woken:
            wake()

    # --- reading it back

    def replay(self, payload: bytes) -> None:
        """Apply the entries of a block read back from the journal. Raises `StorageDamaged`."""
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
            raise StorageDamaged(f"{log.key}: the journal continues at {header.base_offset}, the log ends at {log.end}")
        log.append(batch, header, self._clock.now_ms())
        log.advance(log.end)
