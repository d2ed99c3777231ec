"""A running hub, on both brokers, with arbitrary records on its intake: nothing restarts, an ordinary task ends after each
record, and the checker has no findings.

HUB_HOSTILE: number of generated records after the predefined ones (default 40).
"""

import asyncio
import os
from random import Random

import aiokafka
import pytest
from structlog.testing import capture_logs

from hub import Hub, TaskRegistry
from hub.kafka import EVENTS, INTAKE, Cluster, partition_of, read_all
from hub.verify import verify
from schemas import decode_event
from tests.engine.test_hostile_records import examples, prepared
from tests.records import Damage, Headers, WholeRecord

from .running import PARTITIONS, running

GENERATED = int(os.environ.get("HUB_HOSTILE", "40"))

#: An ordinary task ends within this time after each record, with room for a machine that stalls (seconds).
PATIENCE_SECONDS = 60.0

tasks = TaskRegistry()


@tasks.task("double")
async def double(number: int) -> int:
    return 2 * number


def created(*more: tuple[str, bytes | None], without: str = "", value: bytes = b'{"name": "nobody"}') -> WholeRecord:
    headers: Headers = [("ce_type", b"task.created"), ("ce_source", b"/test"), ("ce_id", b"1"), *more]
    return WholeRecord(b"k", value, [header for header in headers if header[0] != without])


HUGE = 2_000_000
CHOSEN = {
    "a null ce_id": created(("ce_id", None), without="ce_id"),
    "a null ce_type": created(("ce_type", None), without="ce_type"),
    "a null ce_source": created(("ce_source", None), without="ce_source"),
    "every header null": WholeRecord(None, b"{}", [("ce_type", None), ("ce_id", None), ("ce_source", None), ("replyto", None)]),
    "a huge ce_source": created(("ce_source", b"\x01" * HUGE)),
    "a huge ce_id": created(("ce_id", b"\\" * HUGE)),
    "a huge replyto": created(("replyto", b"0:" + b"t" * HUGE)),
    "a huge traceparent": created(("traceparent", b"0" * HUGE)),
    "a huge hub-origin": created(("hub-origin", b"0/" + b"1" * HUGE)),
    "a huge key": created()._replace(key=b"\x00" * HUGE),
    "a cancel with a huge id": WholeRecord(b"k", b'{"id": "' + b"\\\\" * HUGE + b'"}', [("ce_type", b"task.cancel")]),
    "an await with a huge root": WholeRecord(b"k", b'{"id": "x", "root": "' + b"r" * HUGE + b'"}', [("ce_type", b"task.await")]),
    "an unknown field with a huge name": created(value=b'{"name": "a", "' + b"n" * HUGE + b'": 1}'),
    "no value": created()._replace(value=None),
    "deep JSON": created(value=b"[" * 100_000),
    "not UTF-8": created(("ce_id", b"\xff\xfe"), without="ce_id"),
    "a number that no integer holds": WholeRecord(
        b"k",
        b'{"task":"t","root":"t","attempt":' + b"9" * 400 + b',"dispatch":1,"token":"x","incarnation":"w","number":1}',
        [("ce_type", b"attempt.started")],
    ),
}


def generated() -> list[WholeRecord]:
    source = Damage(examples(prepared()), structured_mode=True, huge_bytes_max=HUGE)
    random = Random(7)
    return [source.record(random) for _ in range(GENERATED)]


@pytest.mark.timeout(600)
async def test_whatever_lies_on_the_intake_the_next_task_ends(empty_bootstrap: str) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=empty_bootstrap, max_request_size=8 << 20)
    records = [*CHOSEN.values(), *generated()]
    with capture_logs() as logs:
        async with running(empty_bootstrap, tasks) as world:
            await producer.start()
            try:
                for number, record in enumerate(records):
                    task = f"after-{number}"
                    await _send(producer, record, partition_of(task, PARTITIONS))
                    assert await _result(world.hub, task, number) == 2 * number
            finally:
                await producer.stop()
    actions = [entry.get("action") for entry in logs]
    assert not {"engine_poison", "engine_retry", "engine_failed"} & set(actions)
    assert len(logs) < 10 * PARTITIONS + 5 * len(records)
    assert max(len(str(entry)) for entry in logs) < 20_000
    started = [
        event
        for partition in range(PARTITIONS)
        async for record in read_all(Cluster.of(empty_bootstrap), EVENTS, partition)
        if (event := decode_event(record.value, record.headers)).type == "engine.started"
    ]
    assert len(started) == PARTITIONS, "no partition was taken over a second time"
    report = await verify(Cluster.of(empty_bootstrap))
    assert report.ok, report.render()


async def _send(producer: aiokafka.AIOKafkaProducer, record: WholeRecord, partition: int) -> None:
    """As any producer does; what the broker or the client refuses never gets onto the intake."""
    try:
        await producer.send_and_wait(INTAKE, record.value, key=record.key, headers=record.headers, partition=partition)
    except (aiokafka.errors.MessageSizeTooLargeError, UnicodeEncodeError):
        return


async def _result(hub: Hub, task: str, number: int) -> object:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await hub.run("double", {"number": number}, id=task)
