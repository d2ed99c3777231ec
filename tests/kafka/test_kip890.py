"""Failures of the KIP-890 session: lost responses, delayed requests, an exhausted producer id."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hub.broker import BrokerSettings
from hub.kafka import (
    Cluster,
    ConnectionLost,
    Kip890Session,
    SessionFailed,
    SessionFenced,
    TopicPartition,
    connections,
    kip890,
    open_session,
    requests,
    supports_kip890,
)
from hub.kafka.connection import Connection
from hub.protocol import RequestType
from hub.protocol.transactions import read_end_txn, write_end_txn
from tests.brokers import broker_in_thread, unique
from tests.conformance.session.worlds import World, record


class Fault:
    """Cuts the connection around the next requests of one kind: `after` the broker has answered, or before it was
    asked."""

    def __init__(self) -> None:
        self.api: RequestType | None = None
        self.times = 0
        self.after = True
        self.seen: list[str] = []

    def cut(self, api: RequestType, *, times: int = 1, after: bool = True) -> None:
        """Arm it."""
        self.api, self.times, self.after = api, times, after


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Every connection of sessions made in this test obeys this fault."""
    armed = Fault()

    class Unreliable(Connection):
        def send(
            self,
            kind: RequestType,
            body: bytes,
            on_answer: Callable[[bytes], object],
            on_lost: Callable[[ConnectionLost], object],
            **options: Any,
        ) -> None:
            def cut(_: bytes = b"") -> None:
                self.close()
                on_lost(ConnectionLost("cut by the test"))

            armed.seen.append(kind.name)
            if kind is not armed.api or armed.times == 0:
                super().send(kind, body, on_answer, on_lost, **options)
                return
            armed.times -= 1
            if armed.after:
                super().send(kind, body, cut, on_lost, **options)
            else:
                asyncio.get_running_loop().call_soon(cut)

    monkeypatch.setattr(connections, "Connection", Unreliable)
    return armed


@pytest.fixture
async def world(bootstrap: str) -> World:
    """A broker and KIP-890 sessions on it."""
    return World(bootstrap, Kip890Session)


@pytest.fixture
def owner() -> str:
    """A transactional id of this test's own."""
    return unique("owner")


async def opened(world: World, owner: str, **settings: Any) -> Kip890Session:
    session = Kip890Session(Cluster.of(world.bootstrap), owner, **settings)
    await session.open()
    return session


async def test_a_cluster_with_the_feature_gets_this_session(bootstrap: str, owner: str) -> None:
    assert await supports_kip890(Cluster.of(bootstrap))
    session = await open_session(Cluster.of(bootstrap), owner)
    assert isinstance(session, Kip890Session)
    await session.close()


async def test_every_transaction_has_an_epoch_of_its_own(world: World, owner: str) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    epochs = []
    for _ in range(3):
        epochs.append(session.producer_epoch)
        await session.commit({TopicPartition(topic, 0): [record("x")]})
    assert epochs == sorted(set(epochs))
    await session.close()


async def test_a_transaction_is_one_produce_and_one_end(world: World, owner: str, fault: Fault) -> None:
    topic, session = await world.topic(3), await opened(world, owner)
    outputs = {TopicPartition(topic, p): [record("x")] for p in range(3)}
    await session.commit(outputs)
    fault.seen.clear()
    async with asyncio.timeout(60):  # a busy broker may ask for a produce to be repeated
        while fault.seen != ["Produce", "EndTxn"]:
            fault.seen.clear()
            await session.commit(outputs)
    await session.close()


@pytest.mark.parametrize("times", [1, 3])
async def test_a_lost_answer_to_the_end_is_asked_for_again(world: World, owner: str, fault: Fault, times: int) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    fault.cut(requests.END_TXN, times=times)
    await session.commit({TopicPartition(topic, 0): [record("once")]})
    assert fault.times == 0
    await session.commit({TopicPartition(topic, 0): [record("next")]})
    assert await world.values(topic) == [b"once", b"next"]
    await session.close()


async def test_a_commit_that_is_cancelled_before_its_produce_is_acknowledged_is_not_ended(
    world: World, owner: str, fault: Fault
) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    await session.commit({TopicPartition(topic, 0): [record("a")]})
    fault.seen.clear()
    commit = asyncio.create_task(session.commit({TopicPartition(topic, 0): [record("cancelled")]}))
    while not fault.seen:
        await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert fault.seen == ["Produce"]
    successor = await opened(world, owner)
    await successor.commit({TopicPartition(topic, 0): [record("b")]})
    assert await world.values(topic) == [b"a", b"b"]
    await successor.close()


async def test_an_end_that_was_never_sent_is_sent_again(world: World, owner: str, fault: Fault) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    fault.cut(requests.END_TXN, after=False)
    await session.commit({TopicPartition(topic, 0): [record("once")]})
    assert await world.values(topic) == [b"once"]
    await session.close()


async def test_an_end_that_never_gets_an_answer_fails_the_session(world: World, owner: str, fault: Fault) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    session._request_seconds = 0.5  # from here on: to open it had the usual time
    fault.cut(requests.END_TXN, times=1_000)
    with pytest.raises(SessionFailed):
        await session.commit({TopicPartition(topic, 0): [record("committed all the same")]})
    fault.times = 0
    successor = await opened(world, owner)
    assert await world.values(topic) == [b"committed all the same"]
    await successor.close()


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
async def test_a_lost_answer_to_a_produce_fails_the_session_and_its_successor_ends_the_transaction(
    world: World, owner: str, fault: Fault, after: bool
) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    fault.cut(requests.PRODUCE, after=after)
    with pytest.raises(SessionFailed):
        await session.commit({TopicPartition(topic, 0): [record("lost")]})
    with pytest.raises(SessionFailed, match="ended"):
        await session.commit({TopicPartition(topic, 0): [record("too late")]})
    successor = await opened(world, owner)
    await successor.commit({TopicPartition(topic, 0): [record("new")]})
    assert await world.values(topic) == [b"new"]
    await successor.close()


@pytest.mark.parametrize("api", [requests.FIND_COORDINATOR, requests.INIT_PRODUCER_ID], ids=lambda api: api.name)
async def test_open_tries_again_when_an_answer_is_lost(world: World, owner: str, fault: Fault, api: RequestType) -> None:
    topic = await world.topic()
    fault.cut(api)
    session = await opened(world, owner)
    await session.commit({TopicPartition(topic, 0): [record("x")]})
    assert await world.values(topic) == [b"x"]
    await session.close()


async def test_a_connection_that_ended_between_transactions_is_made_anew(world: World, owner: str) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    await session.commit({TopicPartition(topic, 0): [record("a")]})
    for connection in session._connections._connections.values():
        connection.close()
    await session.commit({TopicPartition(topic, 0): [record("b")]})
    assert await world.values(topic) == [b"a", b"b"]
    await session.close()


async def test_requests_of_an_earlier_transaction_come_too_late(world: World, owner: str) -> None:
    topic, session = await world.topic(), await opened(world, owner)
    earlier = (session.producer_id, session.producer_epoch)
    late = session._build_rounds({TopicPartition(topic, 0): [record("late")]})[0]
    await session.commit({TopicPartition(topic, 0): [record("a")]})
    await session._produce(session._build_rounds({TopicPartition(topic, 0): [record("open")]})[0])
    coordinator = await session._connect_coordinator(asyncio.get_running_loop().time() + 60)
    for committed in (True, False):
        body = write_end_txn(owner, *earlier, committed=committed)
        assert (await coordinator.request(requests.END_TXN, body, read_end_txn)).code in kip890.FENCED
    with pytest.raises((SessionFenced, SessionFailed)):
        await session._produce(late)
    await session.close()
    successor = await opened(world, owner)
    assert await world.values(topic) == [b"a"]
    await successor.close()


async def test_a_transaction_that_took_too_long_cannot_be_committed(world: World, owner: str) -> None:
    topic, session = await world.topic(), await opened(world, owner, transaction_timeout_ms=3_000)
    await session._produce(session._build_rounds({TopicPartition(topic, 0): [record("slow")]})[0])
    async with asyncio.timeout(60):
        while (await world.ends(topic))[0] == 0:
            await asyncio.sleep(0.05)
    with pytest.raises((SessionFenced, SessionFailed)):
        await session._end_transaction()
    successor = await opened(world, owner)
    await successor.commit({TopicPartition(topic, 0): [record("new")]})
    assert await world.values(topic) == [b"new"]
    await successor.close()
    await session.close()


# --- the end of a producer id

EPOCHS = 6
KAFKAS_EPOCHS = 32_767


@pytest.fixture
def short_lived_ids() -> Iterator[World]:
    """An embedded broker whose producers get a new id after a few transactions."""
    with broker_in_thread(settings=BrokerSettings(producer_epoch_max=EPOCHS)) as server:
        yield World(server.bootstrap, Kip890Session)


async def test_a_new_producer_id_is_a_step_like_any_other(short_lived_ids: World, owner: str) -> None:
    topic, session = await short_lived_ids.topic(2), await opened(short_lived_ids, owner)
    ids = set()
    for n in range(5 * EPOCHS):
        await session.commit({TopicPartition(topic, p): [record(f"{n}")] for p in (0, 1)})
        ids.add(session.producer_id)
    assert len(ids) >= 4
    for partition in (0, 1):
        assert await short_lived_ids.values(topic, partition) == [f"{n}".encode() for n in range(5 * EPOCHS)]
    await session.close()


async def test_lost_answers_at_every_epoch_repeat_nothing(short_lived_ids: World, owner: str, fault: Fault) -> None:
    topic, session = await short_lived_ids.topic(), await opened(short_lived_ids, owner)
    for n in range(3 * EPOCHS):
        fault.cut(requests.END_TXN)
        await session.commit({TopicPartition(topic, 0): [record(f"{n}")]})
    assert await short_lived_ids.values(topic) == [f"{n}".encode() for n in range(3 * EPOCHS)]
    await session.close()


@pytest.mark.parametrize("transactions", range(EPOCHS + 2))
async def test_take_over_from_the_dead_at_every_epoch(short_lived_ids: World, owner: str, transactions: int) -> None:
    topic, session = await short_lived_ids.topic(), await opened(short_lived_ids, owner)
    for n in range(transactions):
        await session.commit({TopicPartition(topic, 0): [record(f"{n}")]})
    await session._produce(session._build_rounds({TopicPartition(topic, 0): [record("half")]})[0])
    successor = await opened(short_lived_ids, owner)
    with pytest.raises(SessionFenced):
        await session._end_transaction()
    await successor.commit({TopicPartition(topic, 0): [record("new")]})
    assert await short_lived_ids.values(topic) == [*(f"{n}".encode() for n in range(transactions)), b"new"]
    await session.close()
    await successor.close()


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_on_apache_kafka_too_a_new_producer_id_is_a_step_like_any_other(kafka_bootstrap: str, owner: str) -> None:
    world = World(kafka_bootstrap, Kip890Session)
    topic, session = await world.topic(), await opened(world, owner)
    first, count = session.producer_id, 0
    await take_over_until(session, KAFKAS_EPOCHS - 50)
    assert session.producer_id == first
    while session.producer_id == first or count % 100:
        await session.commit({TopicPartition(topic, 0): [record(f"{count}")]})
        count += 1
    assert count == 100
    assert await world.values(topic) == [f"{n}".encode() for n in range(count)]
    await session.close()


async def take_over_until(session: Kip890Session, epoch: int) -> None:
    """Let the session take its id over until it has this epoch: one request each, where a transaction takes two."""
    while session.producer_epoch < epoch:
        identity = await session._init_producer_id(asyncio.get_running_loop().time() + 60)
        session.producer_id, session.producer_epoch = identity.producer_id, identity.producer_epoch
