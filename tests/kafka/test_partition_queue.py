"""Which batches of a partition are sent, and when: without I/O."""

from collections.abc import Callable, Iterable

import pytest

from hub.kafka import Record, RecordRejected, RecordTooLarge, TopicPartition, read_batches
from hub.kafka.partition_queue import IN_FLIGHT_BATCHES_MAX, IdempotentIdentity, OutgoingBatch, PartitionQueue, QueuedRecord
from hub.protocol import ErrorCode

BYTES = 1 << 20
ANY_SIZE = 50
FIRST, SECOND = IdempotentIdentity(7, 0), IdempotentIdentity(8, 0)
SEQUENCE_AT = 53
"""Position of the base sequence in a batch."""


class Queued:
    """A queue with an identity, and what became of its records."""

    def __init__(self) -> None:
        self.queue = PartitionQueue(TopicPartition("t", 3))
        self.queue.renew(FIRST)
        self.stored: list[bytes] = []
        self.rejected: dict[bytes, Exception] = {}

    def add(self, *values: bytes, size: int = ANY_SIZE) -> None:
        for value in values:
            self.queue.append(QueuedRecord(Record(b"k", value, (), 1), size, self._on_done(value)))

    def _on_done(self, value: bytes) -> Callable[[Exception | None], None]:
        def on_done(error: Exception | None) -> None:
            if error is None:
                self.stored.append(value)
            else:
                self.rejected[value] = error

        return on_done

    def take(self) -> OutgoingBatch:
        assert self.queue.sendable
        batch = self.queue.take(BYTES)
        assert batch is not None
        return batch

    def take_each(self, values: Iterable[bytes]) -> list[OutgoingBatch]:
        """A batch for each value."""
        batches = []
        for value in values:
            self.add(value)
            batches.append(self.take())
        return batches

    def answer(self, batch: OutgoingBatch, code: ErrorCode = ErrorCode.NONE) -> None:
        self.queue.answered(batch, "host:1", code, "")

    def known(self) -> None:
        """Have the first batch acknowledged."""
        self.add(b"first")
        self.answer(self.take())
        self.stored.clear()


@pytest.fixture
def known() -> Queued:
    """A queue whose partition knows the producer."""
    queued = Queued()
    queued.known()
    return queued


def sequence_of(batch: OutgoingBatch) -> int:
    return int.from_bytes(batch.data[SEQUENCE_AT : SEQUENCE_AT + 4])


def values_of(batch: OutgoingBatch) -> list[bytes | None]:
    return [record.value for record in read_batches(batch.data)]


def test_what_waits_is_one_batch_and_sequence_numbers_continue() -> None:
    queued = Queued()
    queued.add(b"a", b"b", b"c")
    first = queued.take()
    assert (values_of(first), sequence_of(first)) == ([b"a", b"b", b"c"], 0)
    assert not queued.queue.sendable
    queued.answer(first)
    assert queued.stored == [b"a", b"b", b"c"]
    assert not queued.queue.has_work
    queued.add(b"d")
    assert sequence_of(queued.take()) == 3


def test_a_batch_is_cut_at_its_size_and_a_larger_record_is_alone() -> None:
    queued = Queued()
    queued.add(b"a", b"b", size=BYTES // 2)
    queued.add(b"c", size=BYTES * 2)
    queued.add(b"d")
    for expected in ([b"a", b"b"], [b"c"], [b"d"]):
        batch = queued.take()
        assert values_of(batch) == expected
        queued.answer(batch)


def test_the_first_batch_of_an_identity_is_alone_and_then_five_may_be_unacknowledged() -> None:
    queued = Queued()
    queued.add(b"a")
    first = queued.take()
    queued.add(b"b")
    assert not queued.queue.sendable
    queued.answer(first)
    batches = [queued.take(), *queued.take_each([b"c", b"d", b"e", b"f"])]
    assert len(batches) == IN_FLIGHT_BATCHES_MAX
    queued.add(b"g")
    assert not queued.queue.sendable
    queued.answer(batches[0])
    assert values_of(queued.take()) == [b"g"]


def test_a_batch_that_is_stored_before_an_earlier_one_keeps_its_place(known: Queued) -> None:
    """The broker recognises only the last five batches: the earliest unacknowledged one must remain among them."""
    batches = known.take_each([b"a", b"b", b"c", b"d", b"e"])
    known.answer(batches[1])
    known.answer(batches[2])
    known.add(b"f")
    assert (known.stored, known.queue.sendable) == ([], False)
    known.answer(batches[0])
    assert known.stored == [b"a", b"b", b"c"]
    assert known.queue.sendable


def test_after_a_failure_the_unacknowledged_batches_are_sent_again_unchanged_when_none_is_in_flight(known: Queued) -> None:
    first, second, third = known.take_each([b"a", b"b", b"c"])
    data = [first.data, third.data]
    known.answer(first, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
    assert not known.queue.sendable
    known.answer(second)
    known.queue.lost("cut")
    assert (known.queue.in_flight, known.queue.failures, known.queue.reason) == (0, 1, "cut")
    known.add(b"d")
    known.queue.resume()
    assert [known.take().data, known.take().data] == data
    assert values_of(known.take()) == [b"d"]
    known.answer(first)
    assert known.stored == [b"a", b"b"]


def test_what_follows_a_failed_batch_is_out_of_order_without_a_loss_of_identity(known: Queued) -> None:
    first, second = known.take_each([b"a", b"b"])
    known.answer(first, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    known.answer(second, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert not known.queue.identity_refused
    known.queue.resume()
    assert known.take() is first


def test_if_the_first_batch_is_out_of_order_all_get_new_numbers(known: Queued) -> None:
    first, second = known.take_each([b"a", b"b"])
    known.answer(first, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    known.answer(second, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert known.queue.identity_refused
    known.queue.renew(SECOND)
    known.queue.resume()
    assert (sequence_of(known.take()), known.queue.sendable) == (0, False)
    known.answer(first)
    assert (known.take(), sequence_of(second)) == (second, 1)
    known.answer(second)
    assert known.stored == [b"a", b"b"]


def test_a_rejected_batch_is_halved_until_the_record_is_alone(known: Queued) -> None:
    known.add(b"a", b"b", b"bad", b"c", b"d")
    after = 0
    while known.queue.has_work:
        batch = known.take()
        bad = b"bad" in values_of(batch)
        known.answer(batch, ErrorCode.MESSAGE_TOO_LARGE if bad else ErrorCode.NONE)
        after += 1
        if known.queue.failed:
            assert known.queue.failures == 0, "no pause: nothing is repeated"
            known.queue.renew(SECOND)
            known.queue.resume()
    assert known.stored == [b"a", b"b", b"c", b"d"]
    assert isinstance(known.rejected.pop(b"bad"), RecordTooLarge)
    assert not known.rejected
    assert after < 10


def test_a_rejected_record_names_leader_and_reason(known: Queued) -> None:
    known.add(b"a")
    known.answer(known.take(), ErrorCode.INVALID_RECORD)
    error = known.rejected[b"a"]
    assert isinstance(error, RecordRejected)
    assert str(error) == "The leader of t-3, host:1, rejected a record (INVALID_RECORD)."


@pytest.mark.parametrize(
    "record",
    [
        Record(b"k", "text", (), 1),  # type: ignore[arg-type]
        Record("", b"v", (), 1),  # type: ignore[arg-type]
        Record(b"k", b"v", [(b"name", b"")], 1),  # type: ignore[list-item]
        Record(b"k", b"v", [("name", "text")], 1),  # type: ignore[list-item]
        Record(b"k", b"v", [("\ud800", b"")], 1),
        Record(b"k", b"v", (), 1 << 70),
        Record(b"k", b"v", (), 1.5),  # type: ignore[arg-type]
    ],
)
def test_records_that_cannot_be_encoded_are_rejected_alone(known: Queued, record: Record) -> None:
    known.add(b"a")
    known.queue.append(QueuedRecord(record, ANY_SIZE, known._on_done(b"bad")))
    known.add(b"b")
    assert values_of(known.take()) == [b"a", b"b"]
    assert isinstance(known.rejected[b"bad"], Exception)


def test_an_error_of_the_encoder_that_no_record_causes_is_raised(known: Queued, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(codec: int, data: bytes) -> bytes:
        raise ValueError("the compressor failed")

    known.add(bytes(2_000))
    monkeypatch.setattr("hub.kafka.encoding.compress", fails)
    monkeypatch.setattr("hub.kafka.encoding.COMPRESSED_BYTES_MIN", 3_000)  # a record alone is smaller
    known.add(bytes(2_000))
    with pytest.raises(ValueError, match="the compressor failed"):
        known.queue.take(BYTES)
    assert not known.rejected


def test_failures_count_once_until_the_queue_is_resumed(known: Queued) -> None:
    known.take_each([b"a", b"b"])
    known.queue.lost("cut")
    known.queue.lost("cut")
    assert known.queue.failures == 1
    known.queue.resume()
    known.answer(known.take(), ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert known.queue.failures == 2
    known.queue.delay("no leader")
    assert (known.queue.failures, known.queue.reason) == (3, "no leader")


def test_only_what_was_never_sent_can_be_discarded(known: Queued) -> None:
    done: list[Exception | None] = []
    queued = QueuedRecord(Record(b"k", b"a", (), 1), ANY_SIZE, done.append)
    known.queue.append(queued)
    batch = known.take()
    known.queue.append(queued)
    known.add(b"other")
    known.queue.discard(queued.on_done)
    known.answer(batch)
    assert done == [None]
    assert values_of(known.take()) == [b"other"]


def test_what_is_discarded_in_front_in_the_middle_and_at_the_end_is_not_sent(known: Queued) -> None:
    done: list[Exception | None] = []
    dropped = QueuedRecord(Record(b"k", b"dropped", (), 1), ANY_SIZE, done.append)
    known.queue.append(dropped)
    known.add(b"a", b"b", b"c")
    known.queue.append(dropped)
    known.add(b"d", b"e", b"f")
    known.queue.append(dropped)
    known.queue.discard(dropped.on_done)
    known.add(b"g")
    assert values_of(known.take()) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    assert not known.queue.sendable


def test_a_queue_of_which_all_is_discarded_has_no_work(known: Queued) -> None:
    done: list[Exception | None] = []
    for value in (b"a", b"b", b"c"):
        known.queue.append(QueuedRecord(Record(b"k", value, (), 1), ANY_SIZE, done.append))
    assert known.queue.has_work
    known.queue.discard(done.append)
    assert not known.queue.has_work
    assert not known.queue.sendable
    known.queue.abandon(ValueError("over"))
    assert not done


def test_many_records_are_discarded_in_linear_time(known: Queued) -> None:
    looked = 0

    class Counting:
        def __call__(self, error: Exception | None) -> None: ...

        def __hash__(self) -> int:
            nonlocal looked
            looked += 1
            return id(self)

        def __eq__(self, other: object) -> bool:
            nonlocal looked
            looked += 1
            return self is other

    callbacks = [Counting() for _ in range(500)]
    for on_done in callbacks:
        known.queue.append(QueuedRecord(Record(b"k", b"v", (), 1), ANY_SIZE, on_done))
    for on_done in callbacks:
        assert known.queue.has_work
        known.queue.discard(on_done)
    assert not known.queue.has_work
    assert looked < 10 * len(callbacks)


def test_an_abandoned_queue_reports_all_its_records(known: Queued) -> None:
    known.take_each([b"a"])
    known.add(b"b")
    known.queue.abandon(ValueError("over"))
    assert sorted(known.rejected) == [b"a", b"b"]
    assert not known.queue.has_work


def test_sequence_numbers_begin_again_after_the_highest(known: Queued) -> None:
    known.queue._next_sequence = 0x7FFFFFFF
    known.add(b"a")
    assert sequence_of(known.take()) == 0x7FFFFFFF
    known.add(b"b")
    assert sequence_of(known.take()) == 0
