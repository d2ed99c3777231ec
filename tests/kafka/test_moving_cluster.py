"""The KIP-890 session and a cluster whose coordinators and leaders move, are busy or are away: what is asked again, of whom,
after which pause, and until when. The brokers are scripted, and time is virtual."""

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from hub.kafka import (
    BrokerUnreachable,
    Cluster,
    ConnectionLost,
    Kip890Session,
    Record,
    RecordTooLarge,
    SessionFailed,
    SessionFenced,
    TopicPartition,
    kip890,
    requests,
)
from hub.kafka.cluster import Address
from hub.protocol import ErrorCode, Message, RequestType, encode_response
from hub.protocol.produce import read_request
from hub.protocol.transactions import IdentityAnswer
from tests import virtual_time

ONE, TWO = ("one", 9092), ("two", 9092)
P0, P1, P2 = (TopicPartition("topic", number) for number in range(3))
RETRY_SECONDS = 3.0
OPEN_SECONDS = 5.0
REQUEST_SECONDS = 2.0
Reply = ErrorCode | Exception


class Brokers:
    """Two brokers. `coordinators` and `leaders` say who is what; `replies` has what is answered to the next requests of a kind
    instead of success, `always` what is answered to all of them; `away` are not reachable."""

    def __init__(self) -> None:
        self.coordinator = ONE
        self.leaders: dict[TopicPartition, Address] = dict.fromkeys((P0, P1, P2), ONE)
        self.replies: dict[RequestType, list[Reply]] = {}
        self.always: dict[RequestType, Reply] = {}
        self.refused: dict[TopicPartition, list[ErrorCode]] = {}
        self.away: set[Address] = set()
        self.asked: list[tuple[str, str]] = []
        self.produced: list[dict[TopicPartition, bytes]] = []
        self.epoch = 0
        self.first_is_open = False
        self.answers_others = False
        self.before: Callable[[RequestType], None] = lambda kind: None

    # --- the pool of connections of a session

    async def connect(self, address: Address) -> "Wire":
        if address in self.away:
            raise BrokerUnreachable(address[0], "refused")
        return Wire(self, address)

    def get_open(self, address: Address) -> "Wire | None":
        return None if address in self.away else Wire(self, address)

    async def connect_any(self) -> "Wire":
        self.first_is_open = True
        return Wire(self, ("any", 0))

    def close_first(self) -> None:
        self.first_is_open = False

    def close(self) -> None:
        self.first_is_open = False

    # --- answers

    def names(self) -> list[str]:
        """The kinds of requests since the last call."""
        names = [name for _, name in self.asked]
        self.asked.clear()
        return names

    def reply(self, kind: RequestType) -> ErrorCode:
        self.before(kind)
        waiting = self.replies.get(kind)
        reply = waiting.pop(0) if waiting else self.always.get(kind, ErrorCode.NONE)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def message(self, kind: RequestType, code: ErrorCode, message: Message) -> Message:
        if kind == requests.FIND_COORDINATOR:
            return {"coordinators": [{"error_code": code, "host": self.coordinator[0], "port": self.coordinator[1]}]}
        if kind == requests.METADATA:
            asked = {topic["name"] for topic in message["topics"]}
            return {
                "brokers": [{"node_id": n, "host": host, "port": port} for n, (host, port) in enumerate((ONE, TWO))],
                "topics": [
                    {
                        "name": name,
                        "partitions": [
                            {"partition_index": tp.partition, "leader_id": (ONE, TWO).index(leader)}
                            for tp, leader in self.leaders.items()
                            if tp.topic == name
                        ],
                    }
                    for name in asked
                ],
            }
        if code == ErrorCode.NONE:
            self.epoch += 1
        return {"error_code": code, "producer_id": 7, "producer_epoch": self.epoch}

    def store(self, body: bytes) -> bytes:
        code = self.reply(requests.PRODUCE)
        batches = {
            TopicPartition(topic, number): batch or b""
            for topic, partitions in read_request(body, 0, requests.PRODUCE.version).topics
            for number, batch in partitions
        }
        self.produced.append(batches)
        base_offset = 100 * len(self.produced)
        codes = {tp: code or (self.refused.get(tp) or [ErrorCode.NONE]).pop(0) for tp in batches}
        if self.answers_others:
            codes = {P2: ErrorCode.NONE}
        entries = [
            {"index": tp.partition, "error_code": code, "base_offset": -1 if code else base_offset, "error_message": "why"}
            for tp, code in codes.items()
        ]
        return encode_response(*requests.PRODUCE, {"responses": [{"name": P0.topic, "partition_responses": entries}]})


class Wire:
    """A connection to one of them."""

    def __init__(self, brokers: Brokers, address: Address) -> None:
        self._brokers = brokers
        self.address = address[0]

    async def ask(self, kind: RequestType, message: Message) -> Message:
        self._brokers.asked.append((self.address, kind.name))
        return self._brokers.message(kind, self._brokers.reply(kind), message)

    async def request(self, kind: RequestType, body: bytes, read: Callable[[bytes], Any], *, timeout_seconds: float) -> Any:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.send(kind, body, answer.set_result, answer.set_exception, timeout_seconds=timeout_seconds)
        return read(await answer)

    def send(
        self,
        kind: RequestType,
        body: bytes,
        on_answer: Callable[[bytes], object],
        on_lost: Callable[[Any], object],
        *,
        timeout_seconds: float,
    ) -> None:
        self._brokers.asked.append((self.address, kind.name))
        asyncio.get_running_loop().call_soon(self._answer, kind, body, on_answer, on_lost)

    def _answer(
        self, kind: RequestType, body: bytes, on_answer: Callable[[bytes], object], on_lost: Callable[[Any], object]
    ) -> None:
        try:
            if kind == requests.PRODUCE:
                answer = self._brokers.store(body)
            else:
                answer = encode_response(*kind, self._brokers.message(kind, self._brokers.reply(kind), {}))
        except Exception as error:
            on_lost(error)
        else:
            on_answer(answer)


def record(value: bytes = b"x") -> Record:
    return Record(b"key", value, (), 1)


def session_on(brokers: Brokers) -> Kip890Session:
    cluster = dataclasses.replace(Cluster.of("any:9092"), request_seconds=REQUEST_SECONDS)
    session = Kip890Session(cluster, "owner", retry_seconds=RETRY_SECONDS, open_seconds=OPEN_SECONDS)
    session._connections = brokers  # type: ignore[assignment]
    return session


async def opened(brokers: Brokers) -> Kip890Session:
    session = session_on(brokers)
    await session.open()
    brokers.asked.clear()
    return session


async def timed(call: Coroutine[Any, Any, object]) -> float:
    """How long it takes, in virtual seconds."""
    began = asyncio.get_running_loop().time()
    await call
    return asyncio.get_running_loop().time() - began


async def failed(call: Coroutine[Any, Any, object], error: type[Exception], match: str | None) -> tuple[float, Any]:
    """(how long it takes to fail so, the error)."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(error, match=match) as raised:
        await call
    return asyncio.get_running_loop().time() - began, raised.value


@pytest.fixture
def brokers() -> Brokers:
    """Two brokers that answer every request with success."""
    return Brokers()


BUSY = [ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS]
MOVED = [ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE]


def named(codes: list[ErrorCode]) -> dict[str, Any]:
    return {"argvalues": codes, "ids": [code.name for code in codes]}


# --- open


def test_opening_takes_two_requests_and_closes_the_first_connection(brokers: Brokers) -> None:
    async def main() -> None:
        session = session_on(brokers)
        assert await timed(session.open()) == 0
        assert brokers.asked == [("any", "FindCoordinator"), ("one", "InitProducerId")]
        assert not brokers.first_is_open
        assert (session.producer_id, session.producer_epoch) == (7, 1)

    virtual_time.run(main())


@pytest.mark.parametrize("code", **named(BUSY))
def test_a_busy_coordinator_is_asked_again_within_milliseconds(brokers: Brokers, code: ErrorCode) -> None:
    async def main() -> None:
        brokers.replies[requests.INIT_PRODUCER_ID] = [code] * 3
        assert await timed(session_on(brokers).open()) == pytest.approx(3 * kip890.MARKERS_PENDING_SECONDS)
        assert brokers.names() == ["FindCoordinator", *["InitProducerId"] * 4]

    virtual_time.run(main())


@pytest.mark.parametrize("code", **named(MOVED))
def test_a_coordinator_that_moved_is_looked_up_again(brokers: Brokers, code: ErrorCode) -> None:
    async def main() -> None:
        brokers.replies[requests.INIT_PRODUCER_ID] = [code]

        def move(kind: RequestType) -> None:
            brokers.coordinator = TWO if kind == requests.INIT_PRODUCER_ID else brokers.coordinator

        brokers.before = move
        assert await timed(session_on(brokers).open()) == pytest.approx(kip890.BACKOFF_SECONDS)
        assert brokers.asked == [
            ("any", "FindCoordinator"),
            ("one", "InitProducerId"),
            ("any", "FindCoordinator"),
            ("two", "InitProducerId"),
        ]

    virtual_time.run(main())


def test_while_there_is_no_coordinator_it_is_looked_up_again(brokers: Brokers) -> None:
    async def main() -> None:
        brokers.replies[requests.FIND_COORDINATOR] = [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 2
        assert await timed(session_on(brokers).open()) == pytest.approx(2 * kip890.BACKOFF_SECONDS)
        assert brokers.names() == [*["FindCoordinator"] * 3, "InitProducerId"]

    virtual_time.run(main())


@pytest.mark.parametrize("kind", [requests.FIND_COORDINATOR, requests.INIT_PRODUCER_ID], ids=lambda kind: kind.name)
@pytest.mark.parametrize("code", **named(BUSY + MOVED))
def test_opening_gives_up_after_its_time(brokers: Brokers, kind: RequestType, code: ErrorCode) -> None:
    async def main() -> None:
        brokers.always[kind] = code
        seconds, _ = await failed(session_on(brokers).open(), SessionFailed, f"{kind.name} .*'owner'.* {code.name}")
        assert OPEN_SECONDS < seconds < OPEN_SECONDS + 0.1

    virtual_time.run(main())


@pytest.mark.parametrize("kind", [requests.FIND_COORDINATOR, requests.INIT_PRODUCER_ID], ids=lambda kind: kind.name)
def test_an_error_that_does_not_pass_fails_at_once(brokers: Brokers, kind: RequestType) -> None:
    async def main() -> None:
        brokers.replies[kind] = [ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED]
        reason = f"{kind.name} .*'owner'.* TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
        seconds, _ = await failed(session_on(brokers).open(), SessionFailed, reason)
        assert seconds == 0

    virtual_time.run(main())


@pytest.mark.parametrize("lost", [ConnectionLost("cut"), BrokerUnreachable("any:9092", "refused")], ids=["lost", "unreachable"])
def test_opening_asks_again_after_a_lost_connection_until_its_time_is_over(brokers: Brokers, lost: Exception) -> None:
    async def main() -> None:
        brokers.replies[requests.INIT_PRODUCER_ID] = [lost]
        assert await timed(session_on(brokers).open()) == pytest.approx(kip890.BACKOFF_SECONDS)
        assert brokers.names() == ["FindCoordinator", "InitProducerId"] * 2
        brokers.always[requests.INIT_PRODUCER_ID] = lost
        seconds, error = await failed(session_on(brokers).open(), type(lost), None)
        assert error is lost
        assert OPEN_SECONDS < seconds < OPEN_SECONDS + 0.1

    virtual_time.run(main())


def test_a_coordinator_that_is_away_is_named(brokers: Brokers) -> None:
    async def main() -> None:
        brokers.away = {ONE}
        _, error = await failed(session_on(brokers).open(), ConnectionLost, "coordinator of 'owner', one, does not respond")
        assert error.cause == "leader one"

    virtual_time.run(main())


# --- produce


def test_a_commit_is_one_request_to_each_leader_and_one_end(brokers: Brokers) -> None:
    async def main() -> None:
        brokers.leaders[P1] = TWO
        session = await opened(brokers)
        offsets = await session.commit({P0: [record()], P1: [record()], P2: [record()]})
        assert brokers.asked == [("any", "Metadata"), ("one", "Produce"), ("two", "Produce"), ("one", "EndTxn")]
        assert [set(batches) for batches in brokers.produced] == [{P0, P2}, {P1}]
        assert offsets == {P0: 100, P1: 200, P2: 100}
        brokers.asked.clear()
        await session.commit({P1: [record()]})
        assert brokers.asked == [("two", "Produce"), ("one", "EndTxn")]
        assert session.producer_epoch == 3

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("code", "pause", "looks_up"),
    [
        (ErrorCode.CONCURRENT_TRANSACTIONS, kip890.MARKERS_PENDING_SECONDS, False),
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, kip890.BACKOFF_SECONDS, False),
        (ErrorCode.NOT_COORDINATOR, kip890.BACKOFF_SECONDS, False),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, kip890.BACKOFF_SECONDS, True),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, kip890.BACKOFF_SECONDS, True),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_only_refused_partitions_are_sent_again_with_the_same_bytes(
    brokers: Brokers, code: ErrorCode, pause: float, looks_up: bool
) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.refused[P1] = [code, code]
        outputs = {tp: [record(str(tp).encode())] for tp in (P0, P1)}
        assert await timed(session.commit(outputs)) == pytest.approx(2 * pause)
        first, *again = brokers.produced
        assert set(first) == {P0, P1}
        assert again == [{P1: first[P1]}] * 2
        sent = ["Metadata", "Produce"] if looks_up else ["Produce"]
        assert brokers.names() == ["Metadata", "Produce", *sent, *sent, "EndTxn"]

    virtual_time.run(main())


def test_a_longer_pause_of_one_partition_holds_for_all(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.refused = {P0: [ErrorCode.NOT_LEADER_OR_FOLLOWER], P1: [ErrorCode.CONCURRENT_TRANSACTIONS]}
        assert await timed(session.commit({P0: [record()], P1: [record()]})) == pytest.approx(kip890.BACKOFF_SECONDS)

    virtual_time.run(main())


def test_records_go_to_the_new_leader(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        await session.commit({P0: [record()]})
        brokers.asked.clear()
        brokers.leaders[P0] = TWO
        brokers.refused[P0] = [ErrorCode.NOT_LEADER_OR_FOLLOWER]
        await session.commit({P0: [record()]})
        assert brokers.asked == [("one", "Produce"), ("any", "Metadata"), ("two", "Produce"), ("one", "EndTxn")]

    virtual_time.run(main())


@pytest.mark.parametrize("code", **named(sorted(kip890.PASSING)))
def test_a_refusal_that_does_not_pass_in_time_fails_the_session(brokers: Brokers, code: ErrorCode) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.always[requests.PRODUCE] = code
        seconds, error = await failed(session.commit({P1: [record()]}), SessionFailed, rf"topic-1: {code.name} why\.")
        assert error.cause == f"refused: {code.name}"
        assert RETRY_SECONDS < seconds < RETRY_SECONDS + 0.1
        await failed(session.commit({P1: [record()]}), SessionFailed, f"has ended: .*topic-1: {code.name} why\\.$")

    virtual_time.run(main())


def test_a_refusal_for_good_fails_the_session_at_once(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.refused[P1] = [ErrorCode.TOPIC_AUTHORIZATION_FAILED]
        outputs = {P0: [record()], P1: [record()]}
        seconds, error = await failed(session.commit(outputs), SessionFailed, "topic-1: TOPIC_AUTHORIZATION_FAILED why")
        assert (seconds, error.cause) == (0, "refused: TOPIC_AUTHORIZATION_FAILED")

    virtual_time.run(main())


@pytest.mark.parametrize("kind", [requests.INIT_PRODUCER_ID, requests.PRODUCE, requests.END_TXN], ids=lambda kind: kind.name)
@pytest.mark.parametrize("code", **named(sorted(kip890.FENCED)))
def test_a_session_that_was_taken_over_is_fenced(brokers: Brokers, kind: RequestType, code: ErrorCode) -> None:
    async def main() -> None:
        session = session_on(brokers)
        if kind == requests.INIT_PRODUCER_ID:
            brokers.replies[kind] = [code]
            await failed(session.open(), SessionFenced, f"'owner'.*{code.name}")
            await failed(session.commit({P0: [record()]}), SessionFailed, "it was not opened")
            return
        await session.open()
        brokers.replies[kind] = [code]
        await failed(session.commit({P0: [record()]}), SessionFenced, f"'owner'.*{code.name}")
        await failed(session.commit({P0: [record()]}), SessionFailed, f"has ended: Another session .*{code.name}")

    virtual_time.run(main())


def test_a_response_about_other_partitions_fails_the_session(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.answers_others = True
        await failed(session.commit({P0: [record()]}), SessionFailed, "response of one has other partitions")

    virtual_time.run(main())


def test_a_lost_produce_response_leaves_the_outcome_unknown_and_names_its_partitions(brokers: Brokers) -> None:
    async def main() -> None:
        brokers.leaders[P1] = TWO
        session = await opened(brokers)
        brokers.replies[requests.PRODUCE] = [ConnectionLost("Cut.", cause="leader one")]
        outputs = {P0: [record()], P1: [record()], P2: [record()]}
        _, error = await failed(session.commit(outputs), SessionFailed, "unknown. Cut. .*leader of topic-0, topic-2")
        assert error.cause == "leader one"
        await failed(session.commit(outputs), SessionFailed, r"has ended: Cut\. .*topic-2\.$")
        assert "EndTxn" not in brokers.names()

    virtual_time.run(main())


def test_a_leader_that_is_away_fails_the_session(brokers: Brokers) -> None:
    async def main() -> None:
        brokers.leaders[P1] = TWO
        session = await opened(brokers)
        brokers.away = {TWO}
        _, error = await failed(session.commit({P1: [record()]}), SessionFailed, "leader of topic-1, two, does not respond")
        assert error.cause == "leader two"

    virtual_time.run(main())


def test_a_partition_without_a_leader_is_waited_for(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        leader = brokers.leaders.pop(P2)
        asyncio.get_running_loop().call_later(1.0, brokers.leaders.update, {P2: leader})
        assert 1 <= await timed(session.commit({P0: [record()], P2: [record()]})) < 1.1

    virtual_time.run(main())


def test_a_partition_that_gets_no_leader_in_time_fails_the_session(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        del brokers.leaders[P2]
        outputs = {P0: [record()], P2: [record()]}
        seconds, error = await failed(session.commit(outputs), SessionFailed, "No leader for topic-2 within 3 s")
        assert RETRY_SECONDS < seconds < RETRY_SECONDS + 0.1
        assert (error.cause, brokers.produced) == ("leader None", [])

    virtual_time.run(main())


# --- requests of a limited size


def batches(*sizes: int) -> Mapping[TopicPartition, bytes]:
    return {TopicPartition("topic", number): bytes(size) for number, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ((60, 40), [(60, 40)]),
        ((60, 41), [(60,), (41,)]),
        ((150, 1), [(150,), (1,)]),
        ((1, 150), [(1,), (150,)]),
        ((60, 60, 40, 1), [(60,), (60, 40), (1,)]),
    ],
)
def test_produce_requests_have_a_limited_size(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], cut: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(kip890, "REQUEST_BYTES_MAX", 100)
    parts = kip890._cut(batches(*sizes))
    assert [tuple(map(len, part.values())) for part in parts] == cut
    assert {tp: batch for part in parts for tp, batch in part.items()} == batches(*sizes)


def test_a_large_commit_takes_several_requests_to_a_leader(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(kip890, "REQUEST_BYTES_MAX", 10_000)
        session = await opened(brokers)
        offsets = await session.commit({tp: [record(bytes(6_000))] for tp in (P0, P1, P2)})
        assert brokers.names() == ["Metadata", "Produce", "Produce", "Produce", "EndTxn"]
        assert offsets == {P0: 100, P1: 200, P2: 300}

    virtual_time.run(main())


def test_the_largest_batch_that_topics_accept_is_sent(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        session = await opened(brokers)
        (size,) = (len(batch) for batch in session._build_rounds({P0: [record()]})[0].values())
        monkeypatch.setattr(kip890, "BATCH_BYTES_MAX", size)
        await session.commit({P0: [record()]})
        monkeypatch.setattr(kip890, "BATCH_BYTES_MAX", size - 1)
        await failed(session.commit({P0: [record()]}), RecordTooLarge, f"has about {size} bytes; the limit is {size - 1}")

    virtual_time.run(main())


# --- the end of a transaction


@pytest.mark.parametrize(
    ("reply", "pause", "looks_up"),
    [
        (ErrorCode.CONCURRENT_TRANSACTIONS, kip890.MARKERS_PENDING_SECONDS, False),
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, kip890.MARKERS_PENDING_SECONDS, False),
        (ErrorCode.NOT_COORDINATOR, kip890.BACKOFF_SECONDS, True),
        (ErrorCode.COORDINATOR_NOT_AVAILABLE, kip890.BACKOFF_SECONDS, True),
        (ConnectionLost("cut"), kip890.BACKOFF_SECONDS, True),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_same_end_is_asked_for_again(brokers: Brokers, reply: Reply, pause: float, looks_up: bool) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.replies[requests.END_TXN] = [reply]
        assert await timed(session.commit({P0: [record()]})) == pytest.approx(pause)
        again = ["FindCoordinator", "EndTxn"] if looks_up else ["EndTxn"]
        assert brokers.names() == ["Metadata", "Produce", "EndTxn", *again]
        assert session.producer_epoch == 2

    virtual_time.run(main())


@pytest.mark.parametrize("code", **named(BUSY + MOVED))
def test_an_end_that_stays_refused_fails_the_session(brokers: Brokers, code: ErrorCode) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.always[requests.END_TXN] = code
        seconds, _ = await failed(session.commit({P0: [record()]}), SessionFailed, f"EndTxn .*{code.name}")
        assert REQUEST_SECONDS < seconds < REQUEST_SECONDS + 0.1

    virtual_time.run(main())


def test_an_end_without_any_answer_fails_the_session(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        brokers.always[requests.END_TXN] = ConnectionLost("Cut.", cause="leader one")
        seconds, error = await failed(session.commit({P0: [record()]}), SessionFailed, r"outcome .*'owner' is unknown\. Cut\.")
        assert REQUEST_SECONDS < seconds < REQUEST_SECONDS + 0.1
        assert error.cause == "leader one"

    virtual_time.run(main())


def test_an_end_that_brings_no_new_epoch_fails_the_session(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)

        def stand_still(kind: RequestType) -> None:
            brokers.epoch -= kind == requests.END_TXN

        brokers.before = stand_still
        await failed(session.commit({P0: [record()]}), SessionFailed, "no new epoch: the broker lacks KIP-890")

    virtual_time.run(main())


# --- one transaction at a time


def test_two_transactions_at_once_are_a_mistake_of_the_caller(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        committing = asyncio.create_task(session.commit({P0: [record()]}))
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="already committing"):
            await session.commit({P0: [record()]})
        assert await committing == {P0: 100}
        await session.commit({P0: [record()]})

    virtual_time.run(main())


def test_a_cancelled_commit_ends_the_session_and_says_why(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        committing = asyncio.create_task(session.commit({P0: [record()]}))
        await asyncio.sleep(0)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        await failed(session.commit({P0: [record()]}), SessionFailed, r"'owner' has ended: CancelledError\.")

    virtual_time.run(main())


def test_a_session_that_is_closed_while_its_transaction_ends_stays_closed(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        closing: list[asyncio.Task[None]] = []

        def close(kind: RequestType) -> None:
            if kind == requests.END_TXN:
                closing.append(asyncio.create_task(session.close()))

        brokers.before = close
        assert await session.commit({P0: [record()]}) == {P0: 100}
        await closing.pop()
        with pytest.raises(SessionFailed, match="closed by its owner"):
            await session.commit({P0: [record()]})

    virtual_time.run(main())


def test_each_transaction_is_ended_by_a_request_of_its_own(brokers: Brokers) -> None:
    async def main() -> None:
        session = await opened(brokers)
        session._early_end = IdentityAnswer(ErrorCode.NONE, 7, 99)
        brokers.leaders[P1] = TWO
        await session.commit({P0: [record()], P1: [record()]})
        assert brokers.names() == ["Metadata", "Produce", "Produce", "EndTxn"]

    virtual_time.run(main())
