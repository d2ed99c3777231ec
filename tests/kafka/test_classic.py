"""The session on aiokafka's producer: behaviour specific to version 1 of the transaction protocol."""

import asyncio
import dataclasses
import gc
import logging
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import RequestTimedOutError
from aiokafka.producer import sender
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import EndTxnRequest

from hub.kafka import (
    BrokerUnreachable,
    ClassicSession,
    Cluster,
    RecordTooLarge,
    SessionFailed,
    SessionFenced,
    TopicPartition,
    classic,
    open_session,
    opening,
)
from hub.kafka.codec import size_of
from tests.brokers import unique
from tests.conformance.session.worlds import World, record
from tests.ports import free_port


@pytest.fixture
def world(bootstrap: str) -> World:
    """A broker and classic sessions on it."""
    return World(bootstrap, ClassicSession)


@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "does not arrive"])
async def test_the_end_of_a_transaction_is_sent_once_even_if_its_answer_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, arrives: bool
) -> None:
    topic, owner = await world.topic(), unique("owner")
    session = world.session(owner)
    await session.open()
    ends = 0
    send = AIOKafkaClient.send

    async def unreliable(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        nonlocal ends
        if not isinstance(request, EndTxnRequest):
            return await send(self, node, request, **options)
        ends += 1
        if arrives:
            await send(self, node, request, **options)
        raise RequestTimedOutError("cut by the test")

    monkeypatch.setattr(AIOKafkaClient, "send", unreliable)
    with pytest.raises(SessionFailed):
        await session.commit({TopicPartition(topic, 0): [record("x")]})
    assert ends == 1
    monkeypatch.undo()
    successor = world.session(owner)
    await successor.open()
    assert await world.values(topic) == ([b"x"] if arrives else [])
    await session.close()
    await successor.close()
    assert [
        entry for entry in caplog.records if entry.levelno >= logging.ERROR and entry.name != "aiokafka.producer.sender"
    ] == []


def test_the_private_parts_that_this_leans_on_are_there() -> None:
    """When one of these has gone upstream, see hub/kafka/classic.py."""
    assert callable(sender.Sender._do_txn_commit)
    assert callable(sender.Sender._find_coordinator)
    names = sender.Sender._do_txn_commit.__code__.co_names
    assert {"flush_for_commit", "is_empty_transaction", "_find_coordinator", "EndTxnHandler", "do"} <= set(names)
    assert "_do_txn_commit" in sender.Sender._maybe_do_transactional_request.__code__.co_names
    assert callable(sender.EndTxnHandler.handle_response)


async def test_a_cluster_without_the_feature_gets_this_session(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer_no(*_: object, **__: object) -> bool:
        return False

    monkeypatch.setattr(opening, "supports_kip890", answer_no)
    session = await open_session(Cluster.of(bootstrap), unique("owner"))
    assert isinstance(session, ClassicSession)
    await session.close()


async def test_a_broker_that_is_not_there_is_named() -> None:
    port = free_port()
    session = ClassicSession(Cluster.of(f"127.0.0.1:{port}"), "owner")
    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
        await session.open()
    with pytest.raises(SessionFailed, match=r"'owner' has ended: opening failed: KafkaConnectionError\("):
        await session.commit({TopicPartition("topic", 0): [record("x")]})
    await session.close()


async def test_the_time_for_a_commit_is_that_of_retries_and_of_a_request(world: World) -> None:
    topic = await world.topic()
    hasty = dataclasses.replace(Cluster.of(world.bootstrap), request_seconds=5.0)
    session = ClassicSession(hasty, unique("owner"), retry_seconds=30.0)
    await session.open()
    await session.commit({TopicPartition(topic, 0): [record("x")]})
    assert await world.values(topic) == [b"x"]
    await session.close()


async def test_the_largest_record_that_topics_accept_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, largest = await world.topic(), record(b"x" * 1000)
    session = world.session(unique("owner"))
    await session.open()
    monkeypatch.setattr(classic, "BATCH_BYTES_MAX", size_of(largest) + 128)
    await session.commit({TopicPartition(topic, 0): [record("x"), largest]})
    monkeypatch.setattr(classic, "BATCH_BYTES_MAX", size_of(largest) + 127)
    with pytest.raises(RecordTooLarge):
        await session.commit({TopicPartition(topic, 0): [record("x"), largest]})
    assert await world.values(topic) == [b"x", largest.value]
    await session.close()


async def test_two_transactions_at_once_are_a_mistake_of_the_caller(world: World) -> None:
    topic = await world.topic()
    session = world.session(unique("owner"))
    await session.open()
    committing = asyncio.create_task(session.commit({TopicPartition(topic, 0): [record("x")]}))
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="already committing"):
        await session.commit({TopicPartition(topic, 0): [record("y")]})
    await committing
    await session.commit({TopicPartition(topic, 0): [record("z")]})
    assert await world.values(topic) == [b"x", b"z"]
    await session.close()


def cut_produce_requests(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """No produce request is answered from now on. Returns what is set at the first one."""
    send, asked = AIOKafkaClient.send, asyncio.Event()

    async def unanswered(self: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            asked.set()
            raise RequestTimedOutError("cut by the test")
        return await send(self, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", unanswered)
    return asked


async def logged_by_asyncio(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What asyncio has logged as an error, also of futures that nobody has any longer."""
    gc.collect()
    await asyncio.sleep(0)
    return [entry for entry in caplog.records if entry.name == "asyncio" and entry.levelno >= logging.ERROR]


async def test_a_session_that_ends_leaves_nothing_that_asyncio_logs(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    topic, session = await world.topic(), ClassicSession(Cluster.of(world.bootstrap), unique("owner"))
    await session.open()
    await session.commit({TopicPartition(topic, 0): [record("x")]})
    cut_produce_requests(monkeypatch)
    monkeypatch.setattr(session, "_commit_seconds", 1.0)
    with pytest.raises(SessionFailed, match="TimeoutError"):
        await session.commit({TopicPartition(topic, 0): [record(str(number) * 9000) for number in range(10)]})
    await session.close()
    assert await logged_by_asyncio(caplog) == []


async def test_an_interrupted_session_ends_without_its_unsent_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, session = await world.topic(), world.session(unique("owner"))
    await session.open()
    await session.commit({TopicPartition(topic, 0): [record("x")]})
    asked = cut_produce_requests(monkeypatch)
    monkeypatch.setattr(classic, "STOP_SECONDS", 3600.0)
    committing = asyncio.create_task(session.commit({TopicPartition(topic, 0): [record("y")]}))
    await asked.wait()
    committing.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await committing
    await session.close()


async def test_a_fenced_session_leaves_nothing_that_asyncio_logs(world: World, caplog: pytest.LogCaptureFixture) -> None:
    topic, owner = await world.topic(), unique("owner")
    session, successor = world.session(owner), world.session(owner)
    await session.open()
    await session.commit({TopicPartition(topic, 0): [record("x")]})
    await successor.open()
    with pytest.raises(SessionFenced):
        await session.commit({TopicPartition(topic, 0): [record("y")]})
    await session.close()
    await successor.close()
    assert await logged_by_asyncio(caplog) == []
