"""The settings of aiokafka's clients are defined in one place."""

import asyncio
import importlib.metadata
import logging
import socket
import subprocess
import sys
from dataclasses import replace

import aiokafka.producer.sender as sender
import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest

from hub.errors import ConfigurationError, Unreachable
from hub.kafka import BrokerUnreachable, Cluster, clients, make_admin, make_consumer, make_producer, wait_until_reachable
from tests.brokers import broker_in_thread
from tests.ports import free_port


def test_producers_wait_for_every_replica_and_repeat_nothing() -> None:
    assert clients.PRODUCER["acks"] == "all"
    assert clients.PRODUCER["enable_idempotence"] is True
    assert clients.PRODUCER["max_batch_size"] == 1 << 20
    assert clients.PRODUCER["max_request_size"] == 8 << 20


def test_consumers_see_committed_records_and_never_move_by_themselves() -> None:
    assert clients.CONSUMER["isolation_level"] == "read_committed"
    assert clients.CONSUMER["enable_auto_commit"] is False
    assert clients.CONSUMER["auto_offset_reset"] == "none"
    assert clients.CONSUMER["max_partition_fetch_bytes"] > 8 << 20
    assert clients.CONSUMER["session_timeout_ms"] == 6_000
    assert clients.CONSUMER["heartbeat_interval_ms"] == 1_000


def test_the_pause_between_transactions_is_short() -> None:
    """aiokafka's is fixed at 20 ms. When the name has gone upstream, look for what replaced it: see
    hub/kafka/clients.py."""
    assert sender.BACKOFF_OVERRIDE == clients.BACKOFF_SECONDS == 0.002
    assert "BACKOFF_OVERRIDE" in sender.AddPartitionsToTxnHandler.handle_response.__code__.co_names
    assert importlib.metadata.version("aiokafka").startswith("0.14.")


def test_the_clients_log_errors_only() -> None:
    assert logging.getLogger("aiokafka.conn").getEffectiveLevel() >= logging.ERROR
    assert logging.getLogger("aiokafka.producer.sender").getEffectiveLevel() >= logging.CRITICAL


async def test_factories_take_overrides() -> None:
    producer = make_producer(Cluster.of("127.0.0.1:1"), linger_ms=5)
    consumer = make_consumer(Cluster.of("127.0.0.1:1"), group="g", auto_offset_reset="earliest")
    assert producer._message_accumulator._linger_time == 0.005
    assert consumer._group_id == "g"
    await producer.stop()
    await consumer.stop()


def test_bootstrap_addresses() -> None:
    cluster = Cluster.of("a:1, b,[::1]:3 ,[::1]")
    assert cluster.addresses == (("a", 1), ("b", 9092), ("::1", 3), ("::1", 9092))
    assert str(cluster) == "a:1,b:9092,[::1]:3,[::1]:9092"
    assert Cluster.of(cluster) is cluster
    assert Cluster.of(str(cluster)) == cluster


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a:x", "bootstrap: 'a:x' is not of the form host:port"),
        ("b:1,:x", "':x' is not"),
        ("a:0", "a port from 1 to 65535"),
        ("a:65536", "a port from 1 to 65535"),
        ("a:²", "a port from 1 to 65535"),
        (" , ", "bootstrap: ' , ' has no address"),
        ("", "bootstrap: '' has no address"),
    ],
)
def test_what_is_not_an_address_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        Cluster.of(text)


async def test_every_client_says_its_name_and_waits_as_long_as_the_cluster_may_take() -> None:
    cluster = replace(Cluster.of("127.0.0.1:1"), client_id="me", request_seconds=3.0)
    producer, consumer, admin = (
        make_producer(cluster),
        make_consumer(cluster),
        make_admin(cluster),
    )
    for client in (producer.client, consumer._client, admin._client):
        assert client._client_id == "me"
    assert producer.client._request_timeout_ms == consumer._request_timeout_ms == 3_000
    unnamed = make_producer(replace(cluster, client_id=None))
    assert unnamed.client._client_id.startswith("hub-producer-")
    for one in (producer, consumer, unnamed):
        await one.stop()
    await admin.close()


async def test_a_broker_that_is_not_there_is_reported_with_address_and_remedy() -> None:
    port = free_port()
    with pytest.raises(BrokerUnreachable, match=rf"127\.0\.0\.1:{port}.*hub up") as unreachable:
        await wait_until_reachable(Cluster.of(f"127.0.0.1:{port}"), 0.3)
    assert isinstance(unreachable.value, Unreachable)
    assert unreachable.value.exit_code == 3


async def test_something_else_that_listens_is_not_taken_for_a_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(BrokerUnreachable, match="did not respond"):
        await wait_until_reachable(Cluster.of(f"127.0.0.1:{mute.getsockname()[1]}"), 0.3)


async def test_waiting_ends_when_the_broker_comes_up() -> None:
    port = free_port()
    waiting = asyncio.create_task(wait_until_reachable(Cluster.of(f"127.0.0.1:1,127.0.0.1:{port}"), 10))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    with broker_in_thread(port=port):
        await waiting


def test_importing_the_layer_imports_no_schema_library() -> None:
    code = "import sys, hub.kafka; print(sorted({m.split('.')[0] for m in sys.modules} & {'kio', 'pydantic', 'faust'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


async def test_a_transport_that_has_closed_in_the_same_turn_is_a_lost_connection_for_aiokafka() -> None:
    class Closed:
        def write(self, data: bytes) -> None:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

        def close(self) -> None: ...

    connection = AIOKafkaConnection("127.0.0.1", 1)
    connection._writer, connection._versions = Closed(), {18: (0, 0)}
    with pytest.raises(KafkaConnectionError, match=r"127\.0\.0\.1:1 broken: .*handler is closed"):
        connection.send(ApiVersionRequest())
    assert not connection.connected()
