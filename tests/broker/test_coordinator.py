"""The transaction coordinator, without sockets and with a manual clock: identities, fencing, both versions of the protocol."""

from typing import Any

import pytest

from hub.broker import Broker, BrokerSettings, MemoryStorage
from hub.broker.batches import read_header
from hub.broker.log import PartitionLog
from hub.broker.transactions import ProducerIdentity, Transactional
from hub.protocol import ErrorCode

from .client import batch, values_of
from .test_groups import ManualClock

NOTHING: dict[str, str] = {}
TIMEOUT_MS = 60_000
FENCED, UNKNOWN = ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_ID_MAPPING


class Coordinator:
    """A broker's coordinator, its clock and two logs. `committed` has the offsets that groups have committed."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.broker = Broker(MemoryStorage(), clock=self.clock, settings=BrokerSettings(**settings))
        self.transactions = self.broker.transactions
        self.logs = self.broker.state.topics.create("t", 2, NOTHING).logs

    def init(self, name: str = "tx", *known: int, timeout_ms: int = TIMEOUT_MS) -> ProducerIdentity:
        return self.transactions.init_producer(name, timeout_ms, *known)

    def entry(self, identity: ProducerIdentity, name: str = "tx") -> Transactional:
        error, entry = self.transactions.check(name, identity.producer_id, identity.epoch)
        assert error is ErrorCode.NONE
        assert entry is not None
        return entry

    def begin(self, identity: ProducerIdentity, *values: bytes, partition: int = 0) -> None:
        """Produce in a transaction of protocol version 2."""
        error = self.check_produce(identity, partition, implicit=True)
        assert error is ErrorCode.NONE
        raw = batch(values, producer_id=identity.producer_id, epoch=identity.epoch, transactional=True)
        self.broker.state.append(self.logs[partition], raw, read_header(raw))

    def check_produce(self, identity: ProducerIdentity, partition: int = 0, *, implicit: bool) -> ErrorCode:
        log = self.logs[partition]
        return self.transactions.check_produce("tx", identity.producer_id, identity.epoch, "t", log, implicit=implicit)

    def end(self, identity: ProducerIdentity, *, commit: bool = True, bump: bool = True) -> ProducerIdentity:
        return self.transactions.end("tx", identity.producer_id, identity.epoch, commit=commit, bump=bump)

    def check(self, identity: ProducerIdentity) -> ErrorCode:
        return self.transactions.check("tx", identity.producer_id, identity.epoch)[0]

    def advance(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.broker.timers.run_due()

    def visible(self, log: PartitionLog) -> list[bytes]:
        self.broker.written(self.broker.cut())
        data, aborted = log.read(0, 1 << 20, committed=True)
        return [] if aborted else values_of(data)


@pytest.fixture
def tx() -> Coordinator:
    """A coordinator."""
    return Coordinator()


# --- identities


def test_every_producer_has_an_id_of_its_own_and_keeps_it_over_epochs(tx: Coordinator) -> None:
    plain = tx.transactions.init_producer(None, 0)
    first, other, again = tx.init("a"), tx.init("b"), tx.init("a")
    assert [one.error for one in (plain, first, other, again)] == [ErrorCode.NONE] * 4
    assert len({plain.producer_id, first.producer_id, other.producer_id}) == 3
    assert (first.epoch, again) == (0, ProducerIdentity(ErrorCode.NONE, first.producer_id, 1))


@pytest.mark.parametrize(
    ("name", "timeout_ms", "error"),
    [
        ("", 1, ErrorCode.INVALID_REQUEST),
        ("tx", 0, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        ("tx", 1, ErrorCode.NONE),
        ("tx", 5_000, ErrorCode.NONE),
        ("tx", 5_001, ErrorCode.INVALID_TRANSACTION_TIMEOUT),
    ],
)
def test_a_transaction_has_a_name_and_a_time_within_bounds(name: str, timeout_ms: int, error: ErrorCode) -> None:
    assert Coordinator(transaction_timeout_ms_max=5_000).init(name, timeout_ms=timeout_ms).error is error


def test_who_names_its_identity_gets_the_next_only_if_it_is_the_owner(tx: Coordinator) -> None:
    first = tx.init()
    second = tx.init("tx", first.producer_id, first.epoch)
    assert second == ProducerIdentity(ErrorCode.NONE, first.producer_id, 1)
    assert tx.init("tx", first.producer_id, first.epoch).error is FENCED
    assert tx.init("tx", first.producer_id + 99, second.epoch).error is FENCED
    assert tx.init("tx", first.producer_id, second.epoch).epoch == 2


def test_an_identity_is_checked(tx: Coordinator) -> None:
    first = tx.init()
    assert tx.check(first) is ErrorCode.NONE
    second = tx.init()
    assert tx.check(first) is FENCED
    assert tx.check(second._replace(epoch=2)) is FENCED
    assert tx.check(second._replace(producer_id=7)) is UNKNOWN
    for name in (None, "", "other"):
        assert tx.transactions.check(name, second.producer_id, second.epoch) == (UNKNOWN, None)


def test_an_id_whose_epochs_are_used_up_gives_way_to_a_new_one_and_is_fenced() -> None:
    tx = Coordinator(producer_epoch_max=3)
    identities = [tx.init() for _ in range(5)]
    first, other = identities[0].producer_id, identities[3].producer_id
    assert [(one.producer_id, one.epoch) for one in identities] == [(first, 0), (first, 1), (first, 2), (other, 0), (other, 1)]
    assert first != other
    assert tx.check(identities[2]) is FENCED


# --- version 2: every end has a new epoch


@pytest.mark.parametrize("commit", [True, False])
def test_an_end_makes_records_visible_or_not_and_is_repeated_with_the_same_answer(tx: Coordinator, commit: bool) -> None:
    first = tx.init()
    for partition in (0, 1):
        tx.begin(first, b"%d" % partition, partition=partition)
    assert tx.visible(tx.logs[0]) == []
    second = tx.end(first, commit=commit)
    assert second == ProducerIdentity(ErrorCode.NONE, first.producer_id, 1)
    assert [tx.visible(log) for log in tx.logs] == ([[b"0"], [b"1"]] if commit else [[], []])
    assert tx.end(first, commit=commit) == second
    assert tx.end(first, commit=not commit).error is ErrorCode.INVALID_TXN_STATE
    assert [log.end for log in tx.logs] == [2, 2], "one record and one marker"
    tx.begin(second, b"next")
    assert tx.end(first, commit=commit).error is not ErrorCode.NONE, "its epoch is over"
    assert tx.end(second).error is ErrorCode.NONE


def test_without_a_transaction_there_is_nothing_to_commit_and_an_abort_gives_a_new_epoch(tx: Coordinator) -> None:
    first = tx.init()
    assert tx.end(first).error is ErrorCode.INVALID_TXN_STATE
    assert tx.end(first, commit=False) == ProducerIdentity(ErrorCode.NONE, first.producer_id, 1)
    assert tx.end(first._replace(producer_id=7)).error is UNKNOWN


def test_a_successor_aborts_what_its_predecessor_left_open(tx: Coordinator) -> None:
    first = tx.init()
    tx.begin(first, b"half")
    second = tx.init()
    assert tx.visible(tx.logs[0]) == []
    assert tx.logs[0].open == {}
    assert tx.check_produce(first, implicit=True) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert tx.end(first).error is FENCED
    tx.begin(second, b"whole")
    assert tx.end(second).error is ErrorCode.NONE
    assert tx.logs[1].end == 0, "a partition without records gets no marker"


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(tx: Coordinator) -> None:
    first = tx.init()
    tx.begin(first, b"slow")
    tx.advance(TIMEOUT_MS / 1000 - 0.1)
    assert tx.check(first) is ErrorCode.NONE
    tx.advance(0.2)
    assert tx.check(first) is FENCED
    assert tx.logs[0].open == {}
    assert tx.broker.timers.next_deadline is None


def test_the_time_of_a_transaction_begins_with_it_and_ends_with_it(tx: Coordinator) -> None:
    identity = tx.init()
    for _ in range(4):
        tx.advance(40)
        tx.begin(identity, b"x")
        tx.begin(identity, b"y", partition=1)
        tx.advance(40)
        identity = tx.end(identity)
        assert identity.error is ErrorCode.NONE
    tx.advance(1000)
    assert tx.check(identity) is ErrorCode.NONE


# --- version 1: the epoch stays


def test_in_version_1_partitions_are_added_first_and_the_epoch_stays(tx: Coordinator) -> None:
    identity = tx.init()
    assert tx.check_produce(identity, implicit=False) is ErrorCode.INVALID_TXN_STATE
    for commit in (True, False, True):
        tx.transactions.add_partitions(tx.entry(identity), [("t", 0, tx.logs[0])])
        assert tx.check_produce(identity, implicit=False) is ErrorCode.NONE
        assert tx.check_produce(identity, 1, implicit=False) is ErrorCode.INVALID_TXN_STATE
        assert tx.end(identity, commit=commit, bump=False) == ProducerIdentity(ErrorCode.NONE, *identity[1:])
        assert tx.end(identity, commit=commit, bump=False).error is ErrorCode.NONE, "it may be repeated"
        assert tx.end(identity, commit=not commit, bump=False).error is ErrorCode.INVALID_TXN_STATE
    assert tx.end(tx.init("other"), bump=False).error is not ErrorCode.NONE


def test_without_a_transaction_version_1_has_nothing_to_end(tx: Coordinator) -> None:
    identity = tx.init()
    for commit in (True, False):
        assert tx.end(identity, commit=commit, bump=False).error is ErrorCode.INVALID_TXN_STATE


def test_a_log_that_was_made_anew_is_not_part_of_the_transaction(tx: Coordinator) -> None:
    identity = tx.init()
    tx.transactions.add_partitions(tx.entry(identity), [("t", 0, tx.logs[0])])
    tx.broker.state.topics.delete(tx.broker.state.topics["t"])
    tx.logs = tx.broker.state.topics.create("t", 2, NOTHING).logs
    assert tx.check_produce(identity, implicit=False) is ErrorCode.INVALID_TXN_STATE
    assert tx.end(identity, bump=False).error is ErrorCode.NONE
    assert [log.end for log in tx.logs] == [0, 0], "its markers go to no log of another topic"


# --- offsets


@pytest.mark.parametrize("commit", [True, False])
def test_offsets_take_effect_with_the_commit(tx: Coordinator, commit: bool) -> None:
    identity = tx.init()
    entry = tx.entry(identity)
    offset = ("t", 0, 5, -1, None)
    assert tx.transactions.add_offsets(entry, "g", [offset], implicit=False) is ErrorCode.INVALID_TXN_STATE
    assert tx.transactions.add_offsets(entry, "g", [offset], implicit=True) is ErrorCode.NONE
    assert tx.transactions.has_pending_offsets("g", "t", 0)
    for group, partition in (("g", 1), ("other", 0)):
        assert not tx.transactions.has_pending_offsets(group, "t", partition)
    assert tx.end(identity, commit=commit).error is ErrorCode.NONE
    assert not tx.transactions.has_pending_offsets("g", "t", 0)
    groups = tx.broker.groups.groups
    found = {place: one.offset for place, one in groups["g"].offsets.items()} if "g" in groups else {}
    assert found == ({("t", 0): 5} if commit else {})


def test_a_group_that_was_added_takes_offsets_in_version_1(tx: Coordinator) -> None:
    entry = tx.entry(tx.init())
    tx.transactions.add_group(entry, "g")
    assert entry.open
    for offset in (1, 2):
        assert tx.transactions.add_offsets(entry, "g", [("t", 0, offset, -1, None)], implicit=False) is ErrorCode.NONE
    tx.transactions.add_group(entry, "g")  # again: nothing is lost
    assert [one[2] for one in entry.offsets["g"]] == [1, 2]


# --- what is not used any longer


def test_idle_ids_are_forgotten_but_not_those_with_an_open_transaction(tx: Coordinator) -> None:
    idle, busy = tx.init("idle"), tx.init("tx")
    tx.begin(busy, b"x")
    now_ms = tx.clock.now_ms()
    tx.transactions.expire(now_ms)
    assert tx.transactions.check("idle", *idle[1:])[0] is ErrorCode.NONE
    tx.transactions.expire(now_ms + 1)
    assert tx.transactions.check("idle", *idle[1:])[0] is UNKNOWN
    assert tx.check(busy) is ErrorCode.NONE
    assert tx.init("idle").producer_id != idle.producer_id
