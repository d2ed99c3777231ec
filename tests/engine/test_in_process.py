"""The engine's input in the broker's process: how much is read at once."""

import pytest

from hub.engine.in_process import TURN_BYTES, InProcessBroker
from hub.kafka import INTAKE, Record, build_batch
from tests.engine.test_loop import CheckedBroker, broker

__all__ = ["broker"]  # the fixture


@pytest.mark.parametrize(
    ("sizes", "reads"),
    [
        ([1] * 5, [3, 2]),
        ([TURN_BYTES // 2 - 1] * 3, [2, 1]),
        ([TURN_BYTES + 1, 1], [1, 1]),
    ],
    ids=["as many as are asked for", "as many bytes as a batch may have", "a record that has more, alone"],
)
async def test_records_are_read_in_order_up_to_the_limits_of_a_batch(
    broker: CheckedBroker, sizes: list[int], reads: list[int]
) -> None:
    records = [Record(b"k", b"x" * size, [], 0) for size in sizes]
    await broker.local.append(INTAKE, 0, build_batch(records, compression="lz4"))
    intake = await InProcessBroker(broker.local).intake(0, 0)
    offsets = [[record.offset for record in await intake.read(3, 0.0)] for _ in reads]
    assert [len(taken) for taken in offsets] == reads
    assert sum(offsets, []) == list(range(len(sizes)))
    assert intake.position == intake.end == len(sizes)
    assert await intake.read(3, 0.0) == []
