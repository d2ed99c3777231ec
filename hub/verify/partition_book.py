"""One partition of `hub.events` in log order: epochs, causes, the engine's clock, and what of its intake was decided.

A transaction is visible as a run of consecutive offsets: its commit marker takes the next one.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b

from .facts import Fact
from .history import LogRecord
from .report import Prefix


class PartitionBook:
    """What the checker keeps of one partition: a few numbers, 8 bytes per decided intake record and per agenda item.

    `start`: the first offset kept; where it is above 0 (`truncated`), entities may begin in the middle. `first_ms`: the timestamp
    of the first kept record.
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
        """What was read so far, to compare later readings with."""
        return Prefix(self.start, self.next_offset, self._digest.hexdigest())

    def pass_record(self, record: LogRecord) -> Iterator[tuple[str, str]]:
        """Take a record's place and bytes into account, whatever it holds; yields (invariant, sentence)."""
        offset = record.offset
        if offset < self.next_offset:
            yield "I9", f"offset {offset} is read after {self.next_offset - 1}"
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
        """I9: whether what was read up to the end of the earlier report is what that report read."""
        earlier, self._earlier = self._earlier, None
        if earlier is not None and (self.next_offset, self._digest.hexdigest()) != (earlier.end, earlier.digest):
            yield "I9", f"offsets {earlier.start} to {earlier.end} are not what an earlier check read"

    def pass_fact(self, fact: Fact) -> Iterator[tuple[str, str]]:
        """Take an event's provenance into account; yields (invariant, sentence)."""
        if fact.epoch != self.epoch:
            yield from self._new_epoch(fact)
        if fact.time_ms < self.time_ms:
            yield "I20", f"the engine's time goes back by {self.time_ms - fact.time_ms} ms"
        elif fact.due_ms >= 0 and fact.time_ms < fact.due_ms:
            yield "I20", f"an agenda item due in {fact.due_ms - fact.time_ms} ms was taken"
        self.time_ms = max(self.time_ms, fact.time_ms)
        if fact.cause_partition != self.partition:
            yield "I6", f"src {fact.src} is of another partition"
        if fact.cause == self._cause:
            yield from self._same_cause(fact)
        else:
            yield from self._next_cause(fact)
        self._index = fact.index
        if fact.type == "engine.started":
            yield from self._continues(fact)

    def may_begin_before(self, run: int) -> bool:
        """Whether an entity of this run may have events before the first kept one. Intake is decided in order: what was begun by
        a later record than the first that a kept event names was begun by a kept event."""
        return self.truncated and not (self.decided and run > self.decided[0])

    def has_decided(self, offset: int) -> bool:
        """Whether an event names this intake offset as its cause."""
        at = bisect_left(self.decided, offset)
        return at < len(self.decided) and self.decided[at] == offset

    def sort(self) -> None:
        """Make `has_decided` right even where the log was out of order (which is a finding by itself)."""
        self.decided = array("q", sorted(self.decided))

    def _new_epoch(self, fact: Fact) -> Iterator[tuple[str, str]]:
        if fact.epoch < self.epoch:
            yield "I5", f"epoch {fact.epoch} follows epoch {self.epoch}"
            yield "I26", f"a record of the owner of epoch {fact.epoch} follows its successor's (epoch {self.epoch})"
            return
        if self.events > 1 or not self.truncated:
            if self.epoch >= 0 and fact.epoch != self.epoch + 1:
                yield "I25", f"epoch {fact.epoch} follows epoch {self.epoch}"
            if fact.type != "engine.started":
                yield "I25", f"epoch {fact.epoch} begins with {fact.type}, not with engine.started"
        self.epoch = fact.epoch

    def _same_cause(self, fact: Fact) -> Iterator[tuple[str, str]]:
        if fact.index <= self._index:
            yield "I6", f"src {fact.src} is repeated or out of order (index {self._index} came before)"
        elif fact.index != self._index + 1:
            yield "I4", f"index {fact.index} of {fact.cause} follows index {self._index}"
        if self._cause_begin != self._transaction_begin:
            yield "I4", f"the events of {fact.cause} are torn over two transactions"

    def _next_cause(self, fact: Fact) -> Iterator[tuple[str, str]]:
        self._cause, self._cause_begin = fact.cause, self._transaction_begin
        if fact.index != 0 and not (self.truncated and self.events == 1):
            yield "I4", f"the events of {fact.cause} begin with index {fact.index}"
        if fact.input_offset >= 0:
            if fact.input_offset == self.input_last:
                yield "I6", f"intake offset {fact.input_offset} is decided in two places"
            elif fact.input_offset < self.input_last:
                yield "I7", f"intake offset {fact.input_offset} is decided after {self.input_last}"
            if fact.input_offset < self._input_floor:
                yield "I24", f"intake offset {fact.input_offset} is decided; its owner began at {self._input_floor}"
            self.input_last = max(self.input_last, fact.input_offset)
            self.decided.append(fact.input_offset)
            return
        if fact.cause_epoch >= 0 and fact.cause_epoch != fact.epoch:
            yield "I26", f"src {fact.src} in epoch {fact.epoch}"
        mark = hash(fact.cause)
        if mark in self._causes:
            yield "I6", f"{fact.cause} is decided in two places"
        self._causes.add(mark)

    def _continues(self, fact: Fact) -> Iterator[tuple[str, str]]:
        wanted = fact.data.input_offset
        if wanted <= self.input_last:
            yield "I24", f"the new owner begins at intake offset {wanted}; {self.input_last} was decided before"
        self._input_floor = wanted
