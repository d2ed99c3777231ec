"""Writes events to a topic like the engine: same headers, same bodies, transactions."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hub.testing import make_event_record

Written = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def event_record(
    event_type: str,
    task: str,
    sequence: int,
    *,
    name: str = "charge",
    namespace: str = "default",
    states: tuple[str | None, str | None] = (None, None),
    run: int = 1,
    **data: Any,
) -> Written:
    """Key, value and headers of one event of a task."""
    envelope = {"subject": task, "rootid": task, "sequence": sequence, "run": run, "taskname": name, "namespace": namespace}
    return make_event_record(event_type, envelope={**envelope, "from_state": states[0], "to_state": states[1]}, **data)


def progress(task: str, sequence: int, **how: Any) -> Written:
    """A task.progressed whose percent is its sequence number."""
    return event_record("task.progressed", task, sequence, percent=float(sequence), **how)


def ready(task: str, sequence: int, **how: Any) -> Written:
    """A task.ready."""
    return event_record("task.ready", task, sequence, **how)


def completed(task: str, sequence: int, **how: Any) -> Written:
    """A task.completed."""
    return event_record("task.completed", task, sequence, states=("running", "completed"), **how)


async def create_topic(bootstrap: str, topic: str, partitions: int = 1, max_message_bytes: int | None = None) -> None:
    """Make the topic; without `max_message_bytes`, with the broker's limit. It keeps events of any age."""
    config = {"retention.ms": "-1"}
    if max_message_bytes is not None:
        config["max.message.bytes"] = str(max_message_bytes)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
    finally:
        await admin.close()


async def write(
    bootstrap: str,
    topic: str,
    records: Sequence[Written],
    *,
    partition_of: Callable[[bytes], int] | None = None,
    timestamp_ms: int | None = None,
) -> None:
    """Append the records in one transaction, each to its partition (0 unless given), with this timestamp or that of now."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"test-{uuid.uuid4().hex}", linger_ms=1)
    await producer.start()
    try:
        async with producer.transaction():
            futures = []
            for key, value, headers in records:
                partition = 0 if partition_of is None else partition_of(key or b"")
                futures.append(await producer.send(topic, value, key, partition, timestamp_ms, headers))
            for future in futures:
                await future
    finally:
        await producer.stop()


async def read_all(bootstrap: str, topic: str, count: int, timeout_seconds: float = 60.0) -> list[Any]:
    """The first `count` committed records of partition 0 of the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest")
    await consumer.start()
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    found: list[Any] = []
    deadline = datetime.now(UTC).timestamp() + timeout_seconds
    try:
        while len(found) < count and datetime.now(UTC).timestamp() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(records)
    finally:
        await consumer.stop()
    return found


async def committed_offset(bootstrap: str, group: str, topic: str, partition: int = 0) -> int | None:
    """What the group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        offset: int | None = await consumer.committed(TopicPartition(topic, partition))
        return offset
    finally:
        await consumer.stop()


@asynccontextmanager
async def running(service: Any, *, timeout_seconds: float = 60.0) -> AsyncIterator[Any]:
    """Start the service, wait until it is ready, stop it at the end."""
    await service.start()
    try:
        await service.ready(timeout_seconds)
        yield service
    finally:
        await service.stop()
