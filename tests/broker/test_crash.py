"""kill -9 of a real broker process under load: all acknowledged records exist, and transactions are atomic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from hub.broker import BrokerServer
from tests.ports import free_port

from .client import values_of
from .process import broker_process

STALL_MS = 60_000
PROGRAM = """
import asyncio, pathlib, sys
from hub.broker import BrokerServer

async def main() -> None:
    server = BrokerServer(pathlib.Path(sys.argv[1]))
    await server.start()
    await server.local.create_topic("t", 2, exist_ok=True)
    print(server.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def all_values(directory: Path, partition: int) -> list[bytes]:
    """What a committed reader finds after recovery, aborted transactions left out."""
    server = BrokerServer(directory)
    await server.start()
    found: list[bytes] = []
    offset, end = 0, server.local.end("t", partition)
    while offset < end:
        fetched = server.local.fetch("t", partition, offset, max_bytes=1)
        header_delta = int.from_bytes(fetched.data[23:27], "big")
        producer_id = int.from_bytes(fetched.data[43:51], "big", signed=True)
        if not any(producer_id == aborted and first <= offset for aborted, first in fetched.aborted):
            found += values_of(fetched.data)
        offset = int.from_bytes(fetched.data[:8], "big") + header_delta + 1
    await server.stop()
    return found


@asynccontextmanager
async def producer_of(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer of a broker that is killed meanwhile: at the end it is closed without waiting for what nobody acknowledges.

    A request may take as long as a stalled disk does; that its broker is gone a producer learns from the connection."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, request_timeout_ms=STALL_MS, **options)
    try:
        await producer.start()
        yield producer
    finally:
        if (sender := producer._sender._sender_task) is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        await producer.client.close()
        producer._closed = True


@pytest.mark.parametrize("acknowledged_before", [200, 3000])
async def test_acknowledged_records_survive_kill_9(tmp_path: Path, acknowledged_before: int) -> None:
    acknowledged: list[list[int]] = [[], []]
    async with (
        broker_process(PROGRAM, tmp_path) as (process, bootstrap),
        producer_of(bootstrap, enable_idempotence=True, max_batch_size=2000) as producer,
    ):

        async def send(number: int) -> None:
            await (await producer.send("t", b"%d" % number, partition=number % 2))
            acknowledged[number % 2].append(number)
            if sum(map(len, acknowledged)) == acknowledged_before:
                process.kill()

        sending = [asyncio.create_task(send(number)) for number in range(acknowledged_before * 2)]
        try:
            async with asyncio.timeout(STALL_MS / 1000):
                await process.wait()
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
    assert sum(map(len, acknowledged)) >= acknowledged_before
    for partition in (0, 1):
        found = [int(value) for value in await all_values(tmp_path, partition)]
        assert set(acknowledged[partition]) <= set(found)
        assert found == sorted(set(found))


async def test_transactions_are_whole_after_kill_9(tmp_path: Path) -> None:
    async with (
        broker_process(PROGRAM, tmp_path) as (process, bootstrap),
        producer_of(bootstrap, transactional_id="tx") as producer,
    ):
        for number in range(30):
            async with producer.transaction():
                for partition in (0, 1):
                    await producer.send_and_wait("t", b"%d" % number, partition=partition)
        await producer.begin_transaction()
        await producer.send_and_wait("t", b"never committed", partition=0)
        process.kill()
        await process.wait()
    async with (
        broker_process(PROGRAM, tmp_path) as (process, bootstrap),
        producer_of(bootstrap, transactional_id="tx") as producer,
        producer.transaction(),
    ):
        for partition in (0, 1):
            await producer.send_and_wait("t", b"30", partition=partition)
    for partition in (0, 1):
        assert await all_values(tmp_path, partition) == [b"%d" % number for number in range(31)]


async def test_the_producer_goes_on_when_the_broker_is_back(tmp_path: Path) -> None:
    """An idempotent producer repeats what was not acknowledged; nothing is lost or doubled."""
    port = free_port()
    server = BrokerServer(tmp_path, port=port)
    await server.start()
    try:
        await server.local.create_topic("t", 1)
        async with producer_of(server.bootstrap, enable_idempotence=True, retry_backoff_ms=20) as producer:
            for number in range(60):
                if number in (20, 40):
                    await server.stop()
                    server = BrokerServer(tmp_path, port=port)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(server.start())
                        await producer.send_and_wait("t", b"%d" % number)
                else:
                    await producer.send_and_wait("t", b"%d" % number)
    finally:
        await server.stop()
    assert await all_values(tmp_path, 0) == [b"%d" % number for number in range(60)]
