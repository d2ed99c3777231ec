"""Events in a table: each once, however often it is delivered."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hub import TaskRegistry
from hub.testing import HubInMemory, SubscriberContract, SubscriberHarness, make_event_record

from .sqlite_sink import SqliteSink

tasks = TaskRegistry()


@tasks.task("charge")
async def charge() -> str:
    return "paid"


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


async def test_the_events_of_a_hub_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with HubInMemory(tasks) as hub:
        await hub.attach(SqliteSink, settings={"path": str(path)}, start_from="earliest")
        task = await hub.submit("charge")
        await hub.advance(seconds=2)
        expected = [(event.type, event.sequence) for event in hub.events_of(task)]
    assert query(path, "SELECT type, sequence FROM events ORDER BY sequence") == expected
    [(body,)] = query(path, "SELECT event FROM events WHERE type = 'task.completed'")
    assert json.loads(body)["subject"] == task.id


async def test_an_event_that_is_delivered_again_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    first, second = (
        make_event_record("task.completed", envelope={"run": 1}),
        make_event_record("task.failed", envelope={"run": 2}),
    )
    for batch in ([first, second, first], [second, first]):  # the second instance: after a crash, or a replay
        async with SubscriberHarness(SqliteSink, {"path": str(path)}) as harness:
            for record in batch:
                await harness.feed(record)
            await harness.advance(seconds=2)
            assert harness.delivered == len(batch)
    assert query(path, "SELECT type, count(*) FROM events GROUP BY type ORDER BY type") == [
        ("task.completed", 1),
        ("task.failed", 1),
    ]


async def test_a_batch_that_cannot_be_stored_is_delivered_again_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with SubscriberHarness(SqliteSink, {"path": str(path)}) as harness:
        with closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE events RENAME TO moved")
        await harness.feed("task.completed")
        await harness.feed("task.failed")
        await harness.advance(seconds=2)
        assert harness.delivered == 0
        assert isinstance(harness.errors[0], sqlite3.OperationalError)
        with closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE moved RENAME TO events")
        await harness.advance(minutes=2)
        assert (harness.delivered, len(harness.dead_letters)) == (2, 0)
    assert query(path, "SELECT count(*) FROM events") == [(2,)]


class TestSqliteSink(SubscriberContract):
    """A database in a temporary folder."""

    plugin = SqliteSink
    settings: ClassVar[dict[str, Any]] = {}
    delivers = True

    @pytest.fixture(autouse=True)
    def in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "settings", {"path": str(tmp_path / "events.db")})
