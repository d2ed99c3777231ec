"""The engine's input in the broker's process: how much is read at once; its session."""

import asyncio

import pytest

from hub.engine import in_process
from hub.engine.in_process import TURN_BYTES, InProcessBroker, InProcessSession
from hub.engine.ports import DiskSpace
from hub.kafka import (
    EVENTS,
    INTAKE,
    STATE,
    OffsetOutOfRange,
    Record,
    RecordTooLarge,
    SessionFailed,
    SessionFenced,
    TopicPartition,
    build_batch,
)
from tests.engine.test_loop import CheckedBroker, broker

__all__ = ["broker"]  # the fixture


@pytest.mark.parametrize(
    ("sizes", "reads"),
    [
        ([1] * 5, [3, 2]),
        ([TURN_BYTES // 2] * 3, [2, 1]),
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


def of(values: list[bytes]) -> bytes:
    return build_batch([Record(b"k", value, [], 0) for value in values])


async def test_an_intake_begins_in_the_middle_of_a_batch_and_says_where_it_is(broker: CheckedBroker) -> None:
    await broker.local.append(INTAKE, 0, of([b"a", b"b", b"c", b"d"]))
    intake = await InProcessBroker(broker.local).intake(0, 1)
    assert (intake.position, intake.end, intake.log_start) == (1, 1, 0)
    before = asyncio.get_running_loop().time()
    assert [record.value for record in await intake.read(2, 0.0)] == [b"b", b"c"]
    assert (intake.position, intake.end) == (3, 4)
    assert before <= intake.end_at <= asyncio.get_running_loop().time()
    await broker.local.append(INTAKE, 0, of([b"e"]))
    assert [record.value for record in await intake.read(2, 0.0)] == [b"d"], "what was fetched, first"
    assert [record.value for record in await intake.read(2, 0.0)] == [b"e"]
    assert (intake.position, intake.end) == (5, 5)


async def test_an_intake_waits_for_records_as_long_as_it_may(broker: CheckedBroker) -> None:
    intake = await InProcessBroker(broker.local).intake(0, 0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await intake.read(1, 0.05) == []
    assert loop.time() - began >= 0.04
    reading = asyncio.create_task(intake.read(1, 600.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    broker.local.append_soon(INTAKE, 0, of([b"x"]))
    async with asyncio.timeout(30):
        assert [record.value for record in await reading] == [b"x"], "before it is on disk"


async def test_an_intake_outside_of_the_log_is_refused(broker: CheckedBroker) -> None:
    ports = InProcessBroker(broker.local)
    await broker.local.append(INTAKE, 0, of([b"a", b"b", b"c"]))
    await ports.trim_intake(0, 2)
    assert (await ports.intake(0, 2)).log_start == 2
    for offset in (1, 4):
        with pytest.raises(OffsetOutOfRange) as refused:
            await ports.intake(0, offset)
        assert (refused.value.topic, refused.value.offset) == (INTAKE, offset)
    with pytest.raises(SessionFailed, match=r"hub\.intake-0 could not be deleted"):
        await ports.trim_intake(0, 9)
    broker.lost = frozenset({"I31"})  # nobody decided what was deleted


async def test_a_changelog_is_read_from_an_offset_to_the_end_of_that_moment(broker: CheckedBroker) -> None:
    ports = InProcessBroker(broker.local)
    await broker.local.create_topic("another", 1)
    for first in range(0, 9, 3):
        await broker.local.append(STATE, 0, build_batch([Record(b"x%d" % n, b"%d" % n, [], 0) for n in range(first, first + 3)]))

    async def rows(from_offset: int) -> list[bytes | None]:
        return [record.value async for record in ports.changelog(0, from_offset)]

    begin = broker.local.end(STATE, 0) - 9
    assert (await rows(begin + 4)) == [b"4", b"5", b"6", b"7", b"8"]
    assert (await rows(begin + 9)) == []
    with pytest.raises(OffsetOutOfRange):
        await rows(begin + 10)
    seen: list[bytes | None] = []
    async for record in ports.changelog(0, begin + 7):
        if not seen:
            await broker.local.append(STATE, 0, build_batch([Record(b"late", b"late", [], 0)]))
        seen.append(record.value)
    assert seen == [b"7", b"8"]


async def test_a_session_commits_batches_up_to_the_limit_and_none_beyond(
    broker: CheckedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = InProcessSession(broker.local, "test")
    await session.open()
    outputs = {TopicPartition(INTAKE, 0): [Record(b"k", b"v" * 100, [], 0)]}
    (batches,) = session._build(outputs).values()
    monkeypatch.setattr(in_process, "BATCH_BYTES_MAX", len(batches[0]))
    offset = (await session.commit(outputs))[TopicPartition(INTAKE, 0)]
    assert offset == broker.local.end(INTAKE, 0) - 1
    monkeypatch.setattr(in_process, "BATCH_BYTES_MAX", len(batches[0]) - 1)
    with pytest.raises(RecordTooLarge):
        await session.commit(outputs)
    monkeypatch.undo()
    await session.commit(outputs)


async def test_a_transaction_is_given_to_the_disk_before_its_commit_returns(broker: CheckedBroker) -> None:
    session = InProcessSession(broker.local, "test", behind_input=True)
    await session.open()
    await broker.local.create_topic("another", 1)
    await session.commit({TopicPartition("another", 0): [Record(b"k", b"v", [], 0)]})
    assert not broker.local._state.pending.is_due
    await session.close()


async def test_only_the_events_of_a_commit_have_a_marker(broker: CheckedBroker) -> None:
    session = InProcessSession(broker.local, "test")
    await session.open()
    await broker.local.create_topic("another", 1)
    events, others = TopicPartition(EVENTS, 0), TopicPartition("another", 0)
    before = broker.local.end(EVENTS, 0)
    outputs = {events: [Record(b"k", b"v", [], 0)] * 2, others: [Record(b"k", b"v", [], 0)] * 3}
    assert [(await session.commit(outputs))[events] - before for _ in range(2)] == [0, 3]
    assert await session.commit({others: outputs[others]}) == {others: 6}
    assert (broker.local.end(EVENTS, 0) - before, broker.local.end("another", 0)) == (6, 9)
    broker.lost = frozenset({"I7", "I32"})  # these records are no events, and there are no rows
    await session.close()


async def test_a_fenced_session_says_so_and_stays_ended(broker: CheckedBroker) -> None:
    first, second = (InProcessSession(broker.local, "test", behind_input=True) for _ in range(2))
    outputs = {TopicPartition(INTAKE, 0): [Record(b"k", b"v", [], 0)]}
    await first.open()
    await first.commit(outputs)
    await first.commit({})
    await second.open()
    with pytest.raises(SessionFenced):
        await first.commit(outputs)
    with pytest.raises(SessionFailed, match="has ended: .*PRODUCER_FENCED"):
        await first.commit(outputs)
    await second.commit(outputs)
    await second.close()


async def test_pools_are_those_with_a_topic_of_commands(broker: CheckedBroker) -> None:
    ports = InProcessBroker(broker.local)
    await broker.local.create_topic("hub.commands.gpu", 1)
    await broker.local.create_topic("hub.other", 1)
    assert sorted(await ports.pools()) == ["default", "gpu"]
    assert await ports.events_end(0) == broker.local.end(EVENTS, 0)
    assert await ports.disk_space() == DiskSpace(*reversed(broker.local.disk_space()))


async def test_a_session_waits_for_a_topic_that_is_about_to_be_created(broker: CheckedBroker) -> None:
    session = InProcessSession(broker.local, "test", retry_seconds=3_600)
    await session.open()
    outputs = {TopicPartition("later", 0): [Record(b"k", b"v", [], 0)]}
    committing = asyncio.create_task(session.commit(outputs))
    await asyncio.sleep(3 * in_process.RETRY_PAUSE_SECONDS)
    assert not committing.done()
    await broker.local.create_topic("later", 1)
    async with asyncio.timeout(60):
        assert await committing == {TopicPartition("later", 0): 0}
    await session.close()


async def test_a_session_ends_where_a_topic_is_not_there_in_time(broker: CheckedBroker) -> None:
    session = InProcessSession(broker.local, "test", retry_seconds=0.05)
    await session.open()
    async with asyncio.timeout(60):
        with pytest.raises(SessionFailed, match="UNKNOWN_TOPIC_OR_PARTITION"):
            await session.commit({TopicPartition("never", 0): [Record(b"k", b"v", [], 0)]})


async def test_another_error_ends_a_session_at_once(broker: CheckedBroker) -> None:
    first, second = (InProcessSession(broker.local, "test", retry_seconds=3_600) for _ in range(2))
    await first.open()
    await second.open()
    async with asyncio.timeout(60):
        with pytest.raises(SessionFenced):
            await first.commit({TopicPartition(EVENTS, 0): [Record(b"k", b"v", [], 0)]})
    await second.close()
