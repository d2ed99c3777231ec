"""Subscribers in processes of their own: what one does to its process does not reach the others."""

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from hub.client import Hub
from hub.delivery import SubscriberConfig, is_isolated
from tests.e2e.processes import HubProcess, Installation

pytestmark = [pytest.mark.slow]

HERE = "tests.delivery.careless"
CARELESS = ("spins", "exits", "crashes", "eats", "raises", "sleeps")
TASKS = 60
WAIT_SECONDS = 60


class Delivering(Installation):
    """A hub whose delivery process runs the subscribers of a settings file."""

    @property
    def seen(self) -> Path:
        """What the witness has seen."""
        return self.folder / "seen"

    def seen_lines(self) -> list[str]:
        """The lines of that file."""
        return self.seen.read_text().splitlines() if self.seen.exists() else []

    async def subscribers(self, *careless: str, isolation: str = "process") -> HubProcess:
        """Start delivery with the witness and these subscribers."""
        tables = [f'[[subscribers]]\nuse = "{HERE}:Witness"\nid = "witness"\nsettings = {{ path = "{self.seen}" }}\n']
        tables += [f'[[subscribers]]\nuse = "{HERE}:{one}"\nid = "{one}"\n' for one in careless]
        extra = f'start_from = "earliest"\nisolation = "{isolation}"\nmemory_bytes_max = 150000000\n'
        settings = self.folder / "hub.toml"
        settings.write_text("".join(table + extra for table in tables))
        return await self._add("delivery", "delivery", "--bootstrap", self.bootstrap, HUB_CONFIG=str(settings))

    async def submit(self, count: int) -> None:
        """Submit tasks that no worker runs: each has the events task.created and task.ready."""
        async with Hub(self.bootstrap) as client:
            await client.submit_many([{"name": "nobody"}] * count)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another process makes true."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.05)


def is_logged(log: Path, subscriber: str, text: str) -> bool:
    """Whether a line about the subscriber has the text."""
    return any(text in line and line.endswith(subscriber) for line in log.read_text().splitlines())


def descendants(process: HubProcess) -> list[psutil.Process]:
    """The fork server, and the processes of the subscribers after it."""
    return psutil.Process(process.pid).children(recursive=True)


async def test_the_others_get_every_event_in_order_whatever_one_does_to_its_process(tmp_path: Path) -> None:
    async with Delivering(tmp_path) as hub:
        await hub.broker(engine=True)
        delivery = await hub.subscribers(*CARELESS)
        await hub.submit(TASKS)
        await until(lambda: len(hub.seen_lines()) >= 2 * TASKS)
        lines = hub.seen_lines()
        assert len(lines) == len(set(lines)) == 2 * TASKS
        for task in {line.split()[0] for line in lines}:
            assert [line.split()[1] for line in lines if line.startswith(task)] == ["1", "2"]
        log = Path(hub.folder / "delivery.err")
        for one, how in [("exits", "exit code 3"), ("crashes", "SIGSEGV"), ("eats", "memory_bytes_max is 150,000,000")]:
            await until(partial(is_logged, log, one, how))
        assert len(descendants(delivery)) >= 5  # the fork server, the witness, those that do not end their process


async def test_processes_of_subscribers_end_with_the_process_of_delivery(tmp_path: Path) -> None:
    async with Delivering(tmp_path) as hub:
        await hub.broker(engine=True)
        delivery = await hub.subscribers("spins")
        started = descendants(delivery)
        assert len(started) == 3
        await delivery.kill()
        await until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in started))


async def test_without_its_fork_server_delivery_ends_and_says_so(tmp_path: Path) -> None:
    async with Delivering(tmp_path) as hub:
        await hub.broker(engine=True)
        delivery = await hub.subscribers()
        assert delivery.process is not None
        [server] = psutil.Process(delivery.pid).children()
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await delivery.process.wait() == 1
        assert "The fork server of delivery ended" in delivery.errors()


async def test_a_drained_process_has_committed_what_its_subscriber_acknowledged(tmp_path: Path) -> None:
    async with Delivering(tmp_path) as hub:
        await hub.broker(engine=True)
        delivery = await hub.subscribers()
        await hub.submit(3)
        await until(lambda: len(hub.seen_lines()) == 6)
        assert await delivery.stop() == 0
        await delivery.start()
        await hub.submit(1)
        await until(lambda: len(hub.seen_lines()) >= 8)
        lines = hub.seen_lines()
        assert len(lines) == len(set(lines)) == 8


async def test_a_killed_process_is_started_again_and_loses_nothing(tmp_path: Path) -> None:
    async with Delivering(tmp_path) as hub:
        await hub.broker(engine=True)
        delivery = await hub.subscribers()
        [victim] = psutil.Process(delivery.pid).children()[0].children()
        await hub.submit(5)
        victim.kill()
        await hub.submit(5)
        await until(lambda: len(set(hub.seen_lines())) == 20)
        assert any("SIGKILL" in line for line in delivery.errors().splitlines())


async def test_an_invalid_setting_keeps_delivery_from_starting_and_is_named(tmp_path: Path) -> None:
    async with Delivering(tmp_path) as hub:
        await hub.broker(engine=True)
        settings = tmp_path / "hub.toml"
        settings.write_text(f'[[subscribers]]\nuse = "{HERE}:Witness"\nid = "w"\nsettings = {{ file = "x" }}\n')
        process = HubProcess("bad", ["delivery", "--bootstrap", hub.bootstrap], tmp_path, {"HUB_CONFIG": str(settings)})
        await process.start(ready=False)
        assert process.process is not None
        assert await process.process.wait() == 2
        assert "subscribers[w].settings.path" in process.errors()


@pytest.mark.parametrize(
    ("use", "isolation", "isolated"),
    [
        ("console", None, False),
        ("subscribers.console:Console", None, False),
        ("console", "process", True),
        (f"{HERE}:spins", None, True),
        (f"{HERE}:spins", "thread", False),
        ("not-installed", None, True),
    ],
)
def test_built_in_subscribers_share_a_process_and_others_have_their_own(use: str, isolation: str | None, isolated: bool) -> None:
    config = SubscriberConfig.model_validate({"use": use, "isolation": isolation})
    assert is_isolated(config) is isolated
