"""What a sender does with its other partitions when a connection is closed, and after it was stopped."""

import asyncio

import pytest

from hub.kafka import ConnectionLost
from tests.components.running import until

from .scripted import ScriptedCluster, lose_answer, outgoing, sending


async def test_a_connection_that_was_closed_while_idle_is_reopened_at_once(one: ScriptedCluster) -> None:
    async with sending(one) as sender:
        await sender.send(outgoing(b"first"))
        one.brokers[0].cut_all()
        await until(lambda: not any(link.is_open for link in sender._producer._links.values()))
        await sender.send(outgoing(b"second"))
    assert one.values() == [b"first", b"second"]
    assert one.asked == ["InitProducerId", "Metadata"]


async def test_all_partitions_of_a_connection_that_was_closed_while_idle_are_sent_over_the_next_one(one: ScriptedCluster) -> None:
    async with sending(one) as sender:
        for number in range(3):
            await sender.send(outgoing(b"first", number))
        one.brokers[0].cut_all()
        await until(lambda: not any(link.is_open for link in sender._producer._links.values()))
        for number in range(3):
            await sender.send(outgoing(b"second", number), timeout_seconds=10)
    assert [one.values(number) for number in range(3)] == [[b"first", b"second"]] * 3
    assert one.asked == ["InitProducerId", "Metadata"]


async def test_what_lingers_when_the_connection_is_replaced_is_sent_over_the_next_one(one: ScriptedCluster) -> None:
    """Partition 0 is routed anew at once after its failure; 1 was posted to and 2 was idle."""
    async with sending(one, linger_ms=30) as sender:
        for number in range(3):
            await sender.send(outgoing(b"first", number))
        one.script.append(lose_answer)
        await sender.post(outgoing(b"second"))
        await until(lambda: len(one.requests) == 4)
        await sender.post(outgoing(b"second", 1))
        await until(lambda: one.batches(0)[2:] != [])
        await sender.post(outgoing(b"second", 2))
        assert await sender.flush(timeout_seconds=10)
    assert [one.values(number) for number in range(3)] == [[b"first", b"second"]] * 3


async def test_an_address_that_closes_every_connection_is_left_for_the_new_leader(two: ScriptedCluster) -> None:
    accepted = 0

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.transport.abort()

    async with sending(two, linger_ms=5) as sender:
        await sender.send(outgoing(b"first"))
        two.brokers[0].kill()
        two.leaders = dict.fromkeys(two.leaders, 1)
        other = await asyncio.start_server(accept, "127.0.0.1", two.brokers[0].port)
        try:
            await sender.send(outgoing(b"second"), timeout_seconds=10)
        finally:
            other.close()
    assert two.values() == [b"first", b"second"]
    assert accepted < 10


async def test_a_sender_that_was_stopped_while_records_lingered_sends_nothing_more(one: ScriptedCluster) -> None:
    async with sending(one, linger_ms=20) as sender:
        await sender.send(outgoing(b"first"))
        await sender.post(outgoing(b"never"))
        await sender.stop()
        with pytest.raises(ConnectionLost, match="was stopped"):
            await sender.send(outgoing(b"never"))
        assert all(link._flushing is None for link in sender._producer._links.values())
        await until(lambda: not one.brokers[0]._writers)
    assert one.values() == [b"first"]
