"""What a worker announces: its registry as it is now, whole where that is asked for, else by its revision alone."""

import asyncio
from typing import Any

from msgspec import json

from hub import TaskRegistry
from hub.errors import Unreachable
from hub.kafka import Outgoing
from hub.testing import HubInMemory
from hub.worker import WorkerSettings
from hub.worker.desk import REGISTER_AGAIN_SECONDS
from hub.worker.heartbeats import DeskHeartbeats
from hub.worker.registration import Registration
from hub.worker.reports import ReportBuilder, WorkerIdentity
from hub.worker.shared import Locked
from hub.worker.slots import Slots
from schemas import Definition, DefinitionsWanted, EngineAnnounced
from tests import virtual_time
from tests.components.running import until

from .desks import KeptReports, LoneDesk

DEFINITIONS = (Definition(name="a"), Definition(name="a", version="2"))


def registry_of(*names: str) -> TaskRegistry:
    tasks = TaskRegistry()
    for name in names:
        tasks.task(name)(lambda: None)
    return tasks


def test_a_partition_is_told_the_definitions_once_for_each_time_that_it_asks() -> None:
    desk = Slots(1, 2, registration=Registration(2, DEFINITIONS))
    assert (desk.standing(0).revision, desk.standing(0).definitions) == (2, None)
    for command in (EngineAnnounced(partition=1, partitions=2, epoch=3), DefinitionsWanted(partition=1)):
        assert [effect.partitions for effect in desk.take(command, 0.0)] == [(1,)]  # type: ignore[union-attr]  # BeatSoon
        assert desk.standing(0).definitions is None
        assert desk.standing(1).definitions == list(DEFINITIONS)
        assert desk.standing(1).definitions is None
    assert desk.standing(0, describe=True).definitions == list(DEFINITIONS)


def test_heartbeats_name_the_revision_and_carry_the_definitions_only_where_they_are_wanted() -> None:
    slots = Slots(1, 1, registration=Registration(2, DEFINITIONS))
    heartbeats = DeskHeartbeats(Locked(slots), ReportBuilder(WorkerIdentity("w", 0, WorkerSettings()), "h"))
    first = json.decode(heartbeats.heartbeat(0).value)
    assert (first["revision"], "definitions" in first) == (2, False)
    slots.take(DefinitionsWanted(partition=0), 0.0)
    assert json.decode(heartbeats.heartbeat(0).value)["definitions"] == [{"name": "a"}, {"name": "a", "version": "2"}]


class FailingReports(KeptReports):
    """Reports that are not stored while `away`."""

    away = False

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = 0.0) -> None:
        if self.away:
            self.away = False
            raise Unreachable("the broker is away")
        await super().send(outgoing)


async def test_what_is_registered_while_the_worker_runs_is_reported_until_it_is_stored() -> None:
    tasks, reports = registry_of("a"), FailingReports()
    lone = LoneDesk(tasks, partitions=2, reports=reports)
    keeping = asyncio.create_task(lone.desk.keep_registered())
    reports.away = True
    tasks.task("b")(lambda: None)
    await until(lambda: len(reports.kept) == 2)
    stored = [value for kind, value in reports.kept if kind == "worker.registered"]
    assert [(each["revision"], [one["name"] for one in each["definitions"]]) for each in stored] == [(2, ["a", "b"])] * 2
    keeping.cancel()


def test_what_is_registered_while_the_worker_runs_is_reported_at_once() -> None:
    async def scene() -> None:
        tasks = registry_of("a")
        lone, now = LoneDesk(tasks), asyncio.get_running_loop().time
        keeping = asyncio.create_task(lone.desk.keep_registered())
        await asyncio.sleep(10 + REGISTER_AGAIN_SECONDS / 2)
        assert lone.reports.kept == []
        tasks.task("b")(lambda: None)
        changed_at = now()
        await until(lambda: lone.reports.kinds == ["worker.registered"])
        assert now() < changed_at + REGISTER_AGAIN_SECONDS / 4
        keeping.cancel()

    virtual_time.run(scene())


async def test_a_task_that_is_registered_late_runs() -> None:
    tasks = registry_of("a")
    async with HubInMemory(tasks, partitions=2) as hub:
        waits = await hub.submit("late")
        await hub.settle()
        assert (await waits.state()).state == "ready"
        assert waits.warning is not None
        tasks.task("late")(lambda: "now")
        await hub.settle()
        assert await waits.result() == "now"


async def test_versions_side_by_side_and_a_deprecated_one() -> None:
    tasks = TaskRegistry()
    for version in ("1", "2"):
        tasks.task("greet", version=version)(greeting(version))
    async with HubInMemory(tasks, partitions=2) as hub:
        assert await hub.run("greet") == "2"
        assert await hub.run("greet", version="1") == "1"
        await hub.deprecate("greet", "2", reason="rude")
        await hub.deprecate("greet", "2")
        assert await hub.run("greet") == "1"
        named = await hub.submit("greet", version="2")
        assert await named.result() == "2"
        assert named.warning == "'*/greet@2' is deprecated"


def greeting(version: str) -> Any:
    def greet() -> str:
        return version

    return greet
