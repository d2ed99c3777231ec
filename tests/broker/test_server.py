"""How the server handles misbehaving clients and unsupported requests."""

import asyncio
import random
import struct
import time
from pathlib import Path

import pytest

from hub.broker import AddressInUse, BrokerServer
from hub.broker.batches import read_header, sealed
from hub.protocol import APIS, MalformedMessage, decode_request, decode_response, encode_request
from hub.protocol.batch_layout import HEADER_BYTES

from .client import RawClient, batch, until


async def is_alive(broker: BrokerServer) -> bool:
    async with RawClient(broker.host, broker.port) as client:
        answer = await client.ask("api_versions", 0)
    return int(answer.error_code.value) == 0


async def test_every_api_in_the_table_is_announced_and_handled(broker: BrokerServer) -> None:
    async with RawClient(broker.host, broker.port) as client:
        answer = await client.ask("api_versions", 4, client_software_name="x", client_software_version="1")
    announced = {entry.api_key: (entry.min_version, entry.max_version) for entry in answer.api_keys}
    assert announced == {api.key: (api.lowest, api.highest) for api in APIS.values()}
    assert set(broker.broker._handlers) | {0, 1} == set(APIS)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, struct.pack(">i", 2**31 - 1), b"\0\0\0\0"])
async def test_garbage_closes_its_own_connection_only(broker: BrokerServer, garbage: bytes) -> None:
    async with RawClient(broker.host, broker.port) as bystander, RawClient(broker.host, broker.port) as client:
        client.writer.write(garbage)
        async with asyncio.timeout(60):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.reader.readexactly(1)
        assert (await bystander.ask("api_versions", 0)).error_code.value == 0


async def test_the_log_says_whose_connection_was_closed(broker: BrokerServer, caplog: pytest.LogCaptureFixture) -> None:
    async with RawClient(broker.host, broker.port) as client:
        client.writer.write(b"\0\0\0\0")
        async with asyncio.timeout(60):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.reader.readexactly(1)
    assert "closing connection of User:ANONYMOUS at 127.0.0.1: frame of 0 bytes" in caplog.text


async def test_a_frame_beyond_the_limit_closes_the_connection() -> None:
    server = BrokerServer(None, frame_bytes_max=1000)
    await server.start()
    async with RawClient(server.host, server.port) as client:
        client.send_frame(bytes(1001))
        async with asyncio.timeout(60):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.reader.readexactly(1)
    assert await is_alive(server)
    await server.stop()


async def test_random_requests_never_stop_the_broker(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    dice = random.Random(1)
    for round_number in range(300):
        api = dice.choice(list(APIS.values()))
        version = dice.randint(api.lowest, api.highest)
        head = struct.pack(">hhih", api.key, version, round_number, -1) + (b"\0" if api.flexible(version) else b"")
        async with RawClient(broker.host, broker.port) as client:
            client.send_frame(head + dice.randbytes(dice.randrange(60)))
            client.writer.write_eof()
            async with asyncio.timeout(60):
                await client.reader.read()
    assert await is_alive(broker)


async def test_an_unknown_version_of_api_versions_is_answered_in_the_first(broker: BrokerServer) -> None:
    async with RawClient(broker.host, broker.port) as client:
        client.send_frame(struct.pack(">hhih", 18, 99, 7, -1))
        frame = await client.receive_frame()
        answer = decode_response(18, 0, frame, 4)
        assert (struct.unpack(">i", frame[:4])[0], answer["error_code"]) == (7, 35)
        assert len(answer["api_keys"]) == len(APIS)
        assert (await client.ask("api_versions", 0)).error_code.value == 0


@pytest.mark.parametrize(("key", "version"), [(3, 99), (9999, 0), (1, 3)])
async def test_what_is_not_served_closes_the_connection_as_on_apache_kafka(broker: BrokerServer, key: int, version: int) -> None:
    async with RawClient(broker.host, broker.port) as bystander, RawClient(broker.host, broker.port) as client:
        client.send_frame(struct.pack(">hhih", key, version, 8, -1))
        async with asyncio.timeout(60):
            assert await client.reader.read() == b""
        assert (await bystander.ask("api_versions", 0)).error_code.value == 0


def fetch_frame(correlation_id: int, offset: int, *, max_wait_ms: int, min_bytes: int = 1) -> bytes:
    partition = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
    message = {
        "max_wait_ms": max_wait_ms,
        "min_bytes": min_bytes,
        "max_bytes": 1 << 20,
        "topics": [{"topic": "t", "partitions": [partition]}],
    }
    return struct.pack(">hhih", 1, 4, correlation_id, -1) + encode_request(1, 4, message)


async def test_answers_come_in_the_order_of_the_requests(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    async with RawClient(broker.host, broker.port) as client:
        client.send_frame(fetch_frame(1, 0, max_wait_ms=600_000))
        client.send_frame(struct.pack(">hhih", 18, 0, 2, -1))
        client.send_frame(fetch_frame(3, 0, max_wait_ms=0))
        await client.writer.drain()
        async with RawClient(broker.host, broker.port) as other:
            await other.ask("api_versions", 0)
        await broker.local.append("t", 0, batch([b"x"]))
        order = [struct.unpack(">i", (await client.receive_frame())[:4])[0] for _ in range(3)]
        assert order == [1, 2, 3]


async def test_a_fetch_waits_for_enough_bytes_or_its_time(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    raw = batch([b"x" * 100])
    async with RawClient(broker.host, broker.port) as client:
        started = time.monotonic()
        client.send_frame(fetch_frame(1, 0, max_wait_ms=100, min_bytes=1))
        answer = decode_response(1, 4, await client.receive_frame(), 4)
        assert answer["responses"][0]["partitions"][0]["records"] == b""
        assert time.monotonic() - started > 0.09
        client.send_frame(fetch_frame(2, 0, max_wait_ms=600_000, min_bytes=len(raw) * 2))
        await client.writer.drain()
        await broker.local.append("t", 0, raw)
        await broker.local.append("t", 0, raw)
        answer = decode_response(1, 4, await client.receive_frame(), 4)
        assert len(answer["responses"][0]["partitions"][0]["records"]) == 2 * len(raw)


async def test_a_connection_that_is_gone_leaves_no_waiters(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    log = broker.broker.state.topics["t"].logs[0]
    async with RawClient(broker.host, broker.port) as client:
        client.send_frame(fetch_frame(1, 0, max_wait_ms=60_000))
        await until(lambda: bool(log.waiters))
    await until(lambda: not log.waiters)


async def test_a_client_that_reads_nothing_is_not_read_from(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    await broker.local.append("t", 0, batch([bytes(900_000)]))
    async with RawClient(broker.host, broker.port) as greedy:
        for number in range(200):
            greedy.send_frame(fetch_frame(number, 0, max_wait_ms=0))
        assert await is_alive(broker)
        connection = next((c for c in broker.listener.connections if c._write_paused or c._answers or c._buffer), None)
        assert connection is None or connection._transport is None or (connection._transport.get_write_buffer_size() < 10_000_000)
        for number in range(200):
            assert struct.unpack(">i", (await greedy.receive_frame())[:4])[0] == number


async def test_a_taken_port_is_a_clear_error(broker: BrokerServer) -> None:
    with pytest.raises(AddressInUse, match=str(broker.port)):
        await BrokerServer(None, port=broker.port).start()


@pytest.mark.parametrize("flush", ["never", "interval:", "interval:0", "interval:x"])
def test_an_unknown_flush_policy_is_refused(tmp_path: Path, flush: str) -> None:
    with pytest.raises(ValueError, match="flush"):
        BrokerServer(tmp_path, flush=flush)


async def test_garbage_in_records_is_refused_and_nothing_is_stored(broker: BrokerServer) -> None:
    from .test_restart import idempotent

    await broker.local.create_topic("t", 1)
    good = batch([b"value" * 5])
    for at in range(21, len(good), 3):
        broken = bytearray(good)
        broken[at] ^= 1
        assert (await idempotent(broker, bytes(broken)))[0].name == "CORRUPT_MESSAGE"
    assert (await idempotent(broker, good[:-1]))[0].name == "CORRUPT_MESSAGE"
    assert (await idempotent(broker, good + good))[0].name == "INVALID_RECORD"
    assert (await idempotent(broker, b""))[0].name == "CORRUPT_MESSAGE"
    header = read_header(good)
    for codec, count in ((0, 2**31 - 1), (0, 6), (4, 2**31 - 1)):
        more = header._replace(attributes=codec, record_count=count, last_offset_delta=count - 1)
        assert (await idempotent(broker, sealed(more, good[HEADER_BYTES:])))[0].name == "INVALID_RECORD"
    assert broker.local.end("t", 0) == 0


def test_reading_a_request_is_bounded_by_its_bytes() -> None:
    """Two thousand million entries that are not there would take longer than any test may."""
    endless = struct.pack(">i", 2**31 - 1)
    with pytest.raises(MalformedMessage):
        decode_request(20, 1, endless, 0)


async def test_single_settings_are_changed(broker: BrokerServer) -> None:
    from kio.static.primitive import i8

    from .client import kio_class

    await broker.local.create_topic("t", 1, {"retention.ms": "5"})
    change = kio_class("incremental_alter_configs", 1, "request", "AlterableConfig")
    resource = kio_class("incremental_alter_configs", 1, "request", "AlterConfigsResource")

    async def alter(*changes: tuple[str, int, str | None]) -> int:
        configs = tuple(change(name=name, config_operation=i8(kind), value=value) for name, kind, value in changes)
        entry = resource(resource_type=i8(2), resource_name="t", configs=configs)
        async with RawClient(broker.host, broker.port) as client:
            answer = await client.ask("incremental_alter_configs", 1, resources=(entry,), validate_only=False)
        return int(answer.responses[0].error_code.value)

    topic = broker.broker.state.topics["t"]
    assert await alter(("max.message.bytes", 0, "1000"), ("cleanup.policy", 2, "compact")) == 0
    assert topic.configs == {"retention.ms": "5", "max.message.bytes": "1000", "cleanup.policy": "delete,compact"}
    assert topic.settings.message_bytes_max == 1000
    assert await alter(("cleanup.policy", 3, "delete"), ("retention.ms", 1, None)) == 0
    assert topic.configs == {"max.message.bytes": "1000", "cleanup.policy": "compact"}
    assert await alter(("no.such", 0, "x")) == 40
    assert await alter(("max.message.bytes", 0, "many")) == 40
