"""A disconnected transport in memory: nothing is sent until it is restored, then posted records arrive in order."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from hub.kafka import INTAKE, BrokerUnreachable, Outgoing, hub_topics
from hub.testing.broker import BrokerInMemory
from hub.testing.driver import Driver
from hub.testing.manual_time import ManualTime
from hub.testing.transport import MemoryTransport


class Network:
    """A broker in memory, a transport to it, and somebody who moves the time."""

    def __init__(self) -> None:
        self.clock = ManualTime(asyncio.get_running_loop())
        self.broker = BrokerInMemory(self.clock, on_written=lambda: None)
        self.transport = MemoryTransport(self.broker.local, self.clock.now_ms)
        self.driver = Driver(self.clock, running=lambda: 0, busy_threads=lambda: 0, thread_seconds=1.0, stall_seconds=1.0)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """A network whose time is moved by hand."""
    network = Network()
    network.clock.install()
    for spec in hub_topics(1):
        await network.broker.local.create_topic(spec.name, spec.partitions, spec.config)
    yield network
    network.broker.close()
    network.clock.uninstall()


def outgoing(value: bytes) -> Outgoing:
    return Outgoing(INTAKE, 0, b"key", value, [])


async def values(network: Network) -> list[bytes | None]:
    return [record.value async for record in network.transport.read_all(INTAKE, 0)]


async def test_what_is_sent_while_it_is_cut_fails_when_its_time_is_over(network: Network) -> None:
    sender = network.transport.sender(client_id="test")
    network.transport.cut()
    sending = asyncio.create_task(sender.send(outgoing(b"a"), timeout_seconds=5))
    await network.driver.advance(4.9)
    assert not sending.done()
    await network.driver.advance(0.1)
    with pytest.raises(BrokerUnreachable, match="cut"):
        await sending
    assert await values(network) == []


async def test_what_is_sent_in_time_arrives_when_it_is_restored(network: Network) -> None:
    sender = network.transport.sender(client_id="test")
    network.transport.cut()
    sending = asyncio.create_task(sender.send(outgoing(b"a"), timeout_seconds=5))
    await network.driver.advance(4)
    network.transport.restore()
    await sending
    assert await values(network) == [b"a"]


async def test_what_is_posted_while_it_is_cut_arrives_in_order_when_it_is_restored(network: Network) -> None:
    sender, settled = network.transport.sender(client_id="test"), list[bytes]()
    network.transport.cut()
    for value in (b"a", b"b"):
        await sender.post(outgoing(value), partial(settled.append, value))
    waiting = asyncio.create_task(sender.flush(timeout_seconds=3))
    await network.driver.advance(3)
    assert (await waiting, settled, await values(network)) == (False, [], [])
    network.transport.restore()
    await sender.post(outgoing(b"c"))
    assert await sender.flush(timeout_seconds=1)
    assert (settled, await values(network)) == ([b"a", b"b"], [b"a", b"b", b"c"])


async def test_a_sender_that_stops_sends_nothing_more(network: Network) -> None:
    sender = network.transport.sender(client_id="test")
    network.transport.cut()
    await sender.post(outgoing(b"a"))
    await sender.stop()
    network.transport.restore()
    await network.driver.settle()
    assert await values(network) == []


async def test_a_reader_gets_nothing_while_it_is_cut(network: Network) -> None:
    other = MemoryTransport(network.broker.local, network.clock.now_ms)
    async with network.transport.reader(client_id="test") as reader:
        await reader.open(INTAKE, 0, 0)
        network.transport.cut()
        reading = asyncio.create_task(reader.read())
        await other.sender(client_id="other").send(outgoing(b"a"))
        await network.driver.settle()
        assert not reading.done()
        network.transport.restore()
        assert [record.value for record in await reading] == [b"a"]
