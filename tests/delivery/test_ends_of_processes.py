"""An event that ends the process of its subscriber is given up after three ends; the other events are delivered."""

import asyncio
import collections
import random
from pathlib import Path

import psutil
import pytest

from hub.delivery.administration.reading import read_range
from hub.kafka import Cluster, StoredRecord, describe_offsets
from tests.e2e.processes import HubProcess, Installation

from .ending_plugins import FATAL
from .event_log import progress, write
from .waiting import until

pytestmark = pytest.mark.slow
TASKS = 20
EVENTS = [(f"t{task}", sequence) for sequence in range(1, 51) for task in range(TASKS)]
TABLE = """
[[subscribers]]
use = "tests.delivery.ending_plugins:{plugin}"
id = "{plugin}"
start_from = "earliest"
settings = {{ path = "{path}", healthy = {healthy} }}
"""


class Ending(Installation):
    """A broker, and a delivery process that starts subscribers again without delay. The log has nothing but events, so that the
    checker cannot be used."""

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def deliver(self, *plugins: str, healthy: bool = False) -> HubProcess:
        """Start delivery with these plugins."""
        settings = self.folder / "hub.toml"
        tables = [TABLE.format(plugin=one, path=self.folder / one, healthy=str(healthy).lower()) for one in plugins]
        settings.write_text("".join(tables))
        self.command = ("tests.delivery.quick_restarts", "hub")
        return await self._add("delivery", "delivery", "--bootstrap", self.bootstrap, HUB_CONFIG=str(settings))

    def seen(self, plugin: str) -> list[tuple[str, int]]:
        """Task and sequence of the events that a plugin has written."""
        path = self.folder / plugin
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(task, int(sequence)) for task, sequence in lines]

    async def letters(self, plugin: str) -> list[StoredRecord]:
        """The dead letters of a plugin."""
        cluster, topic = Cluster.of(self.bootstrap), f"hub.dlq.{plugin}"
        ranges = await describe_offsets(cluster, topic)
        return [record for number, offsets in ranges.items() async for record in read_range(cluster, topic, number, offsets)]


def in_order(seen: list[tuple[str, int]]) -> bool:
    """Whether the events of each task came in order; after a restart some of them again."""
    latest: dict[str, int] = collections.defaultdict(int)
    for task, sequence in dict.fromkeys(seen):
        if sequence <= latest[task]:
            return False
        latest[task] = sequence
    return True


async def test_an_event_that_ends_its_process_is_dead_lettered_and_all_others_are_delivered(tmp_path: Path) -> None:
    plugins = {"Exits": "exit code 9", "ExitsInBatch": "exit code 9", "CrashesInFlush": "SIGSEGV"}
    expected = set(EVENTS) - {FATAL}
    async with Ending(tmp_path) as hub:
        await hub.broker(engine=False)
        await write(hub.bootstrap, "hub.events", [progress(task, sequence) for task, sequence in EVENTS])
        delivery = await hub.deliver(*plugins, "Stops")
        for plugin, how in plugins.items():
            await until(lambda: set(hub.seen(plugin)) == expected, f"the other events of {plugin}")  # noqa: B023
            assert in_order(hub.seen(plugin))
            [letter] = await hub.letters(plugin)
            headers = dict(letter.headers)
            assert (headers["ce_subject"], int(headers["ce_sequence"] or 0)) == (b"t7", 31)
            error = (headers["dlq_error"] or b"").decode()
            assert error.startswith("ProcessEnded: the process of the subscriber ended 3 times while it handled this event")
            assert error.endswith(f"ended with {how}")
            assert headers["dlq_attempts"] == b"3"
        errors = hub.folder / "delivery.err"
        await until(lambda: "stopped: 0/" in errors.read_text(), "the end of the subscriber that must not leave it out")
        assert hub.seen("Stops")[-1] == EVENTS[EVENTS.index(FATAL) - 1]
        failures = [line for line in errors.read_text().splitlines() if "failed, retrying" in line]
        ends = {one: sum(line.endswith(one) for line in failures) for one in (*plugins, "Stops")}
        assert ends == dict.fromkeys(ends, 3)
        assert await delivery.stop() == 0


async def test_events_that_were_being_handled_when_a_process_was_killed_from_outside_are_not_given_up(tmp_path: Path) -> None:
    async with Ending(tmp_path) as hub:
        await hub.broker(engine=False)
        delivery = await hub.deliver("Exits", healthy=True)
        [server] = psutil.Process(delivery.pid).children()
        for kill in range(10):
            before = len(hub.seen("Exits"))
            part = EVENTS[kill * 100 : kill * 100 + 100]
            await write(hub.bootstrap, "hub.events", [progress(task, sequence) for task, sequence in part])
            await until(lambda: len(hub.seen("Exits")) > before, "events")  # noqa: B023
            await asyncio.sleep(random.uniform(0, 0.01))  # when is of no importance
            victim = server.children()[0]
            victim.kill()
            await until(lambda: victim.pid not in [one.pid for one in server.children()], "its end")  # noqa: B023
        await until(lambda: set(hub.seen("Exits")) == set(EVENTS), "all events")
        assert in_order(hub.seen("Exits"))
        assert await hub.letters("Exits") == []
