"""A sender on both brokers, over connections that the test cuts before, in the middle of, and after a request."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from hub.kafka import (
    Cluster,
    ConnectionLost,
    Outgoing,
    RecordRejected,
    RecordTooLarge,
    Sender,
    connections,
    make_admin,
    read_all,
)
from hub.kafka.connection import Connection
from hub.protocol import ApiKey, RequestType, request_frame
from tests.brokers import broker_in_thread, unique
from tests.ports import free_port

PARTITIONS = 3
SECONDS = 60.0


class Cuts:
    """`share` of the produce requests end with a cut connection."""

    def __init__(self) -> None:
        self.share = 0.0
        self.count = 0
        self.chance = random.Random(1)


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> Cuts:
    """Every connection of a sender made in this test obeys this."""
    cuts = Cuts()

    class Unreliable(Connection):
        def send(
            self,
            kind: RequestType,
            body: bytes,
            on_answer: Callable[[bytes], object],
            on_lost: Callable[[ConnectionLost], object],
            **options: Any,
        ) -> None:
            if kind.key != ApiKey.PRODUCE or cuts.chance.random() >= cuts.share:
                super().send(kind, body, on_answer, on_lost, **options)
                return
            cuts.count += 1
            loop = asyncio.get_running_loop()
            if cuts.chance.random() < 0.5:
                super().send(kind, body, on_answer, on_lost, **options)
            else:
                assert self._transport is not None
                frame = request_frame(kind, 1, b"x", body)
                self._transport.write(frame[: cuts.chance.randrange(len(frame))])
                loop.call_soon(on_lost, ConnectionLost("cut by the test"))
            loop.call_later(cuts.chance.choice([0, 0.002]), self.close)

    monkeypatch.setattr(connections, "Connection", Unreliable)
    return cuts


async def new_topic(bootstrap: str, partitions: int = PARTITIONS, **config: str) -> str:
    """A topic of this test's own."""
    name = unique("sent")
    admin = make_admin(Cluster.of(bootstrap))
    try:
        await admin.start()
        settings = {"max.message.bytes": str(8 << 20)} | {key.replace("_", "."): value for key, value in config.items()}
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        assert [error[1] for error in answer.topic_errors] == [0]
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def started(bootstrap: str, **settings: Any) -> AsyncIterator[Sender]:
    sender = Sender(Cluster.of(bootstrap), **settings)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


async def stored(bootstrap: str, topic: str, partition: int = 0) -> list[bytes]:
    return [record.value or b"" async for record in read_all(Cluster.of(bootstrap), topic, partition)]


def outgoing(topic: str, value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing(topic, partition, b"key", value, [("ce_type", b"x")])


async def post_in_bursts(sender: Sender, topic: str, count: int, first: int = 0) -> Sequence[list[bytes]]:
    """Post numbers to random partitions, a few per turn of the loop; returns those of each partition."""
    chance = random.Random(2)
    posted: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for number in range(first, first + count):
        partition = chance.randrange(PARTITIONS)
        posted[partition].append(b"%d" % number)
        await sender.post(outgoing(topic, b"%d" % number, partition))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    return posted


async def test_each_record_is_stored_once_and_in_order_over_connections_that_are_cut(
    bootstrap: str, cuts: Cuts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hub.kafka.routing")
    topic = await new_topic(bootstrap)
    async with started(bootstrap) as sender:
        await sender.send_many([outgoing(topic, b"first", partition) for partition in range(PARTITIONS)])
        cuts.share = 0.25
        posted = await post_in_bursts(sender, topic, 1_000)
        async with asyncio.timeout(SECONDS):
            while cuts.count <= 3:  # a slow broker gets few requests, each with many records
                assert await sender.flush(timeout_seconds=SECONDS)
                more = await post_in_bursts(sender, topic, 100, sum(map(len, posted)))
                posted = [before + after for before, after in zip(posted, more, strict=True)]
        assert await sender.flush(timeout_seconds=SECONDS)
        cuts.share = 0.0
    for partition in range(PARTITIONS):
        assert await stored(bootstrap, topic, partition) == [b"first", *posted[partition]]
    assert "new producer id" not in caplog.text


async def test_much_at_once_takes_several_batches_and_keeps_its_order(bootstrap: str) -> None:
    topic = await new_topic(bootstrap)
    values = [b"%d" % number + b"x" * 2_000 for number in range(4_000)]
    async with started(bootstrap) as sender:
        await sender.send_many([outgoing(topic, value, number % 2) for number, value in enumerate(values)])
    assert await stored(bootstrap, topic, 0) == values[::2]
    assert await stored(bootstrap, topic, 1) == values[1::2]


async def test_what_only_the_broker_finds_too_large_is_rejected_and_the_others_are_stored(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, max_message_bytes="5000")
    values = [b"%d" % number * 50 for number in range(300)]
    too_large = random.Random(1).randbytes(6_000)  # also when it is compressed
    async with started(bootstrap) as sender:
        with pytest.raises(RecordTooLarge, match="about 6000 bytes"):
            await sender.send_many([outgoing(topic, value) for value in (*values[:100], too_large, *values[100:])])
        await sender.send(outgoing(topic, b"after"))
    assert await stored(bootstrap, topic) == [*values, b"after"]


async def test_a_record_that_the_broker_rejects_does_not_cost_the_others(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, cleanup_policy="compact")
    keyless = Outgoing(topic, 0, None, b"bad", ())  # type: ignore[arg-type]
    others = [Outgoing(topic, 0, b"%d" % number, b"%d" % number, ()) for number in range(20)]
    async with started(bootstrap) as sender:
        with pytest.raises(RecordRejected, match="rejected a record .INVALID_RECORD"):
            await sender.send_many([*others[:7], keyless, *others[7:]])
        await sender.send(Outgoing(topic, 0, b"k", b"after", ()))
    assert await stored(bootstrap, topic) == [*(one.value for one in others), b"after"]


async def test_posts_wait_for_a_broker_that_restarts(tmp_path: Path) -> None:
    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    with broker_in_thread(tmp_path, port=port):
        topic = await new_topic(bootstrap)
        sender = Sender(Cluster.of(bootstrap))
        await sender.start()
        before = await post_in_bursts(sender, topic, 50)
        assert await sender.flush(timeout_seconds=SECONDS)
    away = await post_in_bursts(sender, topic, 50)
    assert not await sender.flush(timeout_seconds=0)
    with broker_in_thread(tmp_path, port=port):
        assert await sender.flush(timeout_seconds=SECONDS)
        await sender.stop()
        for partition in range(PARTITIONS):
            assert await stored(bootstrap, topic, partition) == before[partition] + away[partition]
