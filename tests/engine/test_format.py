"""The format of a hub is that of its last `!meta` row, wherever it is in the log."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import json

from hub.broker import BrokerServer
from hub.core import FORMAT
from hub.engine.embedded import EMBEDDED_MAX_RECORDS, EmbeddedEngine
from hub.engine.format import TAIL_RECORDS, FormatMismatch, check_hub_format
from hub.engine.in_process import InProcessBroker, InProcessIntake
from hub.engine.loop import PartitionLoop
from hub.kafka import EVENTS, STATE, Cluster, Record, StoredRecord, build_batch, ensure_topics
from tests.broker.client import until

META = [(b"!meta", json.encode({"format": number})) for number in (FORMAT, FORMAT + 1)]
OTHER = [(b"task/t", b"{}")]


@pytest.fixture
async def broker() -> AsyncIterator[BrokerServer]:
    server = BrokerServer(None)
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=1)
    yield server
    await server.stop()


@pytest.mark.parametrize("after", [0, TAIL_RECORDS - 1, TAIL_RECORDS, 3 * TAIL_RECORDS])
async def test_a_hub_is_of_the_format_of_its_last_row_of_that_kind(broker: BrokerServer, after: int) -> None:
    cluster = Cluster.of(broker.bootstrap)
    await check_hub_format(cluster)
    this, later = META
    for rows, matches in (([later, this], True), ([this, later], False)):
        records = [Record(key, value, [], 0) for key, value in [*rows, *OTHER * after]]
        await broker.local.append(STATE, 0, build_batch(records))
        if matches:
            await check_hub_format(cluster)
        else:
            with pytest.raises(FormatMismatch):
                await check_hub_format(cluster)


async def test_an_owner_does_not_begin_on_rows_of_another_format(broker: BrokerServer) -> None:
    key, row = META[1]
    await broker.local.append(STATE, 0, build_batch([Record(key, row, [], 0)]))
    before = broker.local.end(EVENTS, 0)
    async with asyncio.timeout(60):
        with pytest.raises(FormatMismatch, match=str(FORMAT + 1)):
            await PartitionLoop(InProcessBroker(broker.local), 0, 1).run()
    assert broker.local.end(EVENTS, 0) == before


async def test_an_engine_in_the_brokers_process_takes_few_reports_at_once(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = InProcessIntake.read, set[int]()

    async def counted(self: InProcessIntake, max_records: int, timeout_seconds: float) -> list[StoredRecord]:
        asked.add(max_records)
        return await read(self, max_records, timeout_seconds)

    monkeypatch.setattr(InProcessIntake, "read", counted)
    engine = EmbeddedEngine(broker.local)
    await engine.start()
    try:
        await until(lambda: bool(asked))
    finally:
        await engine.stop()
    assert asked == {EMBEDDED_MAX_RECORDS}
