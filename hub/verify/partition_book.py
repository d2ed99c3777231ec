"""One partition of `hub.events` in log order: epochs, causes, the engine's clock, and the processed intake offsets.

A transaction appears as consecutive offsets; its commit marker takes the next offset.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b

from .facts import Fact
from .history import LogRecord
from .report import Prefix


class PartitionBook:
    """The state of the checker for one partition: a few numbers, and 8 bytes per processed intake record and timer.

    `start`: log start offset; if it is not 0 (`truncated`), creations of entities may be missing. `first_ms`: timestamp of the
    first retained record.
    """

    def __init__(self, partition: int, start: int = 0, earlier: Prefix | None = None) -> None:
        self.partition = partition
        self.start = start
        self.truncated = start > 0
        self.first_ms = -1
        self.events = 0
        self.epoch = -1
        self.time_ms = -1
        self.input_last = -1
        self._input_floor = 0
        self.next_offset = start
        self.decided = array("q")
        self._earlier = earlier if earlier is not None and earlier.start == start else None
        self._digest = blake2b(digest_size=16)
        self._cause = ""
        self._index = -1
        self._cause_begin = -1
        self._transaction_begin = -1
        self._causes: set[int] = set()

    @property
    def prefix(self) -> Prefix:
        """What was read so far, for comparison with a later check."""
        return Prefix(self.start, self.next_offset, self._digest.hexdigest())

    def pass_record(self, record: LogRecord) -> Iterator[tuple[str, str]]:
        """Check the offset and digest of any record; yields (invariant, sentence)."""
        offset = record.offset
        if offset < self.next_offset:
            yield "I9", f"offset {offset} was read after offset {self.next_offset - 1}"
        if self._earlier is not None and offset >= self._earlier.end:
            yield from self.changed_prefix()
        if offset != self.next_offset or self.events == 0:
            self._transaction_begin = offset
        if self.events == 0:
            self.first_ms = record.timestamp_ms
        self.next_offset = offset + 1
        self.events += 1
        self._digest.update(b"%d:" % offset)
        self._digest.update(record.value or b"")

    def changed_prefix(self) -> Iterator[tuple[str, str]]:
        """I9: whether the records up to the end of the earlier check are unchanged."""
        earlier, self._earlier = self._earlier, None
        if earlier is not None and (self.next_offset, self._digest.hexdigest()) != (earlier.end, earlier.digest):
            yield "I9", f"offsets {earlier.start} to {earlier.end} differ from those that an earlier check read"

    def pass_fact(self, fact: Fact) -> Iterator[tuple[str, str]]:
        """Check the provenance of an event; yields (invariant, sentence)."""
        if fact.epoch != self.epoch:
            yield from self._new_epoch(fact)
        if fact.time_ms < self.time_ms:
            yield "I20", f"the engine's time decreased by {self.time_ms - fact.time_ms} ms"
        elif fact.due_ms >= 0 and fact.time_ms < fact.due_ms:
            yield "I20", f"a timer fired {fact.due_ms - fact.time_ms} ms early"
        self.time_ms = max(self.time_ms, fact.time_ms)
        if fact.cause_partition != self.partition:
            yield "I6", f"src {fact.src} belongs to another partition"
        if fact.cause == self._cause:
            yield from self._same_cause(fact)
        else:
            yield from self._next_cause(fact)
        self._index = fact.index
        if fact.type == "engine.started":
            yield from self._continues(fact)

    def may_begin_before(self, run: int) -> bool:
        """Whether an entity of this run may have events before the log start. Intake is processed in order: a run created from
        a later intake record than the first cause in the retained log has its creation in the retained log."""
        return self.truncated and not (self.decided and run > self.decided[0])

    def has_decided(self, offset: int) -> bool:
        """Whether this intake offset is the cause of an event."""
        at = bisect_left(self.decided, offset)
        return at < len(self.decided) and self.decided[at] == offset

    def sort(self) -> None:
        """Make `has_decided` correct even if the log was out of order, which is a finding itself."""
        self.decided = array("q", sorted(self.decided))

    def _new_epoch(self, fact: Fact) -> Iterator[tuple[str, str]]:
        if fact.epoch < self.epoch:
            yield "I5", f"epoch {fact.epoch} follows epoch {self.epoch}"
            yield "I26", f"a record of epoch {fact.epoch} follows a record of its successor, epoch {self.epoch}"
            return
        if self.events > 1 or not self.truncated:
            if self.epoch >= 0 and fact.epoch != self.epoch + 1:
                yield "I25", f"epoch {fact.epoch} follows epoch {self.epoch}"
            if fact.type != "engine.started":
                yield "I25", f"epoch {fact.epoch} starts with {fact.type} instead of engine.started"
        self.epoch = fact.epoch

    def _same_cause(self, fact: Fact) -> Iterator[tuple[str, str]]:
        if fact.index <= self._index:
            yield "I6", f"src {fact.src} is repeated or out of order (previous index: {self._index})"
        elif fact.index != self._index + 1:
            yield "I4", f"index {fact.index} of {fact.cause} follows index {self._index}"
        if self._cause_begin != self._transaction_begin:
            yield "I4", f"the events of {fact.cause} are in two transactions"

    def _next_cause(self, fact: Fact) -> Iterator[tuple[str, str]]:
        self._cause, self._cause_begin = fact.cause, self._transaction_begin
        if fact.index != 0 and not (self.truncated and self.events == 1):
            yield "I4", f"the events of {fact.cause} start with index {fact.index}"
        if fact.input_offset >= 0:
            if fact.input_offset == self.input_last:
                yield "I6", f"intake offset {fact.input_offset} was processed twice"
            elif fact.input_offset < self.input_last:
                yield "I7", f"intake offset {fact.input_offset} was processed after offset {self.input_last}"
            if fact.input_offset < self._input_floor:
                yield (
                    "I24",
                    f"intake offset {fact.input_offset} was processed, but its owner started at offset {self._input_floor}",
                )
            self.input_last = max(self.input_last, fact.input_offset)
            self.decided.append(fact.input_offset)
            return
        if fact.cause_epoch >= 0 and fact.cause_epoch != fact.epoch:
            yield "I26", f"src {fact.src} in epoch {fact.epoch}"
        mark = hash(fact.cause)
        if mark in self._causes:
            yield "I6", f"{fact.cause} was processed twice"
        self._causes.add(mark)

    def _continues(self, fact: Fact) -> Iterator[tuple[str, str]]:
        wanted = fact.data.input_offset
        if wanted <= self.input_last:
            yield "I24", f"the new owner starts at intake offset {wanted}, but offset {self.input_last} was already processed"
        self._input_floor = wanted
