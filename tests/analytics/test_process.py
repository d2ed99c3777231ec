"""A process of the analytics that is killed: its view is that of the log, and its alerts fire once."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from hub.analytics import Shape, View, parse_rules, plain, read_into
from hub.analytics.reading import undecided_alerts
from hub.analytics.snapshots import FILE, ViewSnapshot
from hub.cli.events import last_events
from hub.client import Hub
from hub.kafka import Cluster
from tests.e2e.processes import HubProcess, Installation

RULES = """
[analytics]
snapshot_seconds = 1

[[rules]]
name = "many"
kind = "threshold"
match = { type = "task.created" }
for_each = ["task"]
window = "30s"
at_least = 3
severity = "warning"
actions = [{ do = "run", task = "look" }]
"""
RULE: dict[str, Any] = {
    "name": "many",
    "kind": "threshold",
    "match": {"type": "task.created"},
    "for_each": ["task"],
    "window": "30s",
    "at_least": 3,
    "severity": "warning",
    "actions": [{"do": "run", "task": "look"}],
}
SECONDS = 60.0


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """The first result of `condition` that is true."""
    async with asyncio.timeout(SECONDS):
        while not (result := await condition()):
            await asyncio.sleep(0.1)
        return result


async def types_and_subjects(cluster: Cluster, pattern: str) -> list[tuple[str, str]]:
    return [(one.type, one.subject) for one in await last_events(cluster, 1_000, event_type=pattern, task=None)]


async def has_started(process: HubProcess, times: int) -> bool:
    """Whether the process follows the log, for this start of it."""
    return process.errors().count("action=analytics_started") >= times


async def rebuilt(cluster: Cluster) -> dict[str, Any]:
    """What a view that reads the whole log has."""
    view = View(Shape(parse_rules([RULE])))
    await read_into(view, cluster, 0)
    return without_positions(plain(view.contents()))


def saved(folder: Path) -> dict[str, Any]:
    """What the process has saved."""
    snapshot = msgspec.msgpack.decode((folder / FILE).read_bytes(), type=ViewSnapshot)
    return without_positions(plain(snapshot.contents))


def without_positions(contents: dict[str, Any]) -> dict[str, Any]:
    """Markers of transactions move the position of one reader and not of another one."""
    return {name: value for name, value in contents.items() if name != "positions"}


async def test_a_killed_process_has_the_view_of_the_log_and_fires_each_alert_once(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(RULES)
    async with Installation(tmp_path, partitions=2) as installation:
        cluster = Cluster.of(installation.bootstrap)
        await installation.broker(engine=False)
        analytics = make_process(installation, tmp_path)
        engine, _ = await installation.together(installation.engine(), analytics.start())
        await until(lambda: has_started(analytics, 1))
        async with Hub(cluster) as hub:
            analytics.signal(signal.SIGSTOP)
            await hub.submit_many([{"name": "charge", "id": f"charge-{number}"} for number in range(3)])

            async def created() -> bool:
                return len(await types_and_subjects(cluster, "task.created")) == 3

            await until(created)
            engine.signal(signal.SIGSTOP)  # it puts nothing on the log: what is reported waits in the intake
            analytics.signal(signal.SIGCONT)
            await until(lambda: undecided_alerts(cluster, {}))
            await analytics.kill()
            await analytics.start()
            await until(lambda: has_started(analytics, 2))
            await asyncio.sleep(2.5)  # a process that fires it again does so in this time
            engine.signal(signal.SIGCONT)

            async def fired() -> bool:
                return bool(await types_and_subjects(cluster, "alert.*"))

            await until(fired)
            await hub.submit_many([{"name": "mail", "id": f"mail-{number}"} for number in range(3)])
            expected = [("alert.fired", "many/charge"), ("alert.fired", "many/mail")]

            async def both() -> bool:
                return len(await types_and_subjects(cluster, "alert.*")) >= 2

            await until(both)

        async def caught_up() -> bool:
            return saved(tmp_path / "analytics") == await rebuilt(cluster)

        await until(caught_up)
        assert await analytics.stop() == 0
        looked = [subject for _, subject in await types_and_subjects(cluster, "task.created") if subject.startswith("alert-run-")]
        assert len(looked) == 2
        assert await types_and_subjects(cluster, "alert.*") == expected
        assert saved(tmp_path / "analytics") == await rebuilt(cluster)


def make_process(installation: Installation, folder: Path) -> HubProcess:
    arguments = ["analytics", "--bootstrap", installation.bootstrap, "--data", str(folder / "analytics")]
    process = HubProcess("analytics", arguments, folder, {"HUB_CONFIG": str(folder / "hub.toml")})
    installation.processes["analytics"] = process
    return process
