"""The broker alone: throughput of a producer and of a consumer, latency of transactions. Records have `VALUE_BYTES` bytes.

It writes to the dead-letter topic of a subscriber that does not exist, and deletes the topic at the end.
"""

import asyncio
import time
from typing import Any

from ..kafka import Cluster, Outgoing, Record, Sender, TopicPartition, delete_topic, dlq_topic, ensure_dlq, open_session, read_all
from .figures import percentile, spread
from .measures import CHUNK_TASKS

VALUE_BYTES = 500
SUBSCRIBER = "bench-broker"
TOPIC = dlq_topic(SUBSCRIBER)
PARTITION = 0
RECORDS_PER_TRANSACTION = 10


async def measure_broker(cluster: Cluster, records: int, rounds: int) -> dict[str, Any]:
    """Records per second produced (acknowledged) and consumed, and milliseconds per transaction, measured one after another.

    `p50_ms` and `p99_ms` are percentiles of transactions. Raises Unreachable, TopicMissing."""
    await ensure_dlq(cluster, SUBSCRIBER)
    try:
        return await _measure(cluster, records, rounds)
    finally:
        await delete_topic(cluster, TOPIC)


async def _measure(cluster: Cluster, records: int, rounds: int) -> dict[str, Any]:
    produced = [await _produce(cluster, records) for _ in range(rounds)]
    consumed = [await _consume(cluster) for _ in range(rounds)]
    transactions = [await _transact(cluster, max(1, records // 50)) for _ in range(rounds)]
    durations = [value for one in transactions for value in one]
    return {
        "bench": "broker",
        "tasks": records,
        "rounds": rounds,
        "value_bytes": VALUE_BYTES,
        "records_per_second_produced": spread(produced)["median"],
        "records_per_second_consumed": spread(consumed)["median"],
        "transactions_per_second": round(1000 * len(durations) / sum(durations), 1),
        "records_per_transaction": RECORDS_PER_TRANSACTION,
        "p50_ms": round(percentile(durations, 0.50), 3),
        "p99_ms": round(percentile(durations, 0.99), 3),
        "seconds": round(sum(durations) / 1000 + sum(records / rate for rate in produced), 4),
        "spread": {
            "records_per_second_produced": spread(produced),
            "records_per_second_consumed": spread(consumed),
            "p50_ms": spread([percentile(one, 0.5) for one in transactions]),
        },
    }


async def _produce(cluster: Cluster, records: int) -> float:
    sender = Sender(cluster)
    await sender.start()
    try:
        began = time.perf_counter()
        for first in range(0, records, CHUNK_TASKS):
            count = min(CHUNK_TASKS, records - first)
            await _send_side_by_side(sender, count)
        return records / (time.perf_counter() - began)
    finally:
        await sender.stop()


async def _send_side_by_side(sender: Sender, count: int) -> None:
    value = b"x" * VALUE_BYTES
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(sender.send(Outgoing(TOPIC, PARTITION, b"bench", value, ())))


async def _consume(cluster: Cluster) -> float:
    count, began = 0, time.perf_counter()
    async for _ in read_all(cluster, TOPIC, PARTITION):
        count += 1
    return count / (time.perf_counter() - began)


async def _transact(cluster: Cluster, count: int) -> list[float]:
    """The duration of each transaction in milliseconds."""
    session = await open_session(cluster, "hub.bench")
    record = Record(b"bench", b"x" * VALUE_BYTES, (), 0)
    outputs = {TopicPartition(TOPIC, PARTITION): [record] * RECORDS_PER_TRANSACTION}
    durations = []
    try:
        for _ in range(count):
            began = time.perf_counter()
            await session.commit(outputs)
            durations.append((time.perf_counter() - began) * 1000)
    finally:
        await session.close()
    return durations
