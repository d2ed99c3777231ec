"""Creates aiokafka's producers, consumers and admin clients with the hub's settings. No other module creates one.

The settings are data, so that tests can check them. Create clients inside a running event loop; they are returned unstarted:
`await client.start()`, `await client.stop()`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiokafka.consumer.fetcher
import aiokafka.producer.sender
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from .cluster import Cluster
from .codec import BATCH_BYTES_MAX
from .connection import Connection
from .errors import BrokerUnreachable, ConnectionLost, OffsetOutOfRange
from .fetched import FetchedBatches
from .requests import ask_versions

BACKOFF_SECONDS = 0.002
"""Replaces aiokafka's fixed backoff of 20 ms after CONCURRENT_TRANSACTIONS, which occurs in nearly every transaction."""
aiokafka.producer.sender.BACKOFF_OVERRIDE = BACKOFF_SECONDS
aiokafka.consumer.fetcher.MemoryRecords = FetchedBatches  # tolerates header names that are not UTF-8, see fetched.py

_send = AIOKafkaConnection.send


def _send_or_close(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """`AIOKafkaConnection.send`. A transport of uvloop that has closed in this turn of the event loop raises a RuntimeError where
    one of asyncio raises an OSError, the only one that aiokafka treats as a lost connection."""
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as closed:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {closed}") from closed


AIOKafkaConnection.send = _send_or_close

REQUEST_BYTES_MAX = BATCH_BYTES_MAX
PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 0,
    "max_batch_size": 1 << 20,
    "max_request_size": REQUEST_BYTES_MAX,
    "retry_backoff_ms": 20,
    "compression_type": None,
}
TRANSACTIONAL_PRODUCER: dict[str, Any] = {
    **PRODUCER,
    "max_batch_size": 4 << 20,
    "retry_backoff_ms": 2,  # NOT_ENOUGH_REPLICAS is common directly after a commit, and clears within milliseconds
}
CONSUMER: dict[str, Any] = {
    "isolation_level": "read_committed",
    "enable_auto_commit": False,  # the hub stores offsets itself
    "auto_offset_reset": "none",  # an offset out of range raises instead of skipping records
    "fetch_max_wait_ms": 500,
    "fetch_min_bytes": 1,
    "fetch_max_bytes": 52_428_800,
    "max_partition_fetch_bytes": BATCH_BYTES_MAX + (1 << 20),
    "check_crcs": True,
    "retry_backoff_ms": 50,
    "metadata_max_age_ms": 30_000,
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 1_000,
    "max_poll_interval_ms": 300_000,
}
READ_NOTHING_SECONDS = 60.0
ADMIN: dict[str, Any] = {"request_timeout_ms": 15_000, "retry_backoff_ms": 50}

LOG_LEVELS = {
    "aiokafka": logging.CRITICAL,  # it logs lost connections and retries as errors; relevant failures are raised
}


def quiet_client_logs() -> None:
    """Set the levels of aiokafka's loggers, except those that are set already."""
    for name, level in LOG_LEVELS.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


quiet_client_logs()


def make_producer(cluster: Cluster, **settings: Any) -> AIOKafkaProducer:
    """An idempotent producer: a send future resolves when all in-sync replicas have stored the record. `settings` override
    `PRODUCER`."""
    return AIOKafkaProducer(**cluster.client_settings("producer") | PRODUCER | settings)


def make_transactional_producer(
    cluster: Cluster, transactional_id: str, *, transaction_timeout_ms: int, **settings: Any
) -> AIOKafkaProducer:
    """The producer of `ClassicSession`; other code uses sessions."""
    return AIOKafkaProducer(
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        **cluster.client_settings("session") | TRANSACTIONAL_PRODUCER | settings,
    )


def make_consumer(cluster: Cluster, *, group: str | None = None, **settings: Any) -> AIOKafkaConsumer:
    """A consumer of committed records. Without a group: assign partitions and seek. With a group: subscribe and commit
    explicitly.

    `auto_offset_reset` is "none"; set it to "earliest" for a new group, which has no offsets. `settings` override
    `CONSUMER`."""
    return AIOKafkaConsumer(group_id=group, **cluster.client_settings("consumer") | CONSUMER | settings)


def read_nothing(consumer: AIOKafkaConsumer) -> None:
    """Let a started consumer whose partitions are all paused wait only for changes. Otherwise it looks for something to request
    every 200 ms."""
    consumer._fetcher._fetcher_timeout = READ_NOTHING_SECONDS


def make_admin(cluster: Cluster, **settings: Any) -> AIOKafkaAdminClient:
    """An admin client. Callers must check the error codes in its responses: it does not raise them."""
    return AIOKafkaAdminClient(**cluster.client_settings("admin") | ADMIN | settings)


async def wait_until_reachable(cluster: Cluster, timeout_seconds: float) -> None:
    """Wait until a broker at one of the addresses responds. Raises `BrokerUnreachable` after `timeout_seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while True:
        reason = ""
        for host, port in cluster.addresses:
            try:
                return await _probe(cluster, host, port, max(0.1, deadline - loop.time()))
            except BrokerUnreachable as unreachable:
                reason = unreachable.reason
            except ConnectionLost as lost:
                reason = str(lost)
        if loop.time() + 0.1 > deadline:
            raise BrokerUnreachable(str(cluster), f"{reason}; waited {timeout_seconds:g} s")
        await asyncio.sleep(0.1)


async def _probe(cluster: Cluster, host: str, port: int, timeout_seconds: float) -> None:
    connection = await Connection.open(cluster, host, port, role="probe", timeout_seconds=timeout_seconds)
    try:
        await ask_versions(connection, timeout_seconds=timeout_seconds)
    finally:
        connection.close()


async def poll(consumer: AIOKafkaConsumer, *, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
    """The next records of the consumer, by partition. Waits up to `timeout_ms` for the first one.

    Raises OffsetOutOfRange if the position is no longer in the partition.
    """
    try:
        found: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
    except OffsetOutOfRangeError as gone:
        place, offset = next(iter(gone.args[0].items()))
        raise OffsetOutOfRange(place.topic, place.partition, offset) from gone
    return found


Client = TypeVar("Client", AIOKafkaAdminClient, AIOKafkaConsumer)
TIMEOUT_SECONDS = 15.0


@asynccontextmanager
async def started(client: Client, stop: Callable[[], Awaitable[None]], cluster: Cluster, failed: str) -> AsyncIterator[Client]:
    """A started client for a few requests, which have TIMEOUT_SECONDS together; `stop` is called at the end.

    `failed`: what the cluster did not do, for the message of the ConnectionLost that a failed request raises. Raises
    BrokerUnreachable if the client cannot start."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                await client.start()
            except (KafkaError, OSError) as failure:
                raise BrokerUnreachable(str(cluster), str(failure) or type(failure).__name__) from None
            yield client
    except (KafkaError, OSError, TimeoutError) as failure:
        reason = f"within {TIMEOUT_SECONDS:g} s" if isinstance(failure, TimeoutError) else f"({failure!r})"
        raise ConnectionLost(f"{cluster} did not {failed} {reason}.") from failure
    finally:
        await stop()
