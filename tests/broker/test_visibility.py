"""A state machine over core and disk: consumers see exactly the committed records.

Includes flushes, checkpoints (also failing ones), crashes and restarts.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.broker import Broker, BrokerSettings
from hub.broker.batches import check_batch, marker_commits, read_header
from hub.broker.files import FileStorage
from hub.broker.local import LocalBroker
from hub.protocol import ErrorCode
from hub.protocol.batch_layout import whole_batches

from .client import batch, values_of

PARTITIONS = (0, 1)
OWNERS = ("tx-a", "tx-b")


@dataclass
class Written:
    """A batch as the model knows it; `transaction` is None for plain ones."""

    offset: int
    values: list[bytes]
    transaction: "Transaction | None" = None


@dataclass(eq=False)
class Transaction:
    """A transaction of the model. `markers`: offset of its end by partition."""

    owner: str
    fate: str = "open"
    markers: dict[int, int] = field(default_factory=dict)


class Model:
    """What should be there: batches by partition, how far each log goes."""

    def __init__(self) -> None:
        self.batches: dict[int, list[Written]] = {partition: [] for partition in PARTITIONS}
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self.stable = dict.fromkeys(PARTITIONS, 0)

    def visible(self, partition: int, *, unsynced: bool) -> tuple[int, list[bytes]]:
        """(last stable offset, values before it that count)."""
        end = self.ends[partition] if unsynced else self.stable[partition]
        limit = end
        for entry in self.batches[partition]:
            transaction = entry.transaction
            if transaction is not None and (transaction.fate == "open" or transaction.markers[partition] >= end):
                limit = min(limit, entry.offset)
        values: list[bytes] = []
        for entry in self.batches[partition]:
            if entry.offset < limit and (entry.transaction is None or entry.transaction.fate == "committed"):
                values += entry.values
        return limit, values


class Visibility(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="broker-"))
        self.model = Model()
        self.owners: dict[str, tuple[int, int]] = {}
        self.known: dict[str, tuple[int, int]] = {}
        """Identities that their owners were told of: answers wait for the disk."""
        self.sequences: dict[tuple[str, int], int] = {}
        self.open: dict[str, Transaction] = {}
        self.number = 0
        self.reopen()
        self.core.state.topics.create("t", len(PARTITIONS), {})
        self.flush()

    def reopen(self) -> None:
        self.storage = FileStorage(self.directory / "data", journal_file_bytes=4096, checkpoint_bytes=1 << 20, segment_bytes=3000)
        self.core = Broker(self.storage, settings=BrokerSettings(producer_epoch_max=5))
        self.core.recover()
        self.local = LocalBroker(self.core)
        self.flush_core()

    def flush_core(self) -> None:
        block = self.core.cut()
        if block.parts:
            self.storage.write(block.parts)
        self.core.written(block)

    def values(self) -> list[bytes]:
        self.number += 1
        return [b"%d-%d" % (self.number, index) for index in range(1 + self.number % 3)]

    def close_in_model(self, owner: str, fate: str) -> None:
        """Every partition of the open transaction gets a marker."""
        transaction = self.open.pop(owner)
        transaction.fate = fate
        for partition in PARTITIONS:
            if any(entry.transaction is transaction for entry in self.model.batches[partition]):
                transaction.markers[partition] = self.model.ends[partition]
                self.model.ends[partition] += 1

    # --- writing

    @rule(partition=st.sampled_from(PARTITIONS))
    def append_plain(self, partition: int) -> None:
        values = self.values()
        offset = self.local.append_soon("t", partition, batch(values))
        assert offset == self.model.ends[partition]
        self.model.batches[partition].append(Written(offset, values))
        self.model.ends[partition] += len(values)

    @rule(owner=st.sampled_from(OWNERS))
    def take_over(self, owner: str) -> None:
        """A producer starts; its predecessor's open transaction is aborted."""
        result = self.core.transactions.init_producer(owner, 60_000)
        assert result.error is ErrorCode.NONE
        assert (result.producer_id, result.epoch) > self.known.get(owner, (-1, -1))
        if owner in self.open:
            self.close_in_model(owner, "aborted")
        self.adopt(owner, (result.producer_id, result.epoch))

    def adopt(self, owner: str, identity: tuple[int, int]) -> None:
        self.owners[owner] = identity
        for partition in PARTITIONS:
            self.sequences[owner, partition] = 0

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), partition=st.sampled_from(PARTITIONS))
    def append_in_transaction(self, data: st.DataObject, partition: int) -> None:
        owner = data.draw(st.sampled_from(sorted(self.owners)))
        producer_id, epoch = self.owners[owner]
        values, sequence = self.values(), self.sequences[owner, partition]
        raw = batch(values, producer_id=producer_id, epoch=epoch, sequence=sequence, transactional=True)
        log = self.core.state.log("t", partition)
        error, header = check_batch(raw, 1 << 20)
        assert log is not None
        assert header is not None, error
        error = self.core.transactions.check_produce(owner, producer_id, epoch, "t", log, implicit=True)
        assert error is ErrorCode.NONE
        assert log.check_producer(header) == (ErrorCode.NONE, None)
        offset = self.core.state.append(log, raw, header)
        assert log.check_producer(header) == (ErrorCode.NONE, offset)
        transaction = self.open.setdefault(owner, Transaction(owner))
        self.model.batches[partition].append(Written(offset, values, transaction))
        self.model.ends[partition] += len(values)
        self.sequences[owner, partition] += len(values)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commit=st.booleans())
    def end_transaction(self, data: st.DataObject, commit: bool) -> None:
        owner = data.draw(st.sampled_from(sorted(self.open)))
        old = self.owners[owner]
        result = self.core.transactions.end(owner, *old, commit=commit, bump=True)
        again = self.core.transactions.end(owner, *old, commit=commit, bump=True)
        assert result == again
        assert result.error is ErrorCode.NONE
        self.close_in_model(owner, "committed" if commit else "aborted")
        self.adopt(owner, (result.producer_id, result.epoch))

    # --- disk

    @rule()
    def flush(self) -> None:
        self.flush_core()
        self.model.stable = dict(self.model.ends)
        self.known = dict(self.owners)

    @rule()
    def checkpoint(self) -> None:
        self.flush()
        plan = self.core.plan_checkpoint(clean=False)
        self.storage.checkpoint(plan, self.storage.begin_checkpoint())
        self.core.checkpointed(plan)

    @rule()
    def failing_checkpoint(self) -> None:
        """Segments are written, the checkpoint itself is not."""
        self.flush()
        for tail in self.core.plan_checkpoint(clean=False).tails:
            self.storage.segments.append(tail)

    @rule()
    def crash(self) -> None:
        """What was not written is gone; what was open is aborted; every owner has to start again."""
        self.storage.close()
        for partition in PARTITIONS:
            kept = [e for e in self.model.batches[partition] if e.offset < self.model.stable[partition]]
            self.model.batches[partition] = kept
            self.model.ends[partition] = self.model.stable[partition]
        for entries in self.model.batches.values():
            for entry in entries:
                transaction = entry.transaction
                if transaction is not None and transaction.fate != "open":
                    lost = {p: at for p, at in transaction.markers.items() if at >= self.model.stable[p]}
                    if lost:
                        transaction.fate, transaction.markers = "open", {}
        self.after_restart()

    @rule()
    def restart(self) -> None:
        self.core.transactions.abort_open()
        for owner in list(self.open):
            self.close_in_model(owner, "aborted")
        self.flush()
        plan = self.core.plan_checkpoint(clean=True)
        self.storage.checkpoint(plan, self.storage.begin_checkpoint())
        self.storage.close()
        self.model.stable = dict(self.model.ends)
        self.after_restart()

    def after_restart(self) -> None:
        self.reopen()
        for partition in PARTITIONS:
            left = {}
            for entry in self.model.batches[partition]:
                if entry.transaction is not None and entry.transaction.fate == "open":
                    left[id(entry.transaction)] = entry.transaction
            for transaction in left.values():
                transaction.markers[partition] = self.model.ends[partition]
                self.model.ends[partition] += 1
        for entries in self.model.batches.values():
            for entry in entries:
                if entry.transaction is not None and entry.transaction.fate == "open":
                    entry.transaction.fate = "aborted"
        self.model.stable = dict(self.model.ends)
        self.open, self.owners = {}, {}
        for owner in self.known:
            self.take_over(owner)

    # --- what must hold

    @invariant()
    def readers_see_exactly_what_was_committed(self) -> None:
        if not hasattr(self, "core"):
            return
        for partition in PARTITIONS:
            for unsynced in (False, True):
                limit, values = self.model.visible(partition, unsynced=unsynced)
                assert self.local.end("t", partition, unsynced=unsynced) == limit
                assert self.committed(partition, limit, unsynced=unsynced) == values

    def committed(self, partition: int, end: int, *, unsynced: bool) -> list[bytes]:
        """Read as a committed consumer does: by batches, aborted transactions from the list, ended by their markers."""
        found: list[bytes] = []
        offset = 0
        while offset < end:
            fetched = self.local.fetch("t", partition, offset, max_bytes=700, unsynced=unsynced)
            waiting, aborting = sorted(fetched.aborted, key=lambda entry: entry[1]), set()
            for base, begin, stop in whole_batches(fetched.data):
                raw = fetched.data[begin:stop]
                header = read_header(raw)
                assert header.last_offset < end
                while waiting and waiting[0][1] <= header.last_offset:
                    aborting.add(waiting.pop(0)[0])
                if header.control:
                    if not marker_commits(raw):
                        aborting.discard(header.producer_id)
                elif header.last_offset >= offset and not (header.transactional and header.producer_id in aborting):
                    found += values_of(raw)
                offset = base + header.last_offset_delta + 1
        return found

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.storage.close()
            shutil.rmtree(self.directory)


TestVisibility = Visibility.TestCase
TestVisibility.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
