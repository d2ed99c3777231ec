"""What the command line prints of the log: any event that can be decoded has its line, and what cannot is counted."""

from collections.abc import AsyncIterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.events import read_events
from hub.cli.listing import listed_task, read_tasks
from hub.cli.render import duration, event_line, print_event
from hub.cli.tree import TreeView
from hub.core.rows import EndedRow, EngineRow, MetaRow, TaskRow, WorkerRow
from hub.kafka import EVENTS, STATE, Cluster, make_producer
from hub.runtime.status import PartitionStatus, gather_status
from schemas import MalformedRecord, decode_event
from tests.brokers import broker_and_loop
from tests.components.running import PARTITIONS, Running, running
from tests.records import PATIENT, Damage, Example, WholeRecord, example_of, hostile_records
from tests.schemas.test_envelope import EXAMPLES, why_not
from tests.worker.test_commands import tasks

ROWS = {
    "task": [Example(example_of(TaskRow, created_at="2026-01-01T00:00:00Z"), {}, b"task/t")],
    "ended": [Example({"ended": "failed", **example_of(EndedRow, ended="failed")}, {}, b"task/e")],
    "worker": [Example(example_of(WorkerRow), {}, b"worker/w")],
    "engine": [Example(example_of(EngineRow), {}, b"engine/0")],
    "meta": [Example(example_of(MetaRow), {}, b"!meta")],
}


@PATIENT
@given(st.lists(hostile_records(EXAMPLES), min_size=1, max_size=20))
def test_every_event_that_is_decoded_has_one_line_and_a_place_in_the_tree(records: list[WholeRecord]) -> None:
    view = TreeView("t")
    for record in records:
        if why_not(record) is None:
            event = decode_event(record.value, record.headers)
            view.take(event)
            assert event_line(event).isprintable()
            assert view.told(event).isprintable()
    assert view.tree(view.now) is not None


@PATIENT
@given(st.lists(hostile_records(ROWS), min_size=1, max_size=20))
def test_any_record_of_the_changelog_is_a_row_or_is_counted(records: list[WholeRecord]) -> None:
    status = PartitionStatus()
    for record in records:
        status.take(record.key or b"", record.value)
        try:
            duration(listed_task(record.key or b"", record.value or b"", 0).seconds)
        except MalformedRecord as error:
            refusal = str(error)
            assert refusal.isprintable()


@pytest.fixture
async def world() -> AsyncIterator[Running]:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, foreign=True) as world:
            yield world


async def publish(world: Running, topic: str, source: Damage, count: int) -> None:
    """So many records, on every partition in turn."""
    producer = make_producer(Cluster.of(world.bootstrap))
    await producer.start()
    try:
        for seed in range(count):
            record = source.record(Random(seed))
            key = b"" if record.key is None and topic == STATE else record.key  # a compacted topic takes no other
            await producer.send_and_wait(topic, record.value, key=key, partition=seed % PARTITIONS, headers=record.headers)
    finally:
        await producer.stop()


async def test_events_are_followed_and_watched_past_whatever_lies_between(
    world: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await world.hub.submit("quick", id="before")
    await before.result(timeout_seconds=60)
    await publish(world, EVENTS, Damage(EXAMPLES, structured_mode=False, huge_bytes_max=300_000), 80)
    after = await world.hub.submit("quick", id="after")
    watched = [event.type async for event in after.watch()]
    assert watched[-1] == "task.completed"
    seen = []
    async for event in read_events(Cluster.of(world.bootstrap), from_beginning=True, follow=False):
        print_event(event, as_json=True)
        seen.append((event.subject, event.type))
    assert {("before", "task.completed"), ("after", "task.completed")} <= set(seen)
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 4
    assert max(map(len, said)) < 1_000


async def test_tasks_and_processes_are_listed_whatever_lies_in_the_changelog(world: Running) -> None:
    await (await world.hub.submit("quick", id="known")).result(timeout_seconds=60)
    await publish(world, STATE, Damage(ROWS, structured_mode=False, huge_bytes_max=300_000), 80)
    listing = await read_tasks(Cluster.of(world.bootstrap))
    assert ("known", "completed") in {(task.id, task.state) for task in listing.tasks}
    assert listing.malformed > 0
    assert (await gather_status(Cluster.of(world.bootstrap), None))["malformed_rows"] > 5
