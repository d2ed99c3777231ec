"""The format of a hub is that of its last `!meta` row, wherever it is in the log."""

from collections.abc import AsyncIterator

import pytest
from msgspec import json

from hub.broker import BrokerServer
from hub.core import FORMAT
from hub.engine.format import TAIL_RECORDS, FormatMismatch, check_hub_format
from hub.kafka import STATE, Cluster, Record, build_batch, ensure_topics

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
