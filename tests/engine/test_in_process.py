"""The engine's input in the broker's process: how much is read at once; its session."""

import pytest

from hub.engine.in_process import TURN_BYTES, InProcessBroker, InProcessSession
from hub.kafka import EVENTS, INTAKE, Record, SessionFailed, TopicPartition, build_batch
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


async def test_a_session_that_was_closed_commits_nothing_more(broker: CheckedBroker) -> None:
    session = InProcessSession(broker.local, "test")
    outputs = {TopicPartition(EVENTS, 0): [Record(b"k", b"v", [], 0)]}
    with pytest.raises(SessionFailed, match="not opened"):
        await session.commit(outputs)
    await session.open()
    await session.close()
    end = broker.local.end(EVENTS, 0)
    with pytest.raises(SessionFailed, match="closed by its owner"):
        await session.commit(outputs)
    assert broker.local.end(EVENTS, 0) == end
