"""Ownership of a transactional id: fencing, take-over from a crashed owner, and that an ended session cannot be used."""

import asyncio

import pytest

from hub.kafka import SessionFailed, SessionFenced, TopicPartition
from tests.conformance.session.worlds import World, record


async def test_a_second_open_fences_the_first_session(world: World, owner: str) -> None:
    topic = await world.topic()
    first, second = world.session(owner), world.session(owner)
    await first.open()
    await first.commit({TopicPartition(topic, 0): [record("first")]})
    await second.open()
    with pytest.raises(SessionFenced):
        await first.commit({TopicPartition(topic, 0): [record("zombie")]})
    await second.commit({TopicPartition(topic, 0): [record("second")]})
    assert await world.values(topic) == [b"first", b"second"]
    with pytest.raises(SessionFailed, match="ended"):
        await first.commit({TopicPartition(topic, 0): [record("zombie again")]})
    await first.close()
    await second.close()


async def test_of_sessions_opened_again_and_again_only_the_last_can_commit(world: World, owner: str) -> None:
    topic = await world.topic()
    sessions = [world.session(owner) for _ in range(4)]
    for session in sessions:
        await session.open()
    for session in sessions[:-1]:
        with pytest.raises(SessionFenced):
            await session.commit({TopicPartition(topic, 0): [record("zombie")]})
    await sessions[-1].commit({TopicPartition(topic, 0): [record("last")]})
    assert await world.values(topic) == [b"last"]
    for session in sessions:
        await session.close()


async def test_an_open_transaction_is_invisible_and_holds_back_readers(world: World, owner: str) -> None:
    topic = await world.topic()
    await world.abandon(owner, {TopicPartition(topic, 0): [record("half")]})
    assert await world.ends(topic) == (0, 1)
    other = world.session(owner + "-other")
    await other.open()
    await other.commit({TopicPartition(topic, 0): [record("whole")]})
    assert await world.values(topic) == []
    await other.close()


async def test_open_ends_the_transaction_of_a_dead_owner(world: World, owner: str) -> None:
    topic = await world.topic(2)
    await world.abandon(owner, {TopicPartition(topic, p): [record("half")] for p in (0, 1)})
    successor = world.session(owner)
    await successor.open()
    for partition in (0, 1):
        stable, end = await world.ends(topic, partition)
        assert stable == end == 2  # the record and an abort marker
        assert await world.values(topic, partition) == []
    await successor.commit({TopicPartition(topic, 0): [record("whole")]})
    assert await world.values(topic) == [b"whole"]
    await successor.close()


async def test_a_transaction_that_nobody_ends_is_ended_by_the_time_out(world: World, owner: str) -> None:
    topic = await world.topic()
    await world.abandon(owner, {TopicPartition(topic, 0): [record("half")]}, transaction_timeout_ms=3_000)
    async with asyncio.timeout(60):
        while (await world.ends(topic))[0] == 0:
            await asyncio.sleep(0.05)
    assert await world.values(topic) == []


async def test_a_commit_that_was_cancelled_ends_the_session_and_happened_whole_or_not_at_all(world: World, owner: str) -> None:
    topic = await world.topic(2)
    session = world.session(owner)
    await session.open()
    committing = asyncio.create_task(session.commit({TopicPartition(topic, p): [record("x")] for p in (0, 1)}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    if not world.at_once:
        with pytest.raises(SessionFailed, match="ended"):
            await session.commit({TopicPartition(topic, 0): [record("y")]})
    await session.close()
    successor = world.session(owner)
    await successor.open()
    assert await world.values(topic, 0) == await world.values(topic, 1)
    await successor.close()


async def test_a_session_commits_only_between_open_and_close(world: World, owner: str) -> None:
    topic = await world.topic()
    session = world.session(owner)
    with pytest.raises(SessionFailed, match="not opened"):
        await session.commit({TopicPartition(topic, 0): [record("early")]})
    await session.open()
    await session.close()
    with pytest.raises(SessionFailed, match="closed"):
        await session.commit({TopicPartition(topic, 0): [record("late")]})
    await session.close()
    assert await world.ends(topic) == (0, 0)
