"""The log of one partition in memory, and the number of partitions of all topics."""

import pytest

from hub.broker import Broker, BrokerSettings, MemoryStorage
from hub.broker.batches import marker_batch, placed, read_header
from hub.broker.errors import BrokerError, StorageDamaged
from hub.broker.log import PartitionLog
from hub.broker.pending import Pending
from hub.protocol import ErrorCode

from .client import STARTED_MS, batch, values_of

NOTHING: dict[str, str] = {}


def log_of(*batches: list[bytes]) -> PartitionLog:
    """A log with these batches (values), all on disk."""
    broker = Broker(MemoryStorage())
    log = broker.state.topics.create("t", 1, NOTHING).logs[0]
    for values in batches:
        raw = batch(values)
        broker.state.append(log, raw, read_header(raw))
    Pending.written(broker.state.pending.cut())
    return log


def values(log: PartitionLog, offset: int = 0) -> list[bytes]:
    return values_of(log.read(offset, 1 << 20, committed=True).data)


def test_batches_in_memory_are_replaced_while_they_are_the_first_ones() -> None:
    log = log_of([b"a", b"b"], [b"c"], [b"d"])
    old = log.in_memory(3)
    assert [values_of(raw) for raw in old] == [[b"a", b"b"], [b"c"]]
    new = [placed(batch([b"c"]), 2)]
    size = log.memory_bytes
    assert log.replace_in_memory(old, new) is True
    assert values(log) == [b"c", b"d"]
    assert log.memory_bytes == size + len(new[0]) - sum(map(len, old))
    assert log.replace_in_memory(old, new) is False
    assert values(log) == [b"c", b"d"]


@pytest.mark.parametrize(
    ("before", "left", "first"),
    [(0, [b"a", b"b", b"c", b"d"], 0), (1, [b"a", b"b", b"c", b"d"], 0), (2, [b"c", b"d"], 2), (3, [b"d"], 3), (4, [], None)],
)
def test_a_log_loses_whole_batches_before_an_offset(before: int, left: list[bytes], first: int | None) -> None:
    log = log_of([b"a", b"b"], [b"c"], [b"d"])
    log.delete_before(before)
    assert log.start == before
    assert values(log, before) == left
    assert [read_header(raw).base_offset for raw in log.in_memory(9)][:1] == ([] if first is None else [first])
    log.delete_before(0)
    assert log.start == before, "the start never goes back"


def test_all_topics_together_have_at_most_so_many_partitions() -> None:
    topics = Broker(MemoryStorage(), settings=BrokerSettings(partitions_max=4)).state.topics
    topics.create("a", 2, NOTHING)
    for count in (3, 0, -1):
        said = f"{count} partitions requested: allowed are 1 to 4 over all topics, 2 exist"
        with pytest.raises(BrokerError, match=said) as refused:
            topics.create("b", count, NOTHING)
        assert refused.value.code is ErrorCode.INVALID_PARTITIONS
    b = topics.create("b", 1, NOTHING)
    with pytest.raises(BrokerError, match="already has 1 partitions, got 1"):
        topics.add_partitions(b, 1)
    with pytest.raises(BrokerError, match="2 partitions requested: .* 3 exist"):
        topics.add_partitions(b, 3)
    topics.add_partitions(b, 2)
    assert len(b.logs) == 2
    with pytest.raises(BrokerError, match="4 exist"):
        topics.create("c", 1, NOTHING)


def appended(log: PartitionLog, raw: bytes, now_ms: int = STARTED_MS) -> None:
    """Append a batch as the broker does, at the end."""
    placed_raw = placed(raw, log.end)
    log.append(placed_raw, read_header(placed_raw), now_ms)


def checked(
    log: PartitionLog, sequence: int, count: int = 1, *, epoch: int = 1, producer_id: int = 0
) -> tuple[ErrorCode, int | None]:
    """What the log says of a batch with so many records."""
    return log.check_producer(read_header(batch([b"v"] * count, producer_id=producer_id, epoch=epoch, sequence=sequence)))


def test_a_producer_continues_its_sequence_or_repeats_a_batch() -> None:
    log = log_of()
    assert checked(log, 5) == (ErrorCode.NONE, None), "a producer that is not known may begin anywhere"
    appended(log, batch([b"a", b"b"], producer_id=0, epoch=1, sequence=0))
    appended(log, batch([b"c"], producer_id=0, epoch=1, sequence=2))
    assert checked(log, 3, 4) == (ErrorCode.NONE, None)
    assert checked(log, 0, 2) == (ErrorCode.NONE, 0)
    assert checked(log, 2, 1) == (ErrorCode.NONE, 2)
    for sequence, count in ((0, 1), (1, 1), (2, 2), (1, 2), (4, 1)):
        assert checked(log, sequence, count) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, None), (sequence, count)
    assert checked(log, 3, epoch=0) == (ErrorCode.INVALID_PRODUCER_EPOCH, None)
    assert checked(log, 0, epoch=2) == (ErrorCode.NONE, None)
    assert checked(log, 3, epoch=2) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, None)
    assert checked(log, 9, producer_id=1) == (ErrorCode.NONE, None)


def test_the_sequence_of_a_producer_begins_again_after_the_largest_number() -> None:
    log = log_of()
    appended(log, batch([b"a"], producer_id=0, epoch=1, sequence=0x7FFFFFFF))
    assert checked(log, 0) == (ErrorCode.NONE, None)
    assert checked(log, 1) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, None)


def test_a_producer_with_a_new_epoch_has_no_earlier_batches() -> None:
    log = log_of()
    appended(log, batch([b"a"], producer_id=0, epoch=1, sequence=0))
    appended(log, batch([b"b"], producer_id=0, epoch=2, sequence=0))
    assert checked(log, 0, epoch=2) == (ErrorCode.NONE, 1)
    assert [sent.base_offset for sent in log.producers[0].batches] == [1]


def test_a_marker_of_a_later_epoch_ends_the_sequence_of_a_producer() -> None:
    log = log_of()
    appended(log, batch([b"a"], producer_id=0, epoch=1, sequence=0, transactional=True))
    appended(log, marker_batch(log.end, 0, 1, commit=True, timestamp_ms=STARTED_MS))
    assert checked(log, 0) == (ErrorCode.NONE, 0), "the marker of its own epoch"
    appended(log, marker_batch(log.end, 0, 2, commit=True, timestamp_ms=STARTED_MS))
    assert checked(log, 7, epoch=2) == (ErrorCode.NONE, None)
    assert checked(log, 1) == (ErrorCode.INVALID_PRODUCER_EPOCH, None)


def test_producers_that_wrote_nothing_for_long_are_forgotten_unless_their_transaction_is_open() -> None:
    log = log_of()
    for producer_id, seen_ms in ((1, 10), (2, 11), (3, 10)):
        appended(log, batch([b"a"], producer_id=producer_id, epoch=0, sequence=0, transactional=producer_id == 3), seen_ms)
    log.forget_producers(10)
    assert log.producers.keys() == {1, 2, 3}
    log.forget_producers(11)
    assert log.producers.keys() == {2, 3}


def test_aborted_transactions_are_known_as_long_as_their_marker_is_there() -> None:
    log = log_of()
    log.forget_aborted(10)
    for _ in range(2):
        appended(log, batch([b"a"], producer_id=7, epoch=0, sequence=0, transactional=True))
        appended(log, marker_batch(log.end, 7, 0, commit=False, timestamp_ms=STARTED_MS))
    first, second = (7, 0, 1), (7, 2, 3)
    log.forget_aborted(1)
    assert log.aborted == [first, second]
    log.forget_aborted(2)
    assert log.aborted == [second]
    log.advance(log.end)
    log.delete_before(3)
    assert log.aborted == [second]
    log.delete_before(4)
    assert log.aborted == []


def replayed(payload: bytes) -> PartitionLog | None:
    """The log of topic "t" in a broker that starts from this block of the journal."""
    broker = Broker(MemoryStorage())
    broker.state.pending.replay(payload)
    return broker.state.topics.log("t", 0)


def test_a_block_of_the_journal_restores_what_it_records() -> None:
    broker = Broker(MemoryStorage())
    log = broker.state.topics.create("t", 1, NOTHING).logs[0]
    for values_sent in ([b"a", b"b"], [b"c"]):
        raw = batch(values_sent)
        broker.state.append(log, raw, read_header(raw))
    block = broker.state.pending.cut()
    restored = replayed(b"".join(block.parts))
    assert restored is not None
    assert restored.in_memory(9) == log.in_memory(9)
    assert (restored.end, restored.stable_end) == (3, 3)
    append = b"".join(block.parts[-2:])
    with pytest.raises(StorageDamaged, match="the journal continues at offset 2, but the log ends at 3"):
        replayed(b"".join(block.parts) + append)


def test_batches_of_a_log_that_was_deleted_are_passed_over() -> None:
    broker = Broker(MemoryStorage())
    topic = broker.state.topics.create("t", 1, NOTHING)
    raw = batch([b"a"])
    broker.state.append(topic.logs[0], raw, read_header(raw))
    append = b"".join(broker.state.pending.cut().parts[-2:])
    broker.state.topics.create("u", 1, NOTHING)
    assert replayed(append + b"".join(broker.state.pending.cut().parts)) is None


def test_a_change_asks_for_a_write_and_one_that_a_response_waits_for_asks_at_once() -> None:
    broker = Broker(MemoryStorage())
    pending, asked = broker.state.pending, list[bool]()
    pending.on_flush_needed = asked.append
    log = broker.state.topics.create("t", 1, NOTHING).logs[0]
    assert asked
    assert not any(asked)
    asked.clear()
    woken: list[str] = []
    log.append_waiters[lambda: woken.append("appended")] = None
    log.waiters[lambda: woken.append("visible")] = None
    raw = batch([b"a"])
    broker.state.append(log, raw, read_header(raw))
    assert (asked, woken) == ([False], ["appended"])
    deferred = pending.when_stable("done")
    assert asked == [False, True]
    assert pending.is_due
    Pending.written(pending.cut())
    assert woken == ["appended", "visible"]
    assert (deferred.done, log.stable_end, pending.is_due, pending.bytes) == (True, 1, False, 0)
