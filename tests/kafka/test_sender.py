"""Posted records are stored or reported, whatever the producer does; tests script its behaviour."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from hub.kafka import Cluster, Outgoing, RecordTooLarge, Sender
from tests.components.running import until

TOO_LARGE = b"too large"
TOO_LARGE_FOR_THE_BROKER = b"too large for the broker"


class Producer:
    """As much of AIOKafkaProducer as a sender uses. `ends` says what becomes of the next records; then they are stored."""

    def __init__(self, stored: list[bytes], ends: list[str], reachable: asyncio.Event) -> None:
        self._stored, self._ends, self._reachable = stored, ends, reachable

    async def start(self) -> None:
        await self._reachable.wait()

    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes, **_: Any) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        end = self._ends.pop(0) if self._ends else "stored"
        if end == "no room":
            await asyncio.Event().wait()
        if value == TOO_LARGE:
            raise MessageSizeTooLargeError
        if value == TOO_LARGE_FOR_THE_BROKER:
            future.set_exception(MessageSizeTooLargeError())
        elif end == "failed":
            future.set_exception(KafkaConnectionError())
        elif end == "cancelled":
            future.cancel()
        else:
            self._stored.append(value)
            future.set_result(None)
        return future


class Posts:
    """A sender on such a producer, and what it stored and settled."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.settled: list[bytes] = []
        self.ends: list[str] = []
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.sender = Sender(Cluster.of("x:1"))

    async def broken_with(self, value: bytes, *ends: str) -> None:
        """Post it, and wait until it has failed; what is sent again waits until the broker is `reachable`."""
        self.reachable.clear()
        self.ends += ends
        await self.post(value)
        await until(lambda: bool(self.sender._failed))

    async def post(self, value: bytes) -> None:
        await self.sender.post(Outgoing("t", 0, b"", value, ()), lambda: self.settled.append(value))


@pytest.fixture
async def posts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Posts]:
    posts = Posts()
    monkeypatch.setattr("hub.kafka.producer.make_producer", lambda *_, **__: Producer(posts.stored, posts.ends, posts.reachable))
    await posts.sender.start()
    yield posts
    await posts.sender.stop()


async def test_what_only_the_broker_finds_too_large_is_given_up_and_nothing_waits_behind_it(posts: Posts) -> None:
    await posts.post(TOO_LARGE_FOR_THE_BROKER)
    await posts.post(b"after")
    assert await posts.sender.flush(timeout_seconds=60)
    assert (posts.stored, posts.settled) == ([b"after"], [TOO_LARGE_FOR_THE_BROKER, b"after"])


async def test_what_is_too_large_and_was_posted_while_the_broker_was_away_holds_up_nothing(posts: Posts) -> None:
    await posts.broken_with(b"first", "failed")
    await posts.post(TOO_LARGE)
    await posts.post(b"after")
    posts.reachable.set()
    assert await posts.sender.flush(timeout_seconds=60)
    assert (posts.stored, posts.settled) == ([b"first", b"after"], [b"first", TOO_LARGE, b"after"])


async def test_a_producer_that_is_stopped_while_it_sends_again_is_followed_by_another(posts: Posts) -> None:
    await posts.broken_with(b"first", "failed", "cancelled")
    await posts.post(b"after")
    posts.reachable.set()
    assert await posts.sender.flush(timeout_seconds=60)
    assert sorted(posts.settled) == [b"after", b"first"]


async def test_only_what_failed_is_sent_again(posts: Posts) -> None:
    await posts.broken_with(b"first", "failed", "failed", "stored", "failed")
    await posts.post(b"second")
    await posts.post(b"third")
    posts.reachable.set()
    assert await posts.sender.flush(timeout_seconds=60)
    assert sorted(posts.stored) == [b"first", b"second", b"third"]


async def test_a_post_that_is_cancelled_or_refused_takes_no_room(posts: Posts) -> None:
    posts.ends += ["no room"]
    waiting = asyncio.get_running_loop().create_task(posts.post(b"never"))
    await until(lambda: not posts.ends)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RecordTooLarge):
        await posts.post(TOO_LARGE)
    assert posts.sender._in_flight == 0


async def test_what_the_broker_finds_too_large_is_raised_at_once_and_the_others_are_stored(posts: Posts) -> None:
    records = [Outgoing("t", 0, b"", value, ()) for value in (b"first", TOO_LARGE_FOR_THE_BROKER, b"last")]
    with pytest.raises(RecordTooLarge):
        await posts.sender.send_many(records, timeout_seconds=3_600)
    assert posts.stored == [b"first", b"last"]


async def test_of_many_only_those_that_failed_are_sent_again(posts: Posts) -> None:
    posts.ends += ["stored", "failed", "cancelled", "stored"]
    values = [b"a", b"b", b"c", b"d"]
    await posts.sender.send_many([Outgoing("t", 0, b"", value, ()) for value in values], timeout_seconds=3_600)
    assert posts.stored == [b"a", b"d", b"b", b"c"]


async def test_a_post_waits_for_room_and_a_flush_for_the_last_acknowledgement(
    posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.kafka.sender.IN_FLIGHT_MAX", 3)
    await posts.broken_with(b"0", "failed")
    waiting = [asyncio.get_running_loop().create_task(posts.post(b"%d" % number)) for number in range(1, 10)]
    await until(lambda: posts.sender._in_flight == 3)
    assert not await posts.sender.flush(timeout_seconds=0)
    posts.reachable.set()
    await asyncio.wait(waiting)
    assert await posts.sender.flush(timeout_seconds=60)
    assert sorted(posts.settled) == [b"%d" % number for number in range(10)]


async def test_a_sender_that_cannot_send_again_for_a_mistake_of_its_own_says_so_to_everybody(
    posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(posts.sender._producer, "replace", fails)
    await posts.broken_with(b"lost", "failed")
    async with asyncio.timeout(60):
        with pytest.raises(ZeroDivisionError, match="a mistake of ours") as raised:
            await posts.sender.watch()
        assert not await posts.sender.flush(timeout_seconds=120)
        with pytest.raises(ZeroDivisionError):
            await posts.post(b"after")
    assert raised.value.__notes__ == ["In the background task 'sender-repair' of the sender."]
    assert posts.settled == []
