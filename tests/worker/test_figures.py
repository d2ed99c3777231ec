"""What a worker counts: commands, bodies by outcome, lost leases."""

import asyncio
import time

import pytest
from msgspec import json

from hub import Permanent, TaskRegistry
from hub.kafka import StoredRecord
from hub.worker import Succeeded
from hub.worker.commands import EVERYBODY, CommandReader
from hub.worker.figures import OTHER, SERIES_MAX, WorkerFigures
from tests.components.running import until
from tests.worker.desks import LoneDesk, command

tasks = TaskRegistry()


@tasks.task("quick")
async def quick() -> str:
    return "done"


@tasks.task("bad")
async def bad() -> None:
    raise Permanent("no")


@tasks.task("waits")
async def waits() -> None:
    await asyncio.sleep(600)


async def test_bodies_are_counted_by_outcome_and_names_without_a_handler_not_at_all() -> None:
    lone = LoneDesk(tasks)
    figures = lone.desk._figures
    for name in ("quick", "bad", "nobody"):
        await lone.desk.take(command(name, task=name, token=name))
    await lone.desk.take(command("waits", task="late", token="late", timeout_seconds=0.05))
    await until(lambda: lone.idle)
    counts = {(name, outcome): seconds.count for (_, name, outcome), seconds in figures.ran_seconds.items()}
    assert counts == {("quick", "success"): 1, ("bad", "failure"): 1, ("waits", "timeout"): 1}
    assert 0.05 <= figures.ran_seconds["n", "waits", "timeout"].sum < 5


async def test_attempts_that_are_stopped_with_their_lease_are_counted() -> None:
    lone = LoneDesk(tasks)
    figures = lone.desk._figures
    for token in ("x", "y"):
        await lone.desk.take(command("waits", task=token, token=token))
    await until(lambda: lone.desk.stats()["running"] == 2)
    await asyncio.sleep(0.01)
    lone.desk.lease_lost(0)
    await until(lambda: lone.idle)
    assert figures.leases_lost == 2
    assert figures.ran_seconds["n", "waits", "cancellation"].count == 2


async def test_a_loop_that_a_handler_blocked_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.worker.desk.IDLE_TICK_SECONDS", 0.05)
    lone = LoneDesk(tasks)
    keeping = asyncio.ensure_future(lone.desk.keep_time())
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - as a handler that blocks the loop
    await until(lambda: lone.desk._figures.loop_delay_seconds > 0.1)
    keeping.cancel()


def test_commands_are_counted_by_type() -> None:
    reader = CommandReader("incarnation")
    reader.partitions = 1
    headers = [("worker", EVERYBODY), ("ce_type", b"attempt.execute")]
    for worker in (EVERYBODY, EVERYBODY, b"another"):
        headers[0] = ("worker", worker)
        reader.read(StoredRecord(0, 0, None, json.encode(command("quick")), headers))
    assert reader.figures.commands == {"attempt.execute": 2}


def test_the_number_of_distributions_is_limited() -> None:
    figures = WorkerFigures()
    for number in range(SERIES_MAX + 3):
        figures.ran("default", f"t{number}", f"q{number}", Succeeded(b"", 0.0), 0.5)
    assert (len(figures.ran_seconds), figures.ran_seconds[OTHER, OTHER, OTHER].count) == (SERIES_MAX + 1, 3)
    assert (len(figures.processed_seconds), figures.processed_seconds[OTHER, OTHER].count) == (SERIES_MAX + 1, 3)
    figures.ran("default", "t0", "q0", Succeeded(b"", 0.0), 0.5)
    assert figures.ran_seconds["default", "t0", "success"].count == figures.processed_seconds["q0", ""].count == 2
