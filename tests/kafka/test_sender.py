"""Posted records are stored or reported; callers wait, but not for ever. The producer below is scripted; the real one has its
tests in `conformance/producer`."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable

import pytest

from hub.kafka import (
    BATCH_BYTES_MAX,
    BrokerUnreachable,
    Cluster,
    ConnectionLost,
    Outgoing,
    PartitionUnavailable,
    RecordRejected,
    RecordTooLarge,
    Sender,
)
from hub.kafka.leader_link import REQUESTS_MAX, LeaderLink
from hub.kafka.partition_queue import IdempotentIdentity, OnDone, PartitionQueue, QueuedRecord
from hub.kafka.records import Record, TopicPartition
from hub.kafka.unacknowledged import PartitionStanding
from hub.protocol import ErrorCode, RequestType
from hub.protocol.produce import PartitionResult, read_request, write_response
from hub.service import ServiceTasks
from tests.components.running import until

REJECTED = b"rejected"


class ScriptedProducer:
    """Stores what is posted at once while it is `open`, otherwise when `release` is called."""

    def __init__(self, cluster: Cluster, tasks: ServiceTasks, *, linger_ms: int) -> None:
        self.tasks = tasks
        self.open = True
        self.closed = False
        self.waiting: list[tuple[Record, OnDone]] = []
        self.stored: list[bytes | None] = []
        self.standing: PartitionStanding | None = None

    async def start(self) -> None: ...

    def post(self, topic: str, partition: int, queued: QueuedRecord) -> None:
        self.waiting.append((queued.record, queued.on_done))
        if self.open:
            asyncio.get_running_loop().call_soon(self.release)

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for record, on_done in waiting:
            if record.value == REJECTED:
                on_done(RecordRejected("t", 0, "x:1", "INVALID_RECORD"))
            else:
                self.stored.append(record.value)
                on_done(None)

    def discard(self, topic: str, partition: int, on_done: OnDone) -> None:
        self.waiting = [(record, done) for record, done in self.waiting if done != on_done]

    def standing_of(self, topic: str, partition: int) -> PartitionStanding | None:
        return self.standing

    def close(self) -> None:
        self.closed = True


class Posts:
    """A sender on such a producer, and what it settled."""

    def __init__(self) -> None:
        self.settled: list[bytes] = []
        self.sender = Sender(Cluster.of("x:1"))
        producer = self.sender._producer
        assert isinstance(producer, ScriptedProducer)
        self.producer = producer

    async def post(self, value: bytes) -> None:
        await self.sender.post(outgoing(value), lambda: self.settled.append(value))


def outgoing(value: bytes) -> Outgoing:
    return Outgoing("t", 0, b"", value, ())


@pytest.fixture
async def posts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Posts]:
    monkeypatch.setattr("hub.kafka.sender.Producer", ScriptedProducer)
    posts = Posts()
    await posts.sender.start()
    yield posts
    await posts.sender.stop()
    assert posts.producer.closed


async def test_a_posted_record_that_the_broker_rejects_is_logged_and_settled(
    posts: Posts, caplog: pytest.LogCaptureFixture
) -> None:
    for value in (b"before", REJECTED, b"after"):
        await posts.post(value)
    assert await posts.sender.flush(timeout_seconds=60)
    assert (posts.producer.stored, posts.settled) == ([b"before", b"after"], [b"before", REJECTED, b"after"])
    (refused,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "record rejected action=record_refused topic=t partition=0 bytes=8" in refused.getMessage()


async def test_a_record_that_is_too_large_takes_no_room(posts: Posts) -> None:
    with pytest.raises(RecordTooLarge):
        await posts.post(b"x" * BATCH_BYTES_MAX)
    assert posts.sender._in_flight == 0
    assert await posts.sender.flush(timeout_seconds=60)


async def test_a_post_waits_for_room_and_a_flush_for_the_last_acknowledgement(
    posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.kafka.sender.IN_FLIGHT_MAX", 3)
    posts.producer.open = False
    waiting = [asyncio.create_task(posts.post(b"%d" % number)) for number in range(10)]
    await until(lambda: posts.sender._in_flight == 3)
    assert not await posts.sender.flush(timeout_seconds=0)
    posts.producer.open = True
    posts.producer.release()
    await asyncio.wait(waiting)
    assert await posts.sender.flush(timeout_seconds=60)
    assert posts.settled == [b"%d" % number for number in range(10)]


async def test_a_post_that_is_cancelled_while_it_waits_takes_no_room(posts: Posts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.kafka.sender.IN_FLIGHT_MAX", 1)
    posts.producer.open = False
    await posts.post(b"first")
    waiting = asyncio.create_task(posts.post(b"never"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    posts.producer.release()
    assert await posts.sender.flush(timeout_seconds=60)
    assert posts.settled == [b"first"]


async def test_a_post_with_room_does_not_wait(posts: Posts) -> None:
    posts.producer.open = False
    with pytest.raises(StopIteration):
        posts.sender.post(outgoing(b"value")).send(None)


async def test_of_many_a_rejected_one_is_raised_when_the_others_are_stored(posts: Posts) -> None:
    with pytest.raises(RecordRejected, match="INVALID_RECORD"):
        await posts.sender.send_many([outgoing(value) for value in (b"first", REJECTED, b"last")], timeout_seconds=3_600)
    assert posts.producer.stored == [b"first", b"last"]
    await posts.sender.send_many([])


@pytest.mark.parametrize(
    ("standing", "error", "says"),
    [
        (PartitionStanding(None, False, 1, "", "no such topic"), PartitionUnavailable, "t-0 has no leader now.*no such topic"),
        (
            PartitionStanding("a:1", True, 1, "", ""),
            PartitionUnavailable,
            "t-0, a:1, is connected but did not acknowledge within 0.01 s",
        ),
        (
            PartitionStanding("a:1", False, 3, "", "Cut."),
            PartitionUnavailable,
            r"t-0, a:1, does not respond; .* a new leader \(Cut\)\.",
        ),
        (PartitionStanding("a:1", False, 1, "", ""), BrokerUnreachable, "responds at x:1 .no acknowledgement within 0.01 s"),
        (PartitionStanding("a:1", False, 3, "refused", ""), BrokerUnreachable, r"responds at x:1 \(refused\)"),
        (None, PartitionUnavailable, "t-0 has no leader now"),
    ],
)
async def test_a_send_that_is_too_late_says_what_it_waited_for_and_is_not_sent_later(
    posts: Posts, standing: PartitionStanding | None, error: type[Exception], says: str
) -> None:
    posts.producer.open = False
    posts.producer.standing = standing
    with pytest.raises(error, match=says):
        await posts.sender.send(outgoing(b"late"), timeout_seconds=0.01)
    posts.producer.release()
    assert posts.producer.stored == []


async def test_a_send_that_is_cancelled_is_not_sent_later(posts: Posts) -> None:
    posts.producer.open = False
    call = asyncio.create_task(posts.sender.send(outgoing(b"never")))
    await until(lambda: bool(posts.producer.waiting))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not posts.producer.waiting


async def test_a_mistake_of_the_producer_is_raised_to_everybody(posts: Posts) -> None:
    async def fails() -> None:
        raise ZeroDivisionError("a mistake of ours")

    posts.producer.open = False
    await posts.post(b"lost")
    call = asyncio.create_task(posts.sender.send(outgoing(b"lost, too")))
    await until(lambda: len(posts.producer.waiting) == 2)
    posts.producer.tasks.start(fails(), "producer")
    async with asyncio.timeout(60):
        with pytest.raises(ZeroDivisionError, match="a mistake of ours") as raised:
            await posts.sender.watch()
        assert not await posts.sender.flush(timeout_seconds=120)
        with pytest.raises(ZeroDivisionError):
            await posts.post(b"after")
        for waiting in (call, posts.sender.send(outgoing(b"after"))):
            with pytest.raises(ConnectionLost, match="a mistake of ours"):
                await waiting
    assert raised.value.__notes__ == ["In the background task 'producer' of the sender."]
    assert posts.settled == []


async def test_what_waits_for_room_or_an_acknowledgement_ends_when_the_sender_stops(
    posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.kafka.sender.IN_FLIGHT_MAX", 1)
    posts.producer.open = False
    await posts.post(b"first")
    waiting = asyncio.create_task(posts.post(b"second"))
    flushing = asyncio.create_task(posts.sender.flush(timeout_seconds=60))
    await asyncio.sleep(0)
    await posts.sender.stop()
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionLost, match="was stopped"):
            await waiting
        assert not await flushing
    assert [record.value for record, _ in posts.producer.waiting] == [b"first"]


async def test_a_stopped_sender_sends_nothing(posts: Posts) -> None:
    await posts.post(b"before")
    assert await posts.sender.flush(timeout_seconds=60)
    await posts.sender.stop()
    with pytest.raises(ConnectionLost, match="The sender to x:1 was stopped"):
        await posts.post(b"after")
    with pytest.raises(ConnectionLost, match="The sender to x:1 was stopped"):
        await posts.sender.send(outgoing(b"after"))
    assert posts.producer.stored == [b"before"]
    assert not posts.producer.waiting


# --- the requests to one leader


class Wire:
    """A connection that keeps its requests, in an event loop whose turns end when the test says so."""

    def __init__(self) -> None:
        self.is_open = True
        self.due: list[Callable[[], object]] = []
        self.address = "x:1"
        self.requests: list[tuple[dict[TopicPartition, bytes | None], object, object]] = []

    def send(self, kind: RequestType, body: bytes, on_answer: object, on_lost: object) -> None:
        topics = read_request(body, 0, kind.version).topics
        batches = {TopicPartition(topic, number): batch for topic, some in topics for number, batch in some}
        self.requests.append((batches, on_answer, on_lost))

    def call_soon(self, function: Callable[[], object]) -> None:
        self.due.append(function)

    def end_turn(self) -> None:
        due, self.due = self.due, []
        for function in due:
            function()


def answer_of(places: list[TopicPartition], code: int = 0) -> bytes:
    return write_response([(place.topic, [PartitionResult(place.partition, code, 0)]) for place in places], 9)  # type: ignore[arg-type]


def queue_of(number: int) -> PartitionQueue:
    queue = PartitionQueue(TopicPartition("t", number))
    queue.renew(IdempotentIdentity(1, 0))
    return queue


def fill(queue: PartitionQueue, size: int) -> None:
    value = random.Random(size).randbytes(size)  # not compressible
    queue.append(QueuedRecord(Record(b"k", value, (), 1), size, lambda error: None))


def test_at_most_five_requests_are_unanswered_and_none_grows_without_limit() -> None:
    wire, mistakes = Wire(), list[Exception]()
    link = LeaderLink(wire, 1.0, wire.call_soon, mistakes.append, mistakes.append)  # type: ignore[arg-type]
    queues = [queue_of(number) for number in range(60)]
    for queue in queues:
        fill(queue, 1 << 20)
        link.offer(queue)
    wire.end_turn()
    assert len(wire.requests) == REQUESTS_MAX
    assert all(len(batches) <= 8 for batches, _, _ in wire.requests)
    while wire.requests:
        batches, on_answer, _ = wire.requests.pop(0)
        on_answer(answer_of(list(batches)))  # type: ignore[operator]
        assert len(wire.requests) <= REQUESTS_MAX
    assert not any(queue.has_work for queue in queues)
    assert not mistakes


def test_a_mistake_in_a_callback_is_reported_as_a_mistake() -> None:
    wire, mistakes = Wire(), list[Exception]()
    link = LeaderLink(wire, 1.0, wire.call_soon, mistakes.append, mistakes.append)  # type: ignore[arg-type]
    queue = queue_of(0)
    queue.append(QueuedRecord(Record(b"k", b"v", (), 1), 9, lambda error: [].pop()))
    link.offer(queue)
    wire.end_turn()
    ((batches, on_answer, _),) = wire.requests
    on_answer(answer_of(list(batches)))  # type: ignore[operator]
    assert [type(mistake) for mistake in mistakes] == [IndexError]


class Returns:
    """A link, and the queues that it returned."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.returned: list[PartitionQueue] = []
        self.mistakes: list[Exception] = []
        self.link = LeaderLink(self.wire, 1.0, self.wire.call_soon, self.returned.append, self.mistakes.append)  # type: ignore[arg-type]

    def send(self, *queues: PartitionQueue) -> None:
        for queue in queues:
            fill(queue, 9)
            self.link.offer(queue)
        self.wire.end_turn()

    def answer(self, code: int = 0) -> None:
        batches, on_answer, _ = self.wire.requests.pop(0)
        on_answer(answer_of(list(batches), code))  # type: ignore[operator]

    def close(self) -> None:
        self.wire.is_open = False
        requests, self.wire.requests = self.wire.requests, []
        for _, _, on_lost in requests:
            on_lost(ConnectionLost("cut"))  # type: ignore[operator]


def test_a_failed_queue_is_returned_once_though_more_was_posted_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another leader may have got it when this connection is closed."""
    monkeypatch.setattr("hub.kafka.leader_link.REQUEST_BYTES", 1)
    case = Returns()
    moved, *others = [queue_of(number) for number in range(8)]
    for queue in (moved, *others):
        case.send(queue)
    case.send(moved)
    case.answer(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert case.returned == [moved]
    moved.resume()
    moved.take(9)
    case.close()
    assert (case.returned.count(moved), set(case.returned)) == (1, {moved, *others})
    assert not case.mistakes


def test_a_queue_with_a_batch_in_flight_is_returned_when_its_end_is_known() -> None:
    case = Returns()
    idle, busy = queue_of(0), queue_of(1)
    case.send(idle, busy)
    case.answer()
    case.send(idle)
    case.send(busy)
    fill(busy, 9)
    case.link.offer(busy)
    in_flight: list[int] = []
    case.link._on_detach = lambda queue: in_flight.append(queue.in_flight)
    case.close()
    assert in_flight == [0, 0]
    assert (idle.failures, busy.failures) == (1, 1)


@pytest.mark.parametrize(("answered", "failures"), [(True, 0), (False, 1)])
def test_only_a_broker_that_never_answered_is_tried_again_after_a_pause(answered: bool, failures: int) -> None:
    case = Returns()
    queue = queue_of(0)
    if answered:
        case.send(queue)
        case.answer()
    case.close()
    case.send(queue)
    assert case.returned == [queue]
    assert queue.failures == failures


def test_a_link_whose_connection_was_replaced_returns_no_queue() -> None:
    """The queue is sent over the new link by then."""
    case = Returns()
    queue = queue_of(0)
    fill(queue, 9)
    case.link.offer(queue)
    case.close()
    case.link.drop()
    case.wire.end_turn()
    assert (case.returned, case.mistakes) == ([], [])
