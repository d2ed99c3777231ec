"""Processes are killed, brokers restart: no event is lost, order is kept, ids are stable."""

import asyncio
import collections
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.delivery import DeliveryService
from hub.kafka import Cluster
from tests.brokers import unique
from tests.ports import free_port

from .event_log import create_topic, progress, running, write
from .plugins import SEEN
from .test_delivery import configured
from .waiting import until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

#: A consumer to which the broker does not answer for this time is replaced. It is longer in production.
SILENT_SECONDS = 1.0


@asynccontextmanager
async def process(module: str, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A child running the module; its first line. Killed at the end if it still lives."""
    command = ("-m", "tests.quick_members", f"tests.delivery.{module}", *arguments)
    child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 60)
        yield child, line.decode().strip()
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def lines_of(path: Path) -> list[list[str]]:
    """The complete lines of the file, split at blanks."""
    text = path.read_text() if path.exists() else ""
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


async def test_a_delivery_process_killed_again_and_again_misses_nothing(embedded_bootstrap: str, tmp_path: Path) -> None:
    topic, id, path = unique("events"), unique("killed"), tmp_path / "seen.txt"
    tasks, kills, rounds = 40, 4, 100
    await create_topic(embedded_bootstrap, topic, 2)

    async def produce() -> None:
        for sequence in range(1, rounds + 1):
            records = [progress(f"t{task}", sequence) for task in range(tasks)]
            await write(embedded_bootstrap, topic, records, partition_of=lambda key: int(key[1:]) % 2)
            await asyncio.sleep(0.1)  # spread over the kills

    producing = asyncio.create_task(produce())
    for _ in range(kills):
        async with process("delivery_process", embedded_bootstrap, topic, id, str(path)) as (child, line):
            assert line == "ready"
            before = len(lines_of(path))
            await until(lambda: len(lines_of(path)) > before + 300, "some hundred events", 60)  # noqa: B023
            child.kill()
    await producing
    async with process("delivery_process", embedded_bootstrap, topic, id, str(path)):
        await until(lambda: len({(one[0], one[1]) for one in lines_of(path)}) == tasks * rounds, "every event", 60)

    order: dict[str, list[int]] = collections.defaultdict(list)
    ids: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for task, sequence, source, event_id in lines_of(path):
        order[task].append(int(sequence))
        ids[task, sequence].add(f"{source} {event_id}")
    assert {task: list(dict.fromkeys(seen)) for task, seen in order.items()} == {
        f"t{task}": list(range(1, rounds + 1)) for task in range(tasks)
    }, "first sights are in order"
    for task, seen in order.items():
        steps = [after - before for before, after in zip(seen, seen[1:], strict=False)]
        assert all(step <= 1 for step in steps), f"{task}: a repeat goes back, and from there on nothing is left out: {seen}"
        assert sum(step <= 0 for step in steps) <= kills
    assert all(len(one) == 1 for one in ids.values()), "the same event has the same id at every delivery"


@pytest.mark.parametrize("away_seconds", [0, SILENT_SECONDS / 2, 2 * SILENT_SECONDS])
async def test_a_broker_that_is_killed_and_comes_back_is_found_again(
    tmp_path: Path, away_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.delivery.feed.SILENT_SECONDS", SILENT_SECONDS)
    data, topic = str(tmp_path / "data"), unique("events")
    configs = [configured("Recorder"), configured("Batches")]
    async with process("broker_process", data, str(free_port())) as (first, port):
        bootstrap = f"127.0.0.1:{port}"
        await create_topic(bootstrap, topic)
        service = DeliveryService(Cluster.of(bootstrap), configs, topic=topic)
        await service.start()
        await service.ready()
        await write(bootstrap, topic, [progress("a", n) for n in range(1, 51)])
        await until(lambda: all(len(SEEN[one.id].events) == 50 for one in configs), "the first events")
        first.kill()
        await first.wait()
    try:
        for kill in range(2):
            await asyncio.sleep(away_seconds)  # the fault itself: a broker that is away for so long
            async with process("broker_process", data, port) as (again, _):
                sequences = range(51 + 50 * kill, 101 + 50 * kill)
                await write(bootstrap, topic, [progress("a", n) for n in sequences])
                await until(
                    lambda: all(set(SEEN[one.id].of("a")) >= set(sequences) for one in configs),  # noqa: B023
                    "what was written after the broker came back",
                )
                again.kill()
                await again.wait()
        for config in configs:
            assert list(dict.fromkeys(SEEN[config.id].of("a"))) == list(range(1, 151))
        assert all(one.restarts == 0 for one in service.status())
    finally:
        monkeypatch.setattr("hub.delivery.feed.REQUEST_SECONDS", 0.1)  # no broker answers any more
        await service.stop()


async def test_a_dead_letter_waits_for_the_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.delivery.feed.SILENT_SECONDS", SILENT_SECONDS)
    data, topic, config = (
        str(tmp_path / "data"),
        unique("events"),
        configured("Recorder", delivery={"retry": {"initial": 0.01, "max": 0.05, "timeout": 3}}),
    )
    seen = SEEN[config.id]
    seen.poison = {("a", 2)}
    async with process("broker_process", data, str(free_port())) as (first, port):
        bootstrap = f"127.0.0.1:{port}"
        await create_topic(bootstrap, topic)
        async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
            await write(bootstrap, topic, [progress("a", 1), progress("a", 2), progress("a", 3)])
            await until(lambda: "poison 1" in seen.calls, "the first failure")
            first.kill()
            await first.wait()
            await until(lambda: sum(one.startswith("poison") for one in seen.calls) >= 3, "the next tries")
            async with process("broker_process", data, port):
                await until(lambda: 3 in seen.of("a"), "the event behind it", 60)
                assert service.status()[0].dead_lettered >= 1
            monkeypatch.setattr("hub.delivery.feed.REQUEST_SECONDS", 0.1)  # no broker answers any more
