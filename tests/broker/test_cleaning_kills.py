"""kill -9 of a broker process at random times during compaction and retention: no retained record is missing.

`HUB_KILLS` is the number of kills (a few by default)."""

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch

from hub.broker import BrokerServer
from hub.broker.batches import is_intact, read_header
from hub.protocol.batch_layout import whole_batches

from .process import broker_process

KILLS = int(os.environ.get("HUB_KILLS", "4"))
KEYS = 300
RETAINED_BYTES = 300_000
CONFIGS = {
    "compacted": {
        "cleanup.policy": "compact",
        "segment.bytes": "60000",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "200",
    },
    "limited": {"retention.bytes": str(RETAINED_BYTES), "segment.bytes": "60000"},
}
PROGRAM = f"""
import asyncio, pathlib, sys
from hub.broker import BrokerServer, BrokerSettings
from hub.broker.files import FileStorage

async def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    storage = FileStorage(directory, journal_file_bytes=500_000, checkpoint_bytes=100_000)
    settings = BrokerSettings(retention_check_seconds=0.02, cleaner_share=0.5, cleaner_map_bytes=30_000)
    server = BrokerServer(directory, storage=storage, settings=settings)
    await server.start()
    for name, configs in {CONFIGS!r}.items():
        await server.local.create_topic(name, 1, configs, exist_ok=True)
    print(server.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass
class Told:
    """What producers sent, and what the broker acknowledged."""

    number: int = 0
    last: dict[bytes, int] = field(default_factory=dict)
    """By key, the number of the last acknowledged record; negative for a tombstone."""
    pending: dict[bytes, list[int]] = field(default_factory=dict)
    """By key, what was sent since and may have been stored."""
    limited: int = -1
    """Number of the last acknowledged record in the topic with a size limit."""
    cleanings: int = 0


async def write(producer: AIOKafkaProducer, told: Told, dice: random.Random) -> None:
    """Keyed records, each one's value its number, tombstones among them; and plain ones for the other topic. Until it fails."""

    async def one(key: bytes) -> None:
        told.number += 1
        number = -told.number if dice.random() < 0.1 else told.number
        told.pending.setdefault(key, []).append(number)
        value = None if number < 0 else b"%d " % number + bytes(dice.randrange(400))
        await producer.send_and_wait("compacted", value, key=key, headers=[("n", b"%d" % number)])
        told.last[key] = number
        told.pending[key].remove(number)

    async def plain() -> None:
        told.number += 1
        number = told.number
        await producer.send_and_wait("limited", b"%d " % number + bytes(400))
        told.limited = max(told.limited, number)

    while True:
        keys = dice.sample(range(KEYS), 20)  # one record of a key at a time, or which is its last would be unknown
        await asyncio.gather(*(one(b"%d" % key) for key in keys), *(plain() for _ in range(10)))


async def round_until_kill(directory: Path, told: Told, dice: random.Random) -> None:
    """One process of the broker, ended at a random moment."""
    async with broker_process(PROGRAM, directory) as (process, bootstrap):
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, request_timeout_ms=120_000, linger_ms=1)
        await producer.start()
        writing = asyncio.create_task(write(producer, told, dice))
        before = told.number
        wanted = before + dice.randrange(300, 3000)
        while told.number < wanted and not writing.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(dice.random() * 0.3)  # the moment is random on purpose
        process.kill()
        await process.wait()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        producer._sender._sender_task.cancel()
        await asyncio.gather(producer._sender._sender_task, return_exceptions=True)
        await producer.client.close()
        producer._closed = True


def records(server: BrokerServer, topic: str) -> list[tuple[int, bytes | None, int]]:
    """(offset, key, number) of everything a reader finds from the start; every batch must be sound."""
    log = server.broker.state.topics[topic].logs[0]
    offset, end, found = log.start, server.local.end(topic, 0), []
    while offset < end:
        data = server.local.fetch(topic, 0, offset, max_bytes=1 << 20).data
        assert data, f"{topic}: nothing at {offset}, the end is {end}"
        for base, begin, stop in whole_batches(data):
            header = read_header(data, begin)
            assert is_intact(data[begin:stop], header)
            assert header.last_offset >= offset
            offset = base + header.last_offset_delta + 1
            for record in DefaultRecordBatch(data[begin:stop]):
                headers = dict(record.headers)
                number = int(headers["n"]) if headers else int(bytes(record.value or b"").split(b" ")[0])
                found.append((record.offset, record.key, number))
    return found


async def check(directory: Path, told: Told) -> None:
    """Start the broker here, read everything, compare with what was acknowledged."""
    server = BrokerServer(directory)
    await server.start()
    try:
        compacted = records(server, "compacted")
        assert [offset for offset, *_ in compacted] == sorted({offset for offset, *_ in compacted})
        last = {key: number for _, key, number in compacted if key is not None}
        for key, number in told.last.items():
            allowed = {number, *told.pending.get(key, ())}
            if any(one < 0 for one in allowed):
                allowed.add(0)  # a tombstone whose time is over has no trace
            assert last.get(key, 0) in allowed, f"key {key!r}: {last.get(key)} instead of one of {allowed}"
        for key in last:
            told.last[key], told.pending[key] = last[key], []
        for key in set(told.last) - set(last):
            told.last[key], told.pending[key] = -1, []
        limited = records(server, "limited")
        assert [offset for offset, *_ in limited] == list(range(limited[0][0], limited[-1][0] + 1))
        assert limited[-1][2] >= told.limited or told.limited in {number for *_, number in limited}
        log = server.broker.state.topics["limited"].logs[0]
        assert log.file_bytes + log.memory_bytes >= min(RETAINED_BYTES, limited[-1][0] * 400)
        told.cleanings += len(server.broker.storage.segments.cleaned(server.broker.state.topics["compacted"].logs[0].key))  # type: ignore[union-attr]
    finally:
        await server.stop()


async def test_nothing_is_missing_after_kills_during_compaction_and_retention(tmp_path: Path) -> None:
    dice, told = random.Random(), Told()
    for _ in range(KILLS):
        try:
            await round_until_kill(tmp_path, told, dice)
        except KafkaError:
            continue  # the kill came before the producer knew the topic
        await check(tmp_path, told)
    assert told.cleanings > 0
    size = sum(path.stat().st_size for path in (tmp_path / "logs").rglob("*.log"))
    assert size < RETAINED_BYTES + 1_500_000
    print(f"{KILLS} kills, {told.number} records, {told.cleanings} spans of cleaning seen, {size} bytes left")
