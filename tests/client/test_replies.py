"""Arbitrary records on `hub.replies`: a waiting client gets the first reply addressed to it, or an error if it is invalid."""

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from hub import UnreadableReplyError
from hub.client.replies import ReplyReader, reply_of
from hub.kafka import REPLIES, Cluster, KafkaTransport, make_producer
from schemas import MalformedRecord, TaskReply
from tests.brokers import broker_and_loop
from tests.components.running import running
from tests.records import PATIENT, Damage, Example, WholeRecord, binary, example_of, hostile_records
from tests.worker.test_commands import tasks

MESSAGE_MAX = 800


def reply(**fields: Any) -> Example:
    return Example(example_of(TaskReply, **{"kind": "ended", "task": "t", "state": "completed", **fields}), {}, b"token")


EXAMPLES = {
    "reply.ended": [reply(result=[1, "a"]), reply(state="failed", error={"type": "E", "message": "m"})],
    "reply.rejected": [reply(kind="rejected", state=None, code="cycle", reason="r")],
    "reply.state": [reply(kind="state", state="running")],
}


async def never(*_: object) -> None:
    """Nobody is asked."""


def reader() -> ReplyReader:
    fresh = ReplyReader(KafkaTransport(Cluster.of("127.0.0.1:1")), "test", never)
    fresh._loop = asyncio.get_running_loop()
    return fresh


@PATIENT
@given(st.lists(hostile_records(EXAMPLES), min_size=1, max_size=20))
def test_any_value_is_a_reply_or_malformed(records: list[WholeRecord]) -> None:
    for record in records:
        try:
            reply_of(record.value or b"")
        except MalformedRecord as error:
            refusal = str(error)
            assert len(refusal) <= MESSAGE_MAX, refusal
            assert refusal.isprintable()


@PATIENT
@given(st.lists(hostile_records(EXAMPLES), min_size=1, max_size=20))
def test_whatever_comes_before_it_a_reply_reaches_who_waits_for_it(records: list[WholeRecord]) -> None:
    async def take() -> TaskReply:
        replies = reader()
        pending = replies.expect("t", "t")
        for record in records:
            replies._take(record.key, record.value)
        replies._take(pending.token, binary("reply.ended", EXAMPLES["reply.ended"][0]).value)
        return pending.result()

    assert asyncio.run(take()).state == "completed"


async def test_the_first_reply_to_a_token_counts_and_a_null_value_is_none() -> None:
    replies = reader()
    pending = replies.expect("t", "t")
    replies._take(pending.token, None)
    assert not pending.is_done
    for state in ("failed", "completed"):
        replies._take(pending.token, json.encode(reply(state=state).payload))
    assert pending.result().state == "failed"


@pytest.mark.parametrize("value", [b'{"kind":"paused","task":"t","partition":0}', b"", b"[" * 100_000, b"\xff"])
async def test_a_reply_that_cannot_be_read_is_said_to_who_waits(value: bytes) -> None:
    replies = reader()
    pending = replies.expect("order-7", "order-7")
    replies._take(pending.token, value)
    with pytest.raises(UnreadableReplyError, match="order-7"):
        pending.result()


async def test_a_client_survives_its_replies_and_its_next_question_is_answered() -> None:
    source = Damage(EXAMPLES, structured_mode=False, huge_bytes_max=300_000)
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, foreign=True) as world:
            await world.hub.run("quick", timeout_seconds=60)
            assert world.hub._replies is not None
            producer = make_producer(Cluster.of(world.bootstrap))
            await producer.start()
            try:
                for seed in range(60):
                    record = source.record(Random(seed))
                    await producer.send_and_wait(
                        REPLIES, record.value, key=record.key, partition=world.hub._replies.partition, headers=record.headers
                    )
                handle = await world.hub.submit("quick")
                assert handle._pending is not None
                await producer.send_and_wait(REPLIES, b"{", key=handle._pending.token, partition=world.hub._replies.partition)
            finally:
                await producer.stop()
            try:
                assert await handle.result(timeout_seconds=60) == "done"
            except UnreadableReplyError:
                assert await handle.result(timeout_seconds=60) == "done"  # asked once more, the engine answers
